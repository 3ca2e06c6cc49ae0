"""Memory and CPU time of processes: the one reader, used by limits, the usage sampler and the benchmark.

On Linux it reads /proc, in 0.1 ms for a process; elsewhere `processes.portable` asks psutil. This module
imports only the standard library at its top, because `tools/benchmark/sampler.py` is a program that loads it
by its path and runs without the package.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

LINUX: Final = sys.platform == "linux"
GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Raised by a read of a process that has ended, or that belongs to another user."""
_OWN: Final = ((b"RssAnon:", b"VmSwap:"), (b"RssShmem:",))
_SHARED_FAIRLY: Final = ((b"Pss_Anon:", b"SwapPss:"), (b"Pss_Shmem:",))
_SURELY_OWN: Final = (b"Private_Dirty:",)
_READ_BYTES: Final = 1 << 16
_TICKS_S: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PARENT: Final = 1
_FIRST_TIME: Final = 11
"""Of user, system, and the same of children that were waited for, behind the name in /proc/<pid>/stat."""
_START: Final = 19


class TreeUsage(NamedTuple):
    """Usage of the processes of a tree.

    Attributes:
        memory_bytes: Of all of them together.
        cpu_s: User and system time of the living processes, and of the children that they have waited for.
        processes: How many live.
    """

    memory_bytes: int
    cpu_s: float
    processes: int


def resident_usage(pids: Iterable[int]) -> TreeUsage:
    """Return the resident memory and the CPU time of these processes; one that is gone counts as nothing."""
    sizes = {pid: rss_bytes(pid) for pid in pids}
    living = [pid for pid, size in sizes.items() if size]
    return TreeUsage(sum(sizes.values()), sum(map(_cpu_seconds, living)), len(living))


class _Memory(NamedTuple):
    """Memory of a process, apart by whether a file may hold it too."""

    own: int
    in_files: int


class _Facts(NamedTuple):
    """What /proc/<pid>/stat tells; `start` makes the pid unique."""

    parent: int
    start: int
    cpu_s: float


class AutoReaped:
    """The CPU time of processes that end while their parent ignores SIGCHLD. The kernel reaps them and adds
    their time to no other process, so what the last look saw of them is all that is known.

    Attributes:
        cpu_s: The CPU seconds so far.
        expected: Whether there may be such processes, so that looks should come soon.
    """

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.expected = False
        self._parents: frozenset[int] = frozenset()
        self._last: dict[int, _Facts] = {}

    def look(self, facts: dict[int, _Facts], ignoring: frozenset[int]) -> None:
        """Take note of the processes that live, and of those among them that ignore SIGCHLD."""
        for pid, last in self._last.items():
            if pid in facts and facts[pid].start == last.start:
                continue
            # a child of a parent that has ended is waited for by another process
            if last.parent in self._parents and last.parent in facts and not _lives(pid, last):
                self.cpu_s += last.cpu_s
        self._last, self._parents, self.expected = facts, ignoring, bool(ignoring)


def _lives(pid: int, last: _Facts) -> bool:
    """Whether a process lives that the kernel's list of children left out, as it may."""
    present = _facts(pid)
    return present is not None and present.start == last.start


def measure(
    roots: Iterable[int],
    limit_bytes: int | None,
    held: Callable[[list[int]], int] | None = None,
    auto_reaped: AutoReaped | None = None,
) -> TreeUsage:
    """Return the usage of these processes and all below them, as a limit counts it.

    That is their own and their shared memory, also where it was swapped out, but no pages of files on a disk,
    because the kernel takes those back when it needs them. Elsewhere than on Linux it is the resident memory.

    Args:
        roots: The pids of the roots.
        limit_bytes: Above this sum, pages that several processes share are counted once: that is slow, so it
            is done only there. None for never.
        held: Returns the memory of the files that these processes hold open. It counts as far as it exceeds
            the mapped part.
        auto_reaped: Keeps the CPU time of processes that no process waits for.
    """
    pids = family(roots)
    if not LINUX:
        return resident_usage(pids)
    status = {pid: _lines(f"/proc/{pid}/status") for pid in pids}
    facts = {pid: found for pid in pids if (found := _facts(pid)) is not None}
    cpu_s = sum(found.cpu_s for found in facts.values())
    if auto_reaped is not None:
        auto_reaped.look(facts, frozenset(pid for pid in facts if _ignores_children(status[pid])))
        cpu_s += auto_reaped.cpu_s
    sizes = {pid: _memory(status[pid], _OWN) for pid in pids}
    held_bytes = 0 if held is None else held(pids)
    total = _total(sizes.values(), held_bytes)
    if limit_bytes is not None and total > limit_bytes and len(pids) > 1:
        total = min(total, _with_shared_once(sizes, limit_bytes, held_bytes))
    return TreeUsage(total, cpu_s, len(pids))


