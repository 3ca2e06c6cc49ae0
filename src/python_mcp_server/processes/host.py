"""The resources that the machine or the container gives to this process and to the sessions that it starts.

* Cores and memory. A container may have less of both than its machine.
* The weight of a session. Linux may share its cores out among sessions first, and among the processes of each
  session next (autogroups, as on most desktops). A worker leads a session of its own, so it would weigh as
  much as the server with all its threads, and a niceness would have no effect. Therefore a session has a
  niceness too: that of a worker is lower than the server's, and what the runner starts gets the worker's.
  https://man7.org/linux/man-pages/man7/sched.7.html

Reading costs some file reads: off the event loop. psutil and loky are imported where they are needed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from python_mcp_server.processes.identity import SHORTAGES
from python_mcp_server.processes.usage import LINUX

_log: Final = logging.getLogger(__name__)

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


_SHORT: Final = (
    *SHORTAGES,
    errno.EAGAIN,
    errno.ENOSPC,
    errno.EFBIG,
    getattr(errno, "EDQUOT", errno.ENOSPC),
)
_NO_THREAD: Final = "can't start new thread"
"""The only mark of Python's `RuntimeError` where the system gives no thread."""

_NO_REASON: Final = "SystemError: error return without exception set"
_NO_MAP: Final = "failed to map segment from shared object"
_FORBIDDEN_MAP: Final = os.strerror(errno.EPERM)  # a file system whose files may not be executed
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]|: Error (\d+)$")


def is_shortage(error: BaseException) -> bool:
    """Whether this error, or a cause of it, says that the machine is short of descriptors, processes, memory
    or disk: that says nothing about what was tried, and may pass.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _SHORT):
            return True
        if isinstance(cause, RuntimeError) and str(cause) == _NO_THREAD:
            return True
        cause = cause.__cause__
    return False


def shortage_in(line: str) -> BaseException | None:
    """Return the shortage that another process has told of in the last line of its traceback, or None.

    The loader of shared objects has no errno: it tells of it in the text, and seldom where memory is short.
    The interpreter raises an error without a reason where there is no memory for the reason.
    """
    if line.startswith((MemoryError.__name__, _NO_REASON)) or (
        _NO_MAP in line and not line.endswith(_FORBIDDEN_MAP)
    ):
        return MemoryError(line)
    if line == f"{RuntimeError.__name__}: {_NO_THREAD}":
        return RuntimeError(_NO_THREAD)
    told = _ERRNO.search(line)
    for number in _SHORT:
        if line.endswith(os.strerror(number)) or (told and number == int(told[1] or told[2])):
            return OSError(number, line)
    return None


def usable_cpus() -> list[int] | None:
    """Return the numbers of the cores this process may run on; None where the system binds none."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    from python_mcp_server.processes import portable

    return portable.usable_cpus()


def usable_cores() -> int:
    """Return how many cores this process can keep busy, by its affinity and its container's share."""
    from loky import cpu_count  # type: ignore[reportMissingTypeStubs]

    return cpu_count()


def load_average() -> float | None:
    """Return how many threads of the machine ran or waited for a core, as the mean of about the last minute;
    None where the system does not count them (Windows).
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


class Memory(NamedTuple):
    """Memory in bytes: the part that is available without swapping, and the total."""

    available: int
    total: int


_ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


def memory() -> Memory:
    """Return the memory of the machine, or of the container where that has less."""
    import psutil

    machine = psutil.virtual_memory()
    whole = Memory(machine.available, machine.total)
    folder = memory_group()
    group = None if folder is None else _group_memory(folder)
    return whole if group is None else min(whole, group)


def memory_group(root: Path = _ROOT, listing: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return the folder of the control group that limits the memory of this process: its own group's, or in a
    container the root of what can be seen. None if no group limits it."""
    if not LINUX:
        return None
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        number, names, path = line.split(":", 2)
        unified = number == "0"
        if not unified and "memory" not in names.split(","):
            continue
        base = root if unified else root / "memory"
        marker = "cgroup.controllers" if unified else "tasks"
        inside = base.joinpath(*PurePosixPath(path).parts[1:])
        found = next((folder for folder in (inside, base) if (folder / marker).is_file()), None)
        if found is not None:
            return found
    return None


