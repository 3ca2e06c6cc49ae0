"""Enforces the limits of a call: sets them when it starts, and checks its tree against them.

Between two checks the kernel enforces `RLIMIT_CPU`, and `RLIMIT_DATA` well above the limit, because libraries
reserve more than they use. Python raises `MemoryError` where a process meets the latter.

A `LimitChecker` only reports. The owner of the tree kills it: the worker kills the child of a script, the
server kills a body, and the worker kills its own body once its server is gone.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from python_mcp_server import processes
from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import (
    DISK,
    MEMORY,
    Breach,
    Limits,
    cpu_breach,
    disk_breach,
    jump_breach,
    memory_breach,
    time_breach,
)
from python_mcp_server.processes import change_priority
from python_mcp_server.processes.host import THREAD_VARIABLES, usable_cores, usable_cpus
from python_mcp_server.processes.usage import AutoReaped, TreeUsage, family, measure
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.memory_files import MemoryFiles
from python_mcp_server.settings import PREFIX

_RESERVE_BYTES: Final = 1 << 30
"""Beyond twice the limit: memory that threads' stacks and the buffers of numerical libraries may reserve."""

_OURS: Final = PREFIX + "THREAD_VARIABLES"
"""Names the variables that were set here, and not by the user."""

_CAP_SYS_NICE: Final = 1 << 23

_LAST_WORDS_BYTES: Final = 4096
_REFUSED_MEMORY: Final = (b"MemoryError", b"numpy._core._exceptions._ArrayMemoryError", b"std::bad_alloc")


def check_here(limits: Limits | None) -> None:
    """Refuse limits that this machine or this account cannot set.

    Raises:
        InvalidInput: The text names the value.
    """
    if limits is not None and limits.cpus is not None:
        _chosen_cpus(limits.cpus)
    if limits is not None and limits.nice is not None:
        _check_nice(limits.nice)


def confine_child(pid: int, limits: Limits) -> None:
    """Set the limits of a child that has just been started; what it starts inherits them.

    Raises:
        InvalidInput: This account may not do that.
    """
    try:
        _bind(pid, limits.cpus)
        _weigh(pid, limits.nice)
        _set_rlimits(pid, limits, 0.0)
    except ProcessLookupError:
        return  # the child has ended already
    except PermissionError as error:
        raise InvalidInput(f"the limits {limits.to_json()} cannot be set by this account: {error}") from error


@contextmanager
def bound_thread(limits: Limits | None) -> Generator[None]:
    """Bind this thread to the cores of a child that it starts meanwhile: a script that counts its cores when
    it begins would else see those of the machine. On Windows and macOS the child is bound after its start.
    """
    if limits is None or limits.cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    _bind(0, limits.cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def confine_own_thread(limits: Limits) -> None:
    """Set cores and priority of this thread and of all that it starts; on Windows, of the process."""
    _bind(0, limits.cpus)
    if limits.nice is not None:
        change_priority(limits.nice)
    _weigh(0, limits.nice)


def _bind(pid: int, wanted: int | tuple[int, ...] | None) -> None:
    """Bind a process, 0 for this thread, to these cores."""
    if wanted is None:
        return
    cpus = _chosen_cpus(wanted)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cpus)
        return
    from python_mcp_server.processes import portable

    portable.bind(pid, cpus)


def _weigh(pid: int, nice: int | None) -> None:
    """Set the niceness of a process, 0 for this thread."""
    if nice is None:
        return
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        return
    from python_mcp_server.processes import portable

    portable.set_class(pid, nice)


@contextmanager
def rlimits(limits: Limits) -> Generator[None]:
    """Set the kernel's limits of this process until the context ends."""
    if sys.platform != "linux":
        yield
        return
    import resource

    kinds = (resource.RLIMIT_DATA, resource.RLIMIT_CPU)
    former = [resource.getrlimit(kind) for kind in kinds]
    _set_rlimits(0, limits, sum(os.times()[:2]))
    try:
        yield
    finally:
        for kind, limit in zip(kinds, former, strict=True):
            resource.setrlimit(kind, limit)


def met_by_kernel(exit_code: int, cpu_s: float, stderr: Path, limits: Limits) -> Breach | None:
    """Return the limit at which the kernel ended a child, told by its exit and its last words."""
    if limits.cpu_time_limit_seconds is not None and exit_code == -getattr(signal, "SIGXCPU", 0):
        return cpu_breach(cpu_s, limits)
    if limits.memory_bytes is not None and exit_code != 0 and _was_refused_memory(stderr):
        return jump_breach(limits)
    return None


def _was_refused_memory(stderr: Path) -> bool:
    from python_mcp_server.runner.output import end_of  # a worker that runs no scripts does not need it

    lines = end_of(stderr, _LAST_WORDS_BYTES).rstrip().splitlines()
    return bool(lines) and any(word in lines[-1] for word in _REFUSED_MEMORY)


