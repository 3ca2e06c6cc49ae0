"""The heartbeats of a row, which reach the process that started it."""

from __future__ import annotations

import os
from typing import Final

HEARTBEAT_VARIABLE: Final = "BENCH_HEARTBEATS"
"""Holds the descriptor that heartbeats are written to."""


def heartbeat() -> None:
    """Say that the row has made progress; outside of `benchmarks.row_process` this does nothing.

    Raises:
        BrokenPipeError: The process that started the row has ended, so the row is to end too.
    """
    descriptor = os.environ.get(HEARTBEAT_VARIABLE)
    if descriptor is not None:
        os.write(int(descriptor), b".")
