"""Whether the machine let a benchmark be one: what others used, what the script had to wait for."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import psutil

from python_mcp_server.runner.benchmark import Run
from python_mcp_server.tools.benchmark_results import Noise
from python_mcp_server.tools.benchmark_statistics import median, spread

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


def judge(before: Machine, after: Machine, runs: Sequence[Run]) -> Noise:
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
