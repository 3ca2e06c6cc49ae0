"""The cores of the machine that this process may use: in a container fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from python_mcp_server.processes.cgroups import folder_of, number_in

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
"""How many threads the numerical libraries start; each counts the whole machine where it is unset."""


def usable_cpus() -> list[int] | None:
    """Return the numbers of the cores this process may run on; None where the system binds none."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    from python_mcp_server.processes import elsewhere

    return elsewhere.usable_cpus()


def usable_cores() -> int:
    """Return how many cores this process can keep busy: by its binding, and by its container's share."""
    cpus = usable_cpus()
    cores = len(cpus) if cpus else (os.cpu_count() or 1)
    share = _cpu_share()
    return cores if share is None else max(1, min(cores, math.ceil(share)))


def _cpu_share() -> float | None:
    folder = folder_of("cpu")
    if folder is None:
        return None
    if (quota := number_in(folder, "cpu.cfs_quota_us")) is not None:
        period = number_in(folder, "cpu.cfs_period_us")
        return quota / period if quota > 0 and period else None
    return _share_of_version_2(folder)


def _share_of_version_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
