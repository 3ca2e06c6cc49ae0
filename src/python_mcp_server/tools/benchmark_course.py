"""One run over time: what the sampler saw, in equal steps, ended by what the kernel says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from python_mcp_server.runner.benchmark import Run
from python_mcp_server.tools.benchmark_statistics import median


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


def course(run: Run, most: int) -> list[Moment]:
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
