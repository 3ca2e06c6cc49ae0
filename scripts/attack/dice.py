"""Chances that a seed repeats: each actor throws dice of its own, so that none disturbs another's."""

from __future__ import annotations

import random


def dice(seed: int, name: str) -> random.Random:
    """Return the dice of the actor of this name."""
    return random.Random(f"{seed}/{name}")  # noqa: S311  chances, not secrets
