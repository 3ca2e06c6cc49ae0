"""What a prune asks for: jobs that ended seconds ago, and completed ones seldom, so that a loss shows."""

from __future__ import annotations

import random
from typing import Any


def prune_options(dice: random.Random) -> dict[str, Any]:
    """Return `age_s`, `keep_completed` and `keep_failed` of a prune."""
    return {
        "age_s": dice.choice([0.5, 2.0, 5.0]),
        "keep_completed": dice.random() < 0.97,  # noqa: PLR2004  three in a hundred
        "keep_failed": dice.random() < 0.7,  # noqa: PLR2004  three in ten
    }
