"""The growth of a series of samples, and whether it is flat.

The slope is the median of the slopes of all pairs of samples (Theil-Sen), so single high samples count
little. Its interval goes by the ranks of these slopes (Sen 1968).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

_Z: Final = 1.959964
"""Of the normal distribution, for a confidence of 95 %."""

_ALLOWED: Final = 1e-4
"""The part of a value by which it may grow per minute or 10,000 calls. Guessed: 14 % a day."""

_WARM_UP: Final = 0.1
"""The part of a run at its start that does not count, because caches and pools still fill."""

Series = Sequence[tuple[float, float]]
"""Samples: when (in minutes or 10,000 calls) and what."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope with its interval, in the unit of the samples per unit of time.

    Attributes:
        slope: The estimate.
        low: The lower end of its 95 % interval.
        high: The upper end.
        allowed: The most that `low` may be.
    """

    slope: float
    low: float
    high: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether the growth may be as small as what is allowed."""
        return self.low <= self.allowed


def trend(samples: Series) -> Trend:
    """Return the trend of samples after the warm-up.

    Raises:
        ValueError: There are fewer than four samples after the warm-up.
    """
    end = samples[-1][0] if samples else 0.0
    warm = [sample for sample in samples if sample[0] >= _WARM_UP * end]
    count = len(warm)
    if count < 4:  # noqa: PLR2004  fewer have no interval
        raise ValueError(f"{count} samples after the warm-up are too few; four are needed: run it for longer")
    slopes = sorted((late - early) / (end - start) for (start, early), (end, late) in combinations(warm, 2))
    spread = _Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2) - 1)
    return Trend(median(slopes), slopes[low], slopes[-1 - low], _ALLOWED * abs(warm[0][1]))


def report(series: Mapping[str, Series], unit: str) -> tuple[str, bool]:
    """Return a table of the growth of each series, and whether all are flat."""
    trends = {name: trend(samples) for name, samples in series.items()}
    lines = [f"{'growth per ' + unit:28}{'slope':>10}{'95 % interval':>24}"]
    for name, each in trends.items():
        interval = f"{each.low:.3f} to {each.high:.3f}"
        lines.append(f"{name:28}{each.slope:>10.3f}{interval:>24}  {'flat' if each.flat else 'GROWS'}")
    return "\n".join(lines), all(each.flat for each in trends.values())
