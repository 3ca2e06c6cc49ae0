"""The memory of the machine that is free. In a container that is less than the machine has.

Reading costs some file reads: off the event loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

from python_mcp_server.processes.cgroups import entry_in, folder_of, number_in


class Memory(NamedTuple):
    """Memory in bytes: what can be had without swapping, and all of it."""

    available: int
    total: int


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
