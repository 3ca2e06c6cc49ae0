"""What a child leaves behind when it ends: background processes in its group, daemons that this
process inherited as their subreaper. Looking costs two system calls, not a scan; only where
something is found the whole tree is searched and ended.

What was inherited and has ended keeps its pid until this process takes note of it. A test suite may leave
ten thousands of those within minutes, and then nothing on the machine can start any more: so they are reaped
while the child runs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from python_mcp_server import processes
from python_mcp_server.context import in_worker
from python_mcp_server.model import ProcessIdentity

REAP_EVERY_S: Final = 0.25
"""Guessed: that long a storm of new processes takes a tenth of all pids, and a look costs 0.1 ms."""


class Orphans:
    """Whoever this process inherits from now on, until they are all ended. Nobody else here may start and
    wait for children meanwhile: those could not be told from what was inherited.

    Attributes:
        cpu_s: The CPU seconds of those that were reaped.
    """

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._strangers = own_children()
        self._reap_at = time.monotonic() + REAP_EVERY_S

    def reap(self) -> None:
        """Reap those that have ended, at most once in `REAP_EVERY_S`.

        Raises:
            OSError: There are no descriptors or no memory to look for them with.
        """
        if time.monotonic() >= self._reap_at:
            self._reap_at = time.monotonic() + REAP_EVERY_S
            self.cpu_s += _reap(own_children() - self._strangers)[0]


def own_children() -> frozenset[int]:
    """Return the pids of this process's children, on a worker that inherits orphans; else nothing.

    Outside a worker the children are other people's business, and none is inherited.
    """
    if not (processes.LINUX and in_worker()):
        return frozenset()
    pids: list[bytes] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            pids += Path(f"/proc/self/task/{thread}/children").read_bytes().split()
        except FileNotFoundError:
            continue  # a thread that ended meanwhile
    return frozenset(map(int, pids))


def reaped_cpu_s() -> float:
    """Return the CPU seconds of all children that this process has waited for, with those below them."""
    times = os.times()
    return times.children_user + times.children_system


def end_leftovers(child: ProcessIdentity | int, job_id: str, before: frozenset[int]) -> float:
    """End what is left of the tree of a child that was reaped.

    Args:
        child: The child; its pid alone where it ended before it could be identified.
        job_id: What its tree carries in its environment.
        before: `own_children()` from before its start: those are not touched.

    Returns:
        The CPU seconds of the orphans that were reaped.
    """
    cpu_s, orphans = _reap(own_children() - before)
    if not orphans and not _group_lives(child if isinstance(child, int) else child.pid):
        return cpu_s
    for orphan in orphans:
        processes.kill_tree(orphan, job_id=job_id)
    processes.kill_tree(child, job_id=job_id, with_root=False)
    return cpu_s + _reap(own_children() - before)[0]


def _reap(pids: frozenset[int]) -> tuple[float, list[int]]:
    """Reap those that ended; return their CPU seconds, and who still runs."""
    cpu_s = 0.0
    running: list[int] = []
    for pid in pids:
        try:
            reaped, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # somebody else of this process reaped it
        if reaped:
            cpu_s += usage.ru_utime + usage.ru_stime
        else:
            running.append(pid)
    return cpu_s, running


def _group_lives(pid: int) -> bool:
    if not hasattr(os, "killpg"):
        return False
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
