"""A row's signs of life, which reach the process that runs the row."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "BENCH_SIGNS_OF_LIFE"
"""Holds the descriptor that signs of life are written to."""


def alive() -> None:
    """Say that the row has come a step further; outside of `benchmarks.apart` this does nothing.

    Raises:
        BrokenPipeError: The process that runs the row has ended, so the row is to end too.
    """
    descriptor = os.environ.get(VARIABLE)
    if descriptor is not None:
        os.write(int(descriptor), b".")
