"""The memory and the CPU time of a tree, read so cheaply that it can be done a hundred times a second.

On Linux a process costs 0.1 ms: who belongs to the tree is read from the lists of children, and memory is
what counts against a limit: its own and shared memory, and what of it was swapped out, but no pages of
files, which the kernel takes back when it needs them. Elsewhere psutil tells, at some ms a look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from python_mcp_server.processes.identity import GONE, LINUX

_OWN_MEMORY: Final = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_SHARED_FAIRLY: Final = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
_SURELY_OWN: Final = (b"Private_Dirty:",)
_READ_BYTES: Final = 1 << 16
_TICKS_S: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_FIRST_TIME: Final = 11
"""Of user, system, and the same of children that were waited for, behind the name in /proc/<pid>/stat."""


class TreeUsage(NamedTuple):
    """One look at a tree.

    Attributes:
        memory_bytes: Of all its processes together.
        cpu_s: User and system time of those that live, and of those they have waited for.
        processes: How many live.
    """

    memory_bytes: int
    cpu_s: float
    processes: int


def measure(roots: Callable[[], Iterable[int]], limit_bytes: int | None) -> TreeUsage:
    """Look at the processes of these roots and whatever is below them.

    Args:
        roots: Asked for the pids of the roots, at each look.
        limit_bytes: Where the sum is above this, pages that several processes share are counted once:
            that costs so much that it is not done otherwise. None for no such look.
    """
    if not LINUX:
        from python_mcp_server.processes import portable

        return TreeUsage(*portable.measure(roots()))
    pids = family(roots())
    sizes = {pid: _sum_of(f"/proc/{pid}/status", _OWN_MEMORY) for pid in pids}
    total = sum(sizes.values())
    if limit_bytes is not None and total > limit_bytes and len(pids) > 1:
        total = min(total, _with_shared_once(sizes, limit_bytes))
    return TreeUsage(total, sum(_cpu_seconds(pid) for pid in pids), len(pids))


def _with_shared_once(sizes: dict[int, int], limit_bytes: int) -> int:
    """Return the memory of these processes with shared pages counted once, or what is surely less than
    that, where it is above the limit already: walking the pages of a large process takes 0.1 s."""
    largest = max(sizes, key=lambda pid: sizes[pid])
    least = sizes[largest]
    if least <= limit_bytes:
        least += sum(_sum_of(f"/proc/{pid}/smaps_rollup", _SURELY_OWN) for pid in sizes if pid != largest)
    return least if least > limit_bytes else sum(_fair_share(pid) for pid in sizes)


def family(roots: Iterable[int]) -> list[int]:
    """Return these processes and all below them, each once; on Linux only."""
    found = dict.fromkeys(roots)
    queue = list(found)
    for pid in queue:  # grows while it is walked
        fresh = [child for child in children_of(pid) if child not in found]
        found.update(dict.fromkeys(fresh))
        queue += fresh
    return queue


def children_of(pid: int) -> list[int]:
    """Return the children of a process in 50 us, where psutil scans all processes; on Linux only."""
    pids: list[bytes] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += _read(f"/proc/{pid}/task/{thread}/children").split()
    except GONE:
        return []
    return [int(child) for child in pids]


def _fair_share(pid: int) -> int:
    share = _sum_of(f"/proc/{pid}/smaps_rollup", _SHARED_FAIRLY)
    return share or _sum_of(f"/proc/{pid}/status", _OWN_MEMORY)


def _sum_of(path: str, names: tuple[bytes, ...]) -> int:
    """Return the sum of these lines of kB, in bytes; 0 for a process that is gone."""
    try:
        lines = _read(path).splitlines()
    except GONE:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(names))


def _cpu_seconds(pid: int) -> float:
    try:
        facts = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except GONE:
        return 0.0
    return sum(map(int, facts[_FIRST_TIME : _FIRST_TIME + 4])) / _TICKS_S


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = piece = os.read(descriptor, _READ_BYTES)
        while piece:  # the kernel gives a list of many children page by page
            piece = os.read(descriptor, _READ_BYTES)
            data += piece
        return data
    finally:
        os.close(descriptor)