def _total(sizes: Collection[_Memory], held_bytes: int) -> int:
    return sum(size.own for size in sizes) + max(sum(size.in_files for size in sizes), held_bytes)


def _with_shared_once(sizes: dict[int, _Memory], limit_bytes: int, held_bytes: int) -> int:
    """Return the memory of these processes with shared pages counted once. Where a lower bound is above the
    limit already, that bound is returned, because walking the pages of a large process takes 0.1 s."""
    largest = max(sizes, key=lambda pid: sum(sizes[pid]))
    least = sum(sizes[largest])
    if least <= limit_bytes:
        least += sum(
            _sum_of(_lines(f"/proc/{pid}/smaps_rollup"), _SURELY_OWN) for pid in sizes if pid != largest
        )
    return least if least > limit_bytes else _total([_fair_share(pid) for pid in sizes], held_bytes)


def family(roots: Iterable[int]) -> list[int]:
    """Return these processes and all below them, each once, parents first.

    Raises:
        OSError: There are no descriptors or no memory to look for them with.
    """
    if not LINUX:
        from python_mcp_server.processes import portable

        return portable.family(roots)
    found = dict.fromkeys(roots)
    queue = list(found)
    for pid in queue:  # grows while it is walked
        fresh = [child for child in children_of(pid) if child not in found]
        found.update(dict.fromkeys(fresh))
        queue += fresh
    return queue


def children_of(pid: int | str) -> list[int]:
    """Return the children of a process, or of `"self"`, in 50 us. Linux only.

    Raises:
        OSError: As for `family`.
    """
    pids: list[bytes] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except GONE:
        return []
    for thread in threads:
        with suppress(*GONE):  # a thread that ended meanwhile
            pids += _read(f"/proc/{pid}/task/{thread}/children").split()
    return [int(child) for child in pids]


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 where it is gone."""
    if not LINUX:
        from python_mcp_server.processes import portable

        return portable.rss_bytes(pid)
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    except (*GONE, IndexError):
        return 0


def cpu_clock_ns(pid: int) -> int:
    """Return the CPU time of a process and its threads, without its children; 0 where it is gone.

    On Linux it is read from the process's own clock, because /proc counts in steps of 10 ms.
    """
    if not LINUX:
        from python_mcp_server.processes import portable

        return int(1e9 * portable.cpu_seconds(pid)[0])
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # what clock_getcpuclockid makes of a pid
    except OSError:
        return 0


def _fair_share(pid: int) -> _Memory:
    share = _memory(_lines(f"/proc/{pid}/smaps_rollup"), _SHARED_FAIRLY)
    return share if any(share) else _memory(_lines(f"/proc/{pid}/status"), _OWN)


def _memory(lines: list[bytes], names: tuple[tuple[bytes, ...], tuple[bytes, ...]]) -> _Memory:
    return _Memory(_sum_of(lines, names[0]), _sum_of(lines, names[1]))


def _lines(path: str) -> list[bytes]:
    """Return the lines of a file of /proc; none for a process that is gone."""
    try:
        return _read(path).splitlines()
    except GONE:
        return []


def _sum_of(lines: list[bytes], names: tuple[bytes, ...]) -> int:
    """Return the sum of these lines of kB, in bytes."""
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(names))


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of the children that it has waited for."""
    if not LINUX:
        from python_mcp_server.processes import portable

        return sum(portable.cpu_seconds(pid))
    facts = _facts(pid)
    return 0.0 if facts is None else facts.cpu_s


def _facts(pid: int) -> _Facts | None:
    try:
        facts = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except GONE:
        return None
    times = facts[_FIRST_TIME : _FIRST_TIME + 4]
    return _Facts(int(facts[_PARENT]), int(facts[_START]), sum(map(int, times)) / _TICKS_S)


def _ignores_children(status: list[bytes]) -> bool:
    """Whether a process ignores SIGCHLD, by the lines of its status."""
    ignored = next((line.split()[1] for line in status if line.startswith(b"SigIgn:")), b"0")
    return bool(int(ignored, 16) >> (signal.SIGCHLD - 1) & 1)


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
