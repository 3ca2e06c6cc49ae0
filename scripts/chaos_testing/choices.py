"""Random choices that a seed repeats. Each actor has a generator of its own."""

from __future__ import annotations

import random
from typing import Any


def seeded_random(seed: int, name: str) -> random.Random:
    """Return the random generator of the actor of this name."""
    return random.Random(f"{seed}/{name}")  # noqa: S311  chances, not secrets


def choose_kind(rng: random.Random, weights: dict[str, int]) -> tuple[str, int]:
    """Return a kind of job, and the value that its answer is made from."""
    return rng.choices(list(weights), list(weights.values()))[0], rng.randrange(1_000_000)


def choose_prune(rng: random.Random) -> dict[str, Any]:
    """Return `age_s`, `keep_completed` and `keep_failed` of a prune.

    Jobs need to have ended only seconds ago, and completed ones are seldom removed, so that a loss shows.
    """
    return {
        "age_s": rng.choice([0.5, 2.0, 5.0]),
        "keep_completed": rng.random() < 0.97,  # noqa: PLR2004  three in a hundred
        "keep_failed": rng.random() < 0.7,  # noqa: PLR2004  three in ten
    }
