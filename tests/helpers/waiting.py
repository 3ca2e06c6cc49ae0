"""Wait for what another process or thread does, where no event can be had."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, deadline_s: float = 30.0) -> T:
    """Return the first true value that `look` returns; fail after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (value := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s} s: {look!r} still returns {value!r}")
        time.sleep(0.01)
    return value
