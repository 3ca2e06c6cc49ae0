"""The end of a process tree.

    scan, stop the root and new members ──▶ no new ones ──▶ kill them ──▶ scan: all gone ──▶ kill the root
           ▲      │                                             │
           └──────┴────────────── new members ──────────────────┴─▶ kill members as they are found

No member is killed before all are stopped, so none can react to the death of another, with a new process or
with the next step of a script. The root is killed last, because its orphans are found below it. A root that
is alone is not stopped: were this process killed in that instant, the root would stay stopped for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar, TypeVarTuple

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import (
    KILL,
    SHORTAGES,
    identify,
    identity_of,
    is_alive,
    send_signal,
)
from python_mcp_server.processes.tree import TreeScan, TreeSnapshot

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_POLL_S: Final = 0.002
"""Between two scans of dying processes; measured: SIGKILL takes effect in 1 to 3 ms."""
_EMPTY_SCANS: Final = 100
"""After so many scans without a new member the tree counts as whole, even if outsiders ended during each of
them. Measured: a scan after the first takes 0.2 ms, and a process that forks and exits is met in a few."""
_QUICK_LOOKS: Final = 50
"""So many looks at new processes come before the next full scan; guessed, about 5 ms where many begin."""
_STOPPING_SCANS: Final = 300
"""After so many scans with new members, members are killed as they are found; guessed, about 0.1 s."""
_STOP: Final[int | None] = getattr(signal, "SIGSTOP", None)


def kill_tree(
    root: ProcessIdentity | int,
    *,
    job_id: str | None = None,
    with_root: bool = True,
    wait_s: float = 5.0,
) -> list[int]:
    """Kill a process tree and wait until it is gone. Blocks.

    Args:
        root: The root: a worker, or a script's first process. Its identity where it may be gone
            already; a pid only where it cannot have been reused, such as one's own child.
        job_id: Processes that carry this id in their environment are members too.
        with_root: Whether the root itself is killed.
        wait_s: How long to wait for the end of the last one.

    Returns:
        The pids that could not be ended in that time (uninterruptible in the kernel, or not ours).

    Raises:
        OSError: There were no descriptors or no memory to look at processes, all that time.
    """
    if isinstance(root, ProcessIdentity) and root != identity_of(root.pid, root.start_ticks):
        return []  # of another boot or namespace: its pid belongs to another process here
    deadline = time.monotonic() + wait_s
    identity = retry_on_shortage(deadline, identify, root) if isinstance(root, int) else root
    kill = _TreeKill(root if identity is None else identity, job_id, with_root=with_root, deadline=deadline)
    return kill.run()


def retry_on_shortage(deadline: float, work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call `work`, again while descriptors or memory are short, until the deadline."""
    while True:
        try:
            return work(*args)
        except OSError as error:
            if error.errno not in SHORTAGES or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


class _TreeKill:
    """The kill of one tree."""

    def __init__(
        self, root: ProcessIdentity | int, job_id: str | None, *, with_root: bool, deadline: float
    ) -> None:
        self._scan = TreeScan(root, job_id)
        self._deadline = deadline
        self._root = [root] if with_root and isinstance(root, ProcessIdentity) else []
        self._spared_groups = _groups_of_others(
            root if isinstance(root, int) else root.pid, with_root=with_root
        )
        self._signalled: dict[ProcessIdentity, None] = {}  # a set that keeps the order
        self._members: list[ProcessIdentity] = []
        self._groups: frozenset[int] = frozenset()
        self._complete = False
        self._empty_scans = 0

    def run(self) -> list[int]:
        """Stop all, kill all, and return the pids that are left at the deadline."""
        try:
            try:
                self._stop_all()
            finally:  # whatever fails: no process may stay stopped
                self._send(KILL, reversed(self._signalled))
            self._kill_as_found()
            self._send(KILL, self._root)
            self._kill_as_found()  # what it began in the last instant
        finally:
            self._send(KILL, self._root)
        return self._await_gone([*self._signalled, *self._root])

    def _stop_all(self) -> None:
        """Stop every member, until a scan finds no new one."""
        for _ in range(_STOPPING_SCANS if _STOP is not None else 0):
            outrun = bool(self._signalled)
            fresh = self._look()
            if (not fresh and self._complete) or time.monotonic() > self._deadline:
                return
            if fresh:
                self._send(_STOP, self._root)
                if outrun:
                    self._signal_groups(_STOP)
                self._send(_STOP, fresh)

    def _kill_as_found(self) -> None:
        """Kill members as they are found, until a scan finds none."""
        self._empty_scans = 0
        while True:
            if fresh := self._look():
                self._send(_STOP, self._root)
                self._signal_groups(KILL)
                self._send(KILL, reversed(fresh))  # the youngest may be gone in a moment
            if time.monotonic() > self._deadline or (not fresh and self._complete and not self._members):
                return
            if not fresh and self._members:
                time.sleep(_POLL_S)  # they are dying

    def _look(self) -> list[ProcessIdentity]:
        """Scan once and return the members that were not seen before. New processes come first, because one
        that forks and exits is gone by the end of a full scan."""
        for _ in range(_QUICK_LOOKS):
            quick = retry_on_shortage(self._deadline, self._scan.look_at_new)
            if quick is None:
                break
            if fresh := self._add(quick):
                return fresh
        look = retry_on_shortage(self._deadline, self._scan.look)
        fresh = self._add(look)
        self._empty_scans = 0 if fresh else self._empty_scans + 1
        self._members, self._complete = look.members, look.complete or self._empty_scans >= _EMPTY_SCANS
        return fresh

    def _add(self, look: TreeSnapshot) -> list[ProcessIdentity]:
        self._groups = look.groups - self._spared_groups
        fresh = [one for one in look.members if one not in self._signalled]
        self._signalled.update(dict.fromkeys(fresh))
        return fresh

    def _signal_groups(self, number: int | None) -> None:
        """Signal the groups of the tree, because a signal to a whole group cannot be outrun by forking.

        A group other than the root's was made within the tree, because only a process itself or its parent
        moves it to another. A member was in it a moment ago, so its number has not been reused.
        """
        for group in self._groups if number is not None else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number or KILL)

    def _send(self, number: int | None, identities: Iterable[ProcessIdentity]) -> None:
        failure: OSError | None = None
        for identity in identities if number is not None else ():
            try:
                retry_on_shortage(self._deadline, send_signal, identity, number or KILL)
            except PermissionError:
                continue  # another user's: it is named among the survivors
            except OSError as error:
                failure = error  # raised when all the others have their signal
        if failure is not None:
            raise failure

    def _await_gone(self, identities: list[ProcessIdentity]) -> list[int]:
        waiting = [
            one for one in dict.fromkeys(identities) if retry_on_shortage(self._deadline, is_alive, one)
        ]
        while waiting and time.monotonic() < self._deadline:
            time.sleep(_POLL_S)
            waiting = [one for one in waiting if retry_on_shortage(self._deadline, is_alive, one)]
        return [identity.pid for identity in waiting]


def _groups_of_others(root_pid: int, *, with_root: bool) -> frozenset[int]:
    """Return the groups that hold processes outside of the tree: our own, and the root's if it stays."""
    own = _group_of(os.getpid())
    return frozenset({0, 1, own} if with_root else {0, 1, own, _group_of(root_pid)})


def _group_of(pid: int) -> int:
    getpgid = getattr(os, "getpgid", None)
    try:
        return getpgid(pid) if getpgid else 0
    except OSError:
        return 0  # gone, or not ours
