"""The numbers that the command lines of the scripts take; without an installed package, for their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def positive(text: str) -> float:
    """Return a number above 0.

    Raises:
        argparse.ArgumentTypeError: The text is not one.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def count_from(least: int) -> Callable[[str], int]:
    """Return the type of a whole number that is not below `least`; it raises as `positive` does."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return count
