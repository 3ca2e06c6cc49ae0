"""What this process may use of the machine: its cores, the memory that is free.

In a container that is less than the machine has. Reading costs some file reads: off the event loop.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from python_mcp_server.processes.cgroups import entry_in, folder_of, number_in

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


class Memory(NamedTuple):
    """Memory in bytes: what can be had without swapping, and all of it."""

    available: int
    total: int


def usable_cpus() -> list[int] | None:
    """Return the numbers of the cores this process may run on; None where the system binds none."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    if psutil.WINDOWS:
        return sorted(psutil.Process().cpu_affinity() or ())
    return None


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


def memory() -> Memory:
    """Return the memory of the machine, or of the container where that has less."""
    machine = psutil.virtual_memory()
    whole = Memory(machine.available, machine.total)
    folder = folder_of("memory")
    group = None if folder is None else _group_memory(folder)
    return whole if group is None else min(whole, group)


def _group_memory(folder: Path) -> Memory | None:
    limit = number_in(folder, "memory.max") or number_in(folder, "memory.limit_in_bytes")
    used = number_in(folder, "memory.current") or number_in(folder, "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    idle = entry_in(folder, "memory.stat", "inactive_file") or 0  # the cache goes when somebody needs room
    return Memory(max(0, limit - used + idle), limit)