def cores_of(limits: Limits | None) -> int:
    """Return how many cores a call may keep busy."""
    cpus = None if limits is None else limits.cpus
    if cpus is None:
        return usable_cores()
    return cpus if isinstance(cpus, int) else len(cpus)


def thread_variables(limits: Limits | None) -> dict[str, str]:
    """Return the variables that keep numerical libraries to the cores of a call, without those that the user
    has set or that are right already.
    """
    ours = os.environ.get(_OURS)
    if ours is not None and (limits is None or limits.cpus is None):
        return {}
    names = [name for name in THREAD_VARIABLES if name not in os.environ or name in (ours or "").split(",")]
    return dict.fromkeys(names, str(cores_of(limits)))


def keep_threads_to_cores() -> None:
    """Set the thread variables of this process, before any library reads them."""
    variables = thread_variables(None)
    os.environ.update(variables)
    os.environ[_OURS] = ",".join(variables)


def _set_rlimits(pid: int, limits: Limits, used_s: float) -> None:
    """Set the kernel's limits of a process: soft ones, so that they can be lifted again."""
    if sys.platform != "linux":
        return
    import resource

    wanted: dict[int, int] = {}
    if limits.memory_bytes is not None:
        wanted[resource.RLIMIT_DATA] = 2 * limits.memory_bytes + _RESERVE_BYTES
    if limits.cpu_time_limit_seconds is not None:
        wanted[resource.RLIMIT_CPU] = math.ceil(used_s + limits.cpu_time_limit_seconds) + 1
    for kind, soft in wanted.items():
        former_soft, hard = resource.prlimit(pid, kind)
        tighter = [limit for limit in (soft, former_soft, hard) if limit != resource.RLIM_INFINITY]
        resource.prlimit(pid, kind, (min(tighter), hard))


def _chosen_cpus(wanted: int | tuple[int, ...]) -> list[int]:
    usable = usable_cpus()
    if usable is None:
        raise InvalidInput(f"cpus is {wanted!r}; this system binds no process to cores, leave it out")
    names = ", ".join(map(str, usable))
    if isinstance(wanted, int):
        if wanted > len(usable):
            raise InvalidInput(f"cpus is {wanted}; there are {len(usable)} to be used here: {names}")
        import random  # costs a worker 5 ms

        return random.sample(usable, wanted)  # the first cores would be those of every other job, too
    missing = [number for number in wanted if number not in usable]
    if missing:
        raise InvalidInput(f"cpus has {missing[0]}, which is not to be used here; there are {names}")
    return list(wanted)


def _check_nice(nice: int) -> None:
    if not hasattr(os, "getpriority"):
        return
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if nice < own and not _may_raise_priority(nice):
        raise InvalidInput(
            f"nice is {nice}; this account may not go below {own}, which is what the server has"
        )


def _may_raise_priority(nice: int) -> bool:
    if sys.platform != "linux":
        return os.geteuid() == 0
    import resource

    if (
        lowest := resource.getrlimit(resource.RLIMIT_NICE)[0]
    ) == resource.RLIM_INFINITY or nice >= 20 - lowest:
        return True
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        capabilities = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(capabilities, 16) & _CAP_SYS_NICE)


_SHORTEST_S: Final = 0.01 if processes.LINUX else 0.05
_LONGEST_S: Final = 0.25
_GROWTH_BYTES_S: Final = 2e9
"""How fast a process can fill memory, also that which holds new files; measured on fast machines: zeroing new
pages is what takes long."""

_LOOKS_SHARE: Final = 0.1
"""The share of a core that checking may take, however large the tree is."""


_NOTHING_MORE: Final = 1
"""Not 0, which Linux takes for no limit of data (a workaround for Valgrind, in mm/mmap.c)."""


