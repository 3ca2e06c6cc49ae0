"""What the control groups of a container allow this process, where there are any (Linux).

The cores of the machine that this process may use: in a container fewer than the machine has.

The memory of the machine that is free. In a container that is less than the machine has.

Reading costs some file reads: off the event loop.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from python_mcp_server.processes.identity import LINUX

_ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


def folder_of(controller: str, root: Path = _ROOT, listing: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return where the files of a controller lie for this process: its own group's, or in a container
    the root of what can be seen. None where there is none."""
    if not LINUX:
        return None
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        number, names, path = line.split(":", 2)
        unified = number == "0"
        if not unified and controller not in names.split(","):
            continue
        base = root if unified else root / controller
        marker = "cgroup.controllers" if unified else "tasks"
        inside = base.joinpath(*PurePosixPath(path).parts[1:])
        found = next((folder for folder in (inside, base) if (folder / marker).is_file()), None)
        if found is not None:
            return found
    return None


def number_in(folder: Path, name: str) -> int | None:
    """Return the number in a file of a group; None where there is no such file, or no limit."""
    try:
        word = (folder / name).read_text(encoding="ascii").split()[0]
        number = int(word)
    except (OSError, ValueError, IndexError):
        return None
    return number if number < _UNLIMITED else None


def entry_in(folder: Path, name: str, key: str) -> int | None:
    """Return the number behind a key in a file of `key number` lines; None where there is none."""
    try:
        lines = (folder / name).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), None)


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
    from python_mcp_server.processes import portable

    return portable.usable_cpus()


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


class Memory(NamedTuple):
    """Memory in bytes: what can be had without swapping, and all of it."""

    available: int
    total: int


def memory() -> Memory:
    """Return the memory of the machine, or of the container where that has less."""
    import psutil

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
