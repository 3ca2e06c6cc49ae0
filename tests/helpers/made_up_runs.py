"""Runs of a benchmark that nobody ran."""

from __future__ import annotations

from collections.abc import Sequence

from python_mcp_server.runner.child import ChildExit
from python_mcp_server.tools.benchmark.measured_run import Run, UsageSample


def run_of(wall_s: float, *, exit_code: int = 0, timed_out: bool = False, waited_s: float = 0.0) -> Run:
    ending = ChildExit(exit_code, wall_s, timed_out=timed_out)
    samples = tuple(UsageSample(wall_s * n / 10, n * 1_000_000, 0.5 * wall_s * n / 10, 1) for n in range(10))
    return Run(ending, wall_s / 2, 0.0, 10_000_000, samples, {"waited_ns": waited_s * 1e9}, accounted=True)


def runs_of(walls: Sequence[float]) -> list[Run]:
    return [run_of(wall) for wall in walls]
