"""The processes that a child leaves behind: orphans that a worker inherits, and the rest of its group.

A child may leave background processes in its group, and daemons that this process inherits as a subreaper.
Looking for them costs two system calls, not a scan; only where some are found the whole tree is searched and
killed. An inherited process that has ended keeps its pid until this process reaps it. A test suite may leave
ten thousands of those within minutes, and then nothing on the machine can start any more: so they are reaped
while the child runs.
"""

from __future__ import annotations

import os
import time
from typing import Final

from python_mcp_server import processes
from python_mcp_server.context import in_worker
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.usage import children_of

_GROUP_POLL_S: Final = 0.02


class Orphans:
    """Reaps the processes that this process inherits: its children but `others`, which it started itself.

    No other code of this process may start and wait for children meanwhile, because those could not be told
    from inherited ones.

    Attributes:
        cpu_s: The CPU seconds of the processes that were reaped.
        pause_s: The seconds between two looks. Guessed: within that time a storm of new processes takes a
            tenth of all pids; a look costs 0.1 ms.
    """

    pause_s = 0.25

    def __init__(self, others: frozenset[int]) -> None:
        self.cpu_s = 0.0
        self._others = others
        self._reap_at = time.monotonic() + self.pause_s

    def reap(self) -> None:
        """Reap inherited processes that have ended, at most once in `pause_s`.

        Raises:
            OSError: There are no descriptors or no memory to look for them with.
        """
        if time.monotonic() >= self._reap_at:
            self._reap_at = time.monotonic() + self.pause_s
            self.cpu_s += _reap(own_children() - self._others)[0]

    def await_group(self, group: int, deadline: float) -> None:
        """Wait until the rest of a group has ended, whose leader was reaped.

        Args:
            group: The group, by the pid of its leader.
            deadline: How long to wait, on the monotonic clock.
        """
        while _group_lives(group) and time.monotonic() < deadline:
            self.cpu_s += _reap(own_children() - self._others)[0]
            time.sleep(_GROUP_POLL_S)


def own_children() -> frozenset[int]:
    """Return the pids of this process's children, in a worker that inherits orphans; else nothing.

    Outside a worker the children belong to the program, and none is inherited.
    """
    if not (processes.LINUX and in_worker()):
        return frozenset()
    return frozenset(children_of("self"))


def reaped_cpu_s() -> float:
    """Return the CPU seconds of all children that this process has waited for, with those below them."""
    times = os.times()
    return times.children_user + times.children_system


def end_leftovers(child: ProcessIdentity | int, job_id: str, before: frozenset[int]) -> float:
    """Kill what is left of the tree of a child that was reaped.

    Args:
        child: The child; its pid alone where it ended before it could be identified.
        job_id: The id that its tree carries in its environment.
        before: `own_children()` from before its start, which are not touched.

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
    """Reap those of these processes that ended; return their CPU seconds, and the pids that still run."""
    cpu_s = 0.0
    running: list[int] = []
    for pid in pids:
        try:
            reaped, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # other code of this process reaped it
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
