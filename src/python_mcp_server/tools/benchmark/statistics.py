"""Statistics of several runs: spread, outliers, intervals, one run over time, and what disturbed them.

Run times are skewed and have outliers, so means and t-intervals mislead. The interval of a median
goes by ranks (sign test), that of a ratio by the ranks of the rounds' ratios (Wilcoxon's signed
rank test on logarithms): both hold for few runs too, and neither draws random numbers.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import psutil

from python_mcp_server.tools.benchmark.measured_run import Run
from python_mcp_server.tools.results import Noise, OutlyingRun, SpreadOfRuns

CONFIDENCE: Final = 0.95
_Z: Final = 1.959964
"""Of the normal distribution, for that confidence."""
_EXACT_RUNS: Final = 50
"""Up to so many runs the signed rank distribution is counted; beyond, the normal one is as good."""
_FENCE: Final = 1.5
_OUTER_FENCE: Final = 3.0
"""Tukey's fences, in quartile distances."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of a value, with this confidence; below 0.95 where there are too few runs for more."""

    low: float
    high: float
    confidence: float


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles of at least one value, linear between neighbours."""
    lower, middle, upper = statistics.quantiles(
        values if len(values) > 1 else [*values] * 2, method="inclusive"
    )
    return lower, middle, upper


def outliers(values: Sequence[float], digits: int = 6) -> list[OutlyingRun]:
    """Return the values outside Tukey's fences, in their own order, with so many digits after the point."""
    lower, middle, upper = quartiles(values)

    def outside(value: float, fences: float) -> bool:
        return not lower - fences * (upper - lower) <= value <= upper + fences * (upper - lower)

    return [
        OutlyingRun(
            run=number,
            seconds=round(value, digits),
            kind="slow" if value > middle else "fast",
            far=outside(value, _OUTER_FENCE),
        )
        for number, value in enumerate(values, 1)
        if outside(value, _FENCE)
    ]


def interval_of_median(values: Sequence[float]) -> Interval | None:
    """Return where the median lies; None for a single value, which has no interval."""
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


def spread(values: Sequence[float], digits: int = 6) -> SpreadOfRuns:
    """Return how at least one value is spread, with so many digits after the point."""
    lower, middle, upper = quartiles(values)
    found = SpreadOfRuns(
        min=round(min(values), digits),
        q1=round(lower, digits),
        median=round(middle, digits),
        q3=round(upper, digits),
        max=round(max(values), digits),
        mean=round(statistics.fmean(values), digits),
        stddev=round(statistics.stdev(values), digits) if len(values) > 1 else 0.0,
    )
    if (interval := interval_of_median(values)) is not None:
        found["median_low"], found["median_high"] = round(interval.low, digits), round(interval.high, digits)
        found["confidence"] = round(interval.confidence, 3)
    return found


def ratio_of_pairs(above: Sequence[float], below: Sequence[float]) -> float:
    """Return how much larger `above` is, round by round: the Hodges-Lehmann estimate of the ratio."""
    return math.exp(statistics.median(_averages(above, below)))


def interval_of_ratio(above: Sequence[float], below: Sequence[float]) -> Interval | None:
    """Return where the ratio of two positive quantities lies that were measured in rounds.

    Args:
        above: One value a round.
        below: The other's value of the same rounds.
    """
    count = min(len(above), len(below))
    if count < 2:  # noqa: PLR2004
        return None
    ordered = sorted(_averages(above, below))
    cut, confidence = _signed_rank_cut(count)
    return Interval(math.exp(ordered[cut]), math.exp(ordered[-1 - cut]), confidence)


def _averages(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the means of all pairs of the rounds' log ratios, each with itself too."""
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
    """CPU seconds of all cores so far; `own_s` are those of this process and its reaped children."""

    at_s: float
    busy_s: float
    stolen_s: float
    own_s: float
    load: float | None

    @classmethod
    def now(cls) -> Self:
        """Read the counters."""
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
    """Return what disturbed these runs between two readings of the machine."""
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
    if waited and (share := statistics.median(waited)) > _WAITED_SHARE:
        reasons.append(f"the script waited {100 * share:.0f} % of its time for a free core")
    lower, middle, upper = quartiles([run.wall_s for run in runs])
    share = (upper - lower) / middle if middle else 0.0
    if len(runs) >= _FEW_RUNS and share > _SPREAD_SHARE:
        reasons.append(f"the middle half of the runs is spread over {100 * share:.0f} % of the median")
    return reasons


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Usage of a run within one of the equal steps of its time.

    Attributes:
        at_s: The end of the step, in seconds since the start of the run.
        rss_bytes: The largest sampled memory of the step.
        cpu_percent: The CPU time of the step, as a share of one core.
    """

    at_s: float
    rss_bytes: int
    cpu_percent: float


def typical(runs: Sequence[Run]) -> Run:
    """Return the run whose wall time is nearest to the median."""
    middle = statistics.median([run.wall_s for run in runs])
    return min(runs, key=lambda run: abs(run.wall_s - middle))


def timeline(run: Run, most: int) -> list[TimelineStep]:
    """Return a run in equal steps: at most `most`, and no more than there are samples."""
    samples = [sample for sample in run.samples if sample.at_s < run.wall_s]
    count = max(1, min(most, len(samples)))
    ends = [run.wall_s * step / count for step in range(count + 1)]
    used = [(sample.at_s, min(sample.cpu_s, run.cpu_s)) for sample in samples]
    used = [(0.0, 0.0), *used, (run.wall_s, run.cpu_s)]
    steps: list[TimelineStep] = []
    rss = samples[0].rss_bytes if samples else run.peak_bytes
    for begin, end in pairwise(ends):
        within = [sample.rss_bytes for sample in samples if begin <= sample.at_s < end]
        rss = max(within, default=rss)  # a step without a sample keeps the memory of the step before
        cpu_s = _at(used, end) - _at(used, begin)
        steps.append(TimelineStep(end, rss, 100 * max(0.0, cpu_s) / (end - begin) if end > begin else 0.0))
    return steps


def _at(points: Sequence[tuple[float, float]], at: float) -> float:
    """Return the value at `at` of the line through these points."""
    for (left, low), (right, high) in pairwise(points):
        if left <= at <= right:
            return low + (high - low) * (at - left) / (right - left) if right > left else high
    return points[-1][1]