class LimitChecker:
    """Checks one tree against its limits.

    Attributes:
        peak_bytes: The most memory that was seen.
        pause_s: When to check again: the nearer the limit, the sooner.
    """

    def __init__(
        self,
        limits: Limits,
        roots: Callable[[], Iterable[int]],
        *,
        cpu_base_s: Callable[[], float] = float,
        started_s: float | None = None,
        from_now: bool = False,
        memory_base_bytes: int = 0,
        disk: DiskMeter | None = None,
    ) -> None:
        """Begin to count.

        Args:
            limits: The limits; the time limit counts where `started_s` is given.
            roots: Returns the pids of the tree's roots.
            cpu_base_s: Returns what is added to the CPU time of the living processes: that of the ended
                ones, less what was used before.
            started_s: When the call began, on the monotonic clock.
            from_now: Whether the CPU time up to the first look belongs to others.
            memory_base_bytes: The part of the memory that belongs to others.
            disk: Measures the files; the disk limit counts where it is given. Those that lie in memory do not
                count for the memory limit.
        """
        self.peak_bytes = 0
        self.pause_s = _SHORTEST_S
        self._limits = limits
        self._roots = roots
        self._cpu_base_s = cpu_base_s
        self._cpu_s = 0.0
        self._before_s: float | None = None if from_now else 0.0
        self._memory_base_bytes = memory_base_bytes
        self._time_limit_s = limits.timeout_seconds if started_s is not None else None
        self._started_s = started_s or 0.0
        self._memory_files: MemoryFiles | None = None
        if processes.LINUX and limits.memory_bytes is not None:
            self._memory_files = MemoryFiles(() if disk is None else disk.paths)
        self._auto_reaped = None if limits.cpu_time_limit_seconds is None else AutoReaped()
        self._disk = None if limits.disk_bytes is None else disk
        self._disk_bytes = 0

    def look(self) -> Breach | None:
        """Check now, and return the limit that the tree has exceeded, if any."""
        began = time.monotonic()
        reading = TreeUsage(0, 0.0, 0)
        memory_bytes = 0
        if self._limits.counts_processes:
            held = None if self._memory_files is None else self._memory_files.look_at
            reading = measure(self._roots(), self._limits.memory_bytes, held, self._auto_reaped)
            memory_bytes = reading.memory_bytes - self._memory_base_bytes
            self.peak_bytes = max(self.peak_bytes, memory_bytes)
            used_s = reading.cpu_s + self._cpu_base_s()
            self._before_s = used_s if self._before_s is None else self._before_s
            self._cpu_s = max(self._cpu_s, used_s - self._before_s)
        if self._disk is not None:
            self._disk_bytes = self._disk.look()
        self.pause_s = self._pause_s(memory_bytes, reading.processes, began)
        return self._breach(began)

    def freeze(self, kind: str) -> None:
        """Let a tree that has exceeded its limit of memory or disk space take no more of it until it is
        killed, because its record is written first and takes longer than filling either. A process that asks
        for more memory gets a `MemoryError`; one that makes a file longer gets an `OSError`, or is ended.
        """
        if sys.platform != "linux":
            return
        import resource

        frozen = {MEMORY: (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE), DISK: (resource.RLIMIT_FSIZE,)}
        for pid in family(self._roots()) if kind in frozen else ():
            with suppress(ProcessLookupError, PermissionError):  # it has just ended, or is another user's
                for limit in frozen[kind]:
                    hard = resource.prlimit(pid, limit)[1]
                    resource.prlimit(pid, limit, (_NOTHING_MORE, hard))

    def _breach(self, now: float) -> Breach | None:
        limits = self._limits
        if limits.memory_bytes is not None and self.peak_bytes > limits.memory_bytes:
            return memory_breach(self.peak_bytes, limits)
        if limits.cpu_time_limit_seconds is not None and self._cpu_s > limits.cpu_time_limit_seconds:
            return cpu_breach(self._cpu_s, limits)
        if limits.disk_bytes is not None and self._disk_bytes > limits.disk_bytes:
            return disk_breach(self._disk_bytes, limits)
        if self._time_limit_s is not None and now - self._started_s > self._time_limit_s:
            return time_breach(limits)
        return None

    def _pause_s(self, memory_bytes: int, processes_: int, began: float) -> float:
        pause_s = _LONGEST_S
        if self._limits.memory_bytes is not None:
            pause_s = (self._limits.memory_bytes - memory_bytes) / _GROWTH_BYTES_S
        if self._limits.cpu_time_limit_seconds is not None:
            left_s = self._limits.cpu_time_limit_seconds - self._cpu_s
            pause_s = min(pause_s, left_s / max(1, min(processes_, os.cpu_count() or 1)))
        if self._auto_reaped is not None and self._auto_reaped.expected:
            pause_s = min(pause_s, _SHORTEST_S)
        if self._limits.disk_bytes is not None and self._disk is not None:
            pause_s = min(pause_s, (self._limits.disk_bytes - self._disk_bytes) / _GROWTH_BYTES_S)
        cost_s = time.monotonic() - began
        return min(_LONGEST_S, max(_SHORTEST_S, pause_s, cost_s / _LOOKS_SHARE))


class OwnWork:
    """Checks what this process itself does for a call, such as to read and parse files, from now on.

    Other calls may have left memory here, so only its growth counts.
    """

    def __init__(self, limits: Limits) -> None:
        own = (os.getpid(),)
        base = 0 if limits.memory_bytes is None else measure(own, None).memory_bytes
        self._checker = LimitChecker(
            limits, lambda: own, started_s=time.monotonic(), from_now=True, memory_base_bytes=base
        )
        self._due_at = 0.0
        self.look()

    def look(self) -> Breach | None:
        """Return the limit that is exceeded, if any. May be called after each line: it seldom measures."""
        if time.monotonic() < self._due_at:
            return None
        breach = self._checker.look()
        self._due_at = time.monotonic() + self._checker.pause_s
        return breach
