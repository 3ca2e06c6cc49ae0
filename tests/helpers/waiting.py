"""Wait for another process or thread by polling, where there is no event to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.05  # a look may read many records: a long wait must not take the CPU from others


def eventually(look: Callable[[], T | None], *, deadline_s: float = 30.0) -> T:
    """Return the first true value that `look` returns; fail after the deadline."""
    deadline, pause_s = time.monotonic() + deadline_s, _FIRST_PAUSE_S
    while not (value := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s} s: {look!r} still returns {value!r}")
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, _LONGEST_PAUSE_S)
    return value
