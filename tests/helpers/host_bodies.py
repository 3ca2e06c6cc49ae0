"""Bodies of jobs whose programs do odd things."""

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
    """Return when the file `gate` is there."""
    _begin(folder)
    eventually(Path(folder, "gate").exists, deadline_s=LIFETIME_S)
    note(f"{folder}/starts", "ended")
    return "done"


def wait_in_c(folder: str) -> None:
    """Stay in one step of the main thread, where no handler of a signal runs."""
    _begin(folder)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


def swallow_every_cancel(folder: str) -> None:
    """Take a cancel for nothing."""
    _begin(folder)
    ends_at = time.monotonic() + LIFETIME_S
    while time.monotonic() < ends_at:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001  what it is for
            continue
