"""Bodies of jobs whose programs fork, exit or lose their home."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from tests.helpers.bodies import LIFETIME_S, note
from tests.helpers.waiting import eventually


def sleep_and_return(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def _begin(folder: str) -> None:
    Path(folder, "pid.new").write_text(str(os.getpid()))
    Path(folder, "pid.new").rename(Path(folder, "pid"))
    note(f"{folder}/starts", "started")


def wait_for_gate(folder: str) -> str:
    """Return once the file `gate` exists."""
    _begin(folder)
    eventually(Path(folder, "gate").exists, deadline_s=LIFETIME_S)
    note(f"{folder}/starts", "ended")
    return "done"


def wait_in_c(folder: str) -> None:
    """Block the main thread in one C call, where no signal handler runs."""
    _begin(folder)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


def swallow_every_cancel(folder: str) -> None:
    """Swallow every cancel."""
    _begin(folder)
    ends_at = time.monotonic() + LIFETIME_S
    while time.monotonic() < ends_at:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001  what it is for
            continue
