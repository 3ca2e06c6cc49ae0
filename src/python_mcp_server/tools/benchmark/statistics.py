"""What several runs say together: spread, outliers, and intervals that need no assumed distribution.

Run times are skewed and have outliers, so means and t-intervals mislead. The interval of a median
goes by ranks (sign test), that of a ratio by the ranks of what each turn says (Wilcoxon's signed
rank test on logarithms): both hold for few runs too, and neither draws random numbers.


Whether the machine let a benchmark be one: what others used, what the script had to wait for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import psutil

from python_mcp_server.tools.benchmark.process import Run
from python_mcp_server.tools.benchmark.results import Noise

CONFIDENCE: Final = 0.95
_Z: Final = 1.959964
"""Of the normal distribution, for that confidence."""
_EXACT_RUNS: Final = 50
"""Up to so many runs the signed rank distribution is counted; beyond, the normal one is as good."""
_FENCE: Final = 1.5
_FAR_FENCE: Final = 3.0
"""Tukey's fences, in quartile distances."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies, with this confidence; below 0.95 where there are too few runs for more."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread. `stddev` is that of a sample, 0 for a single value."""

    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float
    mean: float
    stddev: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A value outside Tukey's fences.

    Attributes:
        place: Where it stands among the values, from 0.
        value: The value.
        far: Whether it is outside the outer fence.
    """

    place: int
    value: float
    far: bool


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, linear between neighbours."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return quantile(sorted(values), 0.5)


def spread(values: Sequence[float]) -> Spread:
    """Return how at least one value is spread."""
    ordered = sorted(values)
    mean = math.fsum(ordered) / len(ordered)
    squares = math.fsum((value - mean) ** 2 for value in ordered)
    stddev = math.sqrt(squares / (len(ordered) - 1)) if len(ordered) > 1 else 0.0
    lower, middle, upper = (quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Spread(ordered[0], lower, middle, upper, ordered[-1], mean, stddev)


def outliers(values: Sequence[float]) -> list[Outlier]:
    """Return the values outside Tukey's fences, in their own order."""
    ordered = sorted(values)
    lower, upper = quantile(ordered, 0.25), quantile(ordered, 0.75)
    distance = upper - lower

    def outside(value: float, fences: float) -> bool:
        return not lower - fences * distance <= value <= upper + fences * distance

    return [
        Outlier(place, value, outside(value, _FAR_FENCE))
        for place, value in enumerate(values)
        if outside(value, _FENCE)
    ]


def interval_of_median(values: Sequence[float]) -> Interval | None:
    """Return where the median lies; None for a single value, which says nothing of it."""
    count = len(values)
    if count < 2:  # noqa: PLR2004
        return None
    ordered = sorted(values)
    cut, tail = 0, 0.5**count
    while True:
        further = tail + math.comb(count, cut + 1) * 0.5**count
        if 2 * further > 1 - CONFIDENCE:
            break
        cut, tail = cut + 1, further
    return Interval(ordered[cut], ordered[-1 - cut], min(CONFIDENCE, 1 - 2 * tail))


def ratio_of_pairs(above: Sequence[float], below: Sequence[float]) -> float:
    """Return how much larger `above` is, turn by turn: the Hodges-Lehmann estimate of the ratio."""
    return math.exp(median(_averages(above, below)))


def interval_of_ratio(above: Sequence[float], below: Sequence[float]) -> Interval | None:
    """Return where the ratio of two positive quantities lies that were measured in turns.

    Args:
        above: One value a turn.
        below: The other's value of the same turns.
    """
    count = min(len(above), len(below))
    if count < 2:  # noqa: PLR2004
        return None
    ordered = sorted(_averages(above, below))
    cut, confidence = _signed_rank_cut(count)
    return Interval(math.exp(ordered[cut]), math.exp(ordered[-1 - cut]), confidence)


def _averages(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the means of all pairs of the turns' log ratios, each with itself too."""
    logs = [math.log(a / b) for a, b in zip(above, below, strict=False)]
    return [(one + other) / 2 for place, one in enumerate(logs) for other in logs[place:]]


def _signed_rank_cut(count: int) -> tuple[int, float]:
    """Return how many averages to leave out at each end, and the confidence that this gives."""
    if count > _EXACT_RUNS:
        mean = count * (count + 1) / 4
        deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return max(0, math.floor(mean - _Z * deviation)), CONFIDENCE
    ways = [1]  # how many of the 2^count signs give each sum of ranks
    for rank in range(1, count + 1):
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0)
            for total in range(len(ways) + rank)
        ]
    cut, tail = 0, ways[0]
    while 2 * (tail + ways[cut + 1]) <= (1 - CONFIDENCE) * 2**count:
        cut += 1
        tail += ways[cut]
    return cut, min(CONFIDENCE, 1 - 2 * tail / 2**count)