def _group_memory(folder: Path) -> Memory | None:
    limit = number_in(folder, "memory.max") or number_in(folder, "memory.limit_in_bytes")
    used = number_in(folder, "memory.current") or number_in(folder, "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    idle = entry_in(folder, "memory.stat", "inactive_file") or 0  # the kernel frees this cache when asked
    return Memory(max(0, limit - used + idle), limit)


def number_in(folder: Path, name: str) -> int | None:
    """Return the number in a file of a group; None if the file does not exist, or sets no limit."""
    try:
        word = (folder / name).read_text(encoding="ascii").split()[0]
        number = int(word)
    except (OSError, ValueError, IndexError):
        return None
    return number if number < _UNLIMITED else None


def entry_in(folder: Path, name: str, key: str) -> int | None:
    """Return the number behind a key in a file of `key number` lines; None if the key is not there."""
    try:
        lines = (folder / name).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), None)


_SERVER_VARIABLE: Final = "PYTHON_MCP_SERVER_NICE"
_SESSION_VARIABLE: Final = "PYTHON_MCP_SESSION_NICE"
"""The wanted niceness of a worker's session: the kernel may have refused to set it."""
_STEP: Final = 5
"""How much less a worker's session weighs: a third. Measured: beside four computing bodies the server's
longest waits for a core went from 50 to 15 ms; twice as much gained little."""
_MOST, _LEAST = -20, 19


def worker_variables() -> dict[str, str]:
    """Return the variables that a worker has in its environment from its first instant on."""
    own = _own_nice()
    return {_SERVER_VARIABLE: str(own), _SESSION_VARIABLE: str(min(own + _STEP, _LEAST))}


def keep_priority() -> None:
    """Give the session of this worker the weight that its variables name."""
    _set_session_nice(os.getpid(), _nice_in(_SESSION_VARIABLE))


def change_priority(nice: int) -> None:
    """Give the session of this worker the weight of this niceness, beside the server's session."""
    os.environ[_SESSION_VARIABLE] = str(_as_session(nice))
    keep_priority()


def hand_on_priority(leader: int, nice: int | None = None) -> None:
    """Give a session that was just started the weight of ours, because a child does not inherit it.

    Args:
        leader: The process that leads it.
        nice: The niceness of a process; where given, it counts beside the server's.
    """
    _set_session_nice(leader, _nice_in(_SESSION_VARIABLE) if nice is None else _as_session(nice))


def _as_session(nice: int) -> int:
    """Return the niceness of a session that gives a process the weight which this niceness would give it
    beside the server, were there no sessions."""
    if not hasattr(os, "getpriority"):
        return 0
    return max(_MOST, min(_nice_in(_SERVER_VARIABLE) + nice - os.getpriority(os.PRIO_PROCESS, 0), _LEAST))


def _nice_in(variable: str) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):  # this is no worker, or a body has changed the variable
        return _own_nice()


def _own_nice() -> int:
    """Return the niceness of our session, or of our process where that is in no session, as under init."""
    nice = _session_nice()
    return os.getpriority(os.PRIO_PROCESS, 0) if nice is None else nice


def _session_nice(pid: int | str = "self") -> int | None:
    """Return the niceness of a process's session; None without a session, 0 where sessions have none."""
    if not LINUX:
        return 0
    try:
        with open(f"/proc/{pid}/autogroup", "rb") as file:
            words = file.read().split()
        return int(words[-1]) if words else None
    except (OSError, ValueError):  # a kernel without autogroups, or the process is gone
        return 0


def _set_session_nice(leader: int, nice: int) -> None:
    """Set the niceness of the session that a process leads, where it differs. A refusal is ignored, because a
    call must not fail for it: the kernel takes ten changes a second from most accounts, all together."""
    try:
        if not LINUX or _session_nice(leader) == nice or os.getsid(leader) != leader:
            return  # a session that another process leads may be the user's own
        file = os.open(f"/proc/{leader}/autogroup", os.O_WRONLY)
        try:
            os.write(file, b"%d" % nice)  # a file of Python's would take EAGAIN for nothing written
        finally:
            os.close(file)
    except OSError as error:
        _log.debug("the session of %s keeps its priority: %s", leader, error)