_OTHERS_SHARE: Final = 0.1
_STOLEN_SHARE: Final = 0.02
_WAITED_SHARE: Final = 0.03
_SPREAD_SHARE: Final = 0.05
"""From which shares on a machine counts as noisy; guessed, from what moved medians by a per cent."""
_FEW_RUNS: Final = 4


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine has done so far, in CPU seconds of all cores; `own_s` is this process and what
    it has waited for."""

    at_s: float
    busy_s: float
    stolen_s: float
    own_s: float
    load: float | None

    @classmethod
    def now(cls) -> Self:
        """Read it."""
        times = psutil.cpu_times()
        names = ("user", "nice", "system", "irq", "softirq")
        return cls(
            time.monotonic(),
            sum(getattr(times, name, 0.0) for name in names),
            getattr(times, "steal", 0.0),
            sum(os.times()[:4]),
            os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        )


def assess_noise(before: Machine, after: Machine, runs: Sequence[Run]) -> Noise:
    """Return what disturbed these runs between two moments."""
    cores = psutil.cpu_count() or 1
    capacity_s = max(1e-9, cores * (after.at_s - before.at_s))
    others_s = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    others = min(1.0, max(0.0, others_s / capacity_s))
    stolen = (after.stolen_s - before.stolen_s) / capacity_s
    noise = Noise(
        noisy=False,
        reasons=[*_of_machine(others, stolen, cores), *_of_runs(runs)],
        other_cpu_percent=round(100 * others, 1),
        cores=cores,
    )
    noise["noisy"] = bool(noise["reasons"])
    if before.load is not None:
        noise["load_average"] = round(before.load, 2)
    return noise


def _of_machine(others: float, stolen: float, cores: int) -> list[str]:
    reasons: list[str] = []
    if others > _OTHERS_SHARE:
        reasons.append(f"other processes used {100 * others:.0f} % of the CPU time of the {cores} cores")
    if stolen > _STOLEN_SHARE:
        reasons.append(f"other virtual machines took {100 * stolen:.0f} % of the CPU time")
    return reasons


def _of_runs(runs: Sequence[Run]) -> list[str]:
    reasons: list[str] = []
    waited = [
        run.figures["waited_ns"] / 1e9 / run.wall_s
        for run in runs
        if "waited_ns" in run.figures and run.wall_s
    ]
    if waited and (share := median(waited)) > _WAITED_SHARE:
        reasons.append(f"the script waited {100 * share:.0f} % of its time for a free core")
    walls = spread([run.wall_s for run in runs])
    share = (walls.upper_quartile - walls.lower_quartile) / walls.median if walls.median else 0.0
    if len(runs) >= _FEW_RUNS and share > _SPREAD_SHARE:
        reasons.append(f"the middle half of the runs is spread over {100 * share:.0f} % of the median")
    return reasons


@dataclass(frozen=True, slots=True)
class Moment:
    """The end of one step.

    Attributes:
        at_s: Seconds since the start of the run.
        rss_bytes: The most memory that was seen within the step.
        cpu_percent: CPU time used within the step, as a share of it on one core.
    """

    at_s: float
    rss_bytes: int
    cpu_percent: float


def typical(runs: Sequence[Run]) -> Run:
    """Return the run whose wall time is nearest to the median."""
    middle = median([run.wall_s for run in runs])
    return min(runs, key=lambda run: abs(run.wall_s - middle))


def timeline(run: Run, most: int) -> list[Moment]:
    """Return a run in equal steps: at most so many, and no more than there were looks."""
    looks = [look for look in run.looks if look.at_s < run.wall_s]
    steps = max(1, min(most, len(looks)))
    ends = [run.wall_s * step / steps for step in range(steps + 1)]
    used = [(0.0, 0.0), *((look.at_s, min(look.cpu_s, run.cpu_s)) for look in looks), (run.wall_s, run.cpu_s)]
    moments: list[Moment] = []
    rss = looks[0].rss_bytes if looks else run.peak_bytes
    for begin, end in pairwise(ends):
        within = [look.rss_bytes for look in looks if begin <= look.at_s < end]
        rss = max(within, default=rss)  # nobody looked in this step: it is as it was
        cpu_s = _at(used, end) - _at(used, begin)
        moments.append(Moment(end, rss, 100 * max(0.0, cpu_s) / (end - begin) if end > begin else 0.0))
    return moments


def _at(points: Sequence[tuple[float, float]], at: float) -> float:
    """Return the value of a line through these points."""
    for (left, low), (right, high) in pairwise(points):
        if left <= at <= right:
            return low + (high - low) * (at - left) / (right - left) if right > left else high
    return points[-1][1]
