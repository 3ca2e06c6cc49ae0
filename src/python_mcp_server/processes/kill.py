"""The end of a process tree.

    look, stop the root and whoever is new ──▶ nobody new ──▶ kill them ──▶ look: all gone ──▶ kill the root
           ▲      │                                               │
           └──────┴─────────────── somebody new ──────────────────┴─▶ kill whoever is found on sight

Nobody is killed before all are stopped, so nobody can answer the death of another: with a new process, or
with the next step of a script. The root goes last, for its orphans are found below it. One that is alone
is not stopped: should we be killed ourselves in that instant, nobody would wake it up again.
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
"""Between two looks at dying processes; measured: SIGKILL takes effect in 1 to 3 ms."""
_EMPTY_LOOKS: Final = 100
"""So many looks without a member are the end even if strangers ended during each of them. Measured:
a look after the first takes 0.2 ms, and a process that forks and leaves is met within a few."""
_GLANCES: Final = 50
"""So many glances at the youngest before the next look at all; guessed, about 5 ms where many begin."""
_STOPPING_LOOKS: Final = 300
"""Whoever still has new members after so many looks is killed on sight; guessed, about 0.1 s."""
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
        job_id: Also whoever carries this id in its environment.
        with_root: Whether the root itself goes.
        wait_s: How long to wait for the last one.

    Returns:
        The pids that could not be ended in that time (uninterruptible in the kernel, or not ours).

    Raises:
        OSError: There were no descriptors or no memory to look at processes, all that time.
    """
    if isinstance(root, ProcessIdentity) and root != identity_of(root.pid, root.start_ticks):
        return []  # of another boot or namespace: its pid belongs to somebody else here
    deadline = time.monotonic() + wait_s
    identity = retry_on_shortage(deadline, identify, root) if isinstance(root, int) else root
    hunt = _Hunt(root if identity is None else identity, job_id, with_root=with_root, deadline=deadline)
    return hunt.end()


def retry_on_shortage(deadline: float, work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Do this, again while there is a shortage: a tree is ended whole, or whoever asked is told."""
    while True:
        try:
            return work(*args)
        except OSError as error:
            if error.errno not in SHORTAGES or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


class _Hunt:
    """One tree, while it is ended."""

    def __init__(
        self, root: ProcessIdentity | int, job_id: str | None, *, with_root: bool, deadline: float
    ) -> None:
        self._search = TreeScan(root, job_id)
        self._deadline = deadline
        self._doomed = [root] if with_root and isinstance(root, ProcessIdentity) else []
        self._spared = _groups_to_spare(root if isinstance(root, int) else root.pid, with_root=with_root)
        self._caught: dict[ProcessIdentity, None] = {}  # a set that keeps the order
        self._members: list[ProcessIdentity] = []
        self._groups: frozenset[int] = frozenset()
        self._over = False
        self._empty_looks = 0

    def end(self) -> list[int]:
        """Stop all, kill all, and return the pids that are left at the deadline."""
        try:
            try:
                self._stop_all()
            finally:  # whatever fails: nobody may stay stopped
                self._send(KILL, reversed(self._caught))
            self._kill_on_sight()
            self._send(KILL, self._doomed)
            self._kill_on_sight()  # what it began in the last instant
        finally:
            self._send(KILL, self._doomed)
        return self._await_gone([*self._caught, *self._doomed])

    def _stop_all(self) -> None:
        """Stop every member, until a look finds nobody new."""
        for _ in range(_STOPPING_LOOKS if _STOP is not None else 0):
            outrun = bool(self._caught)
            fresh = self._look()
            if (not fresh and self._over) or time.monotonic() > self._deadline:
                return
            if fresh:
                self._send(_STOP, self._doomed)
                if outrun:
                    self._signal_groups(_STOP)
                self._send(_STOP, fresh)

    def _kill_on_sight(self) -> None:
        """Kill whoever is found until nobody is."""
        self._empty_looks = 0
        while True:
            if fresh := self._look():
                self._send(_STOP, self._doomed)
                self._signal_groups(KILL)
                self._send(KILL, reversed(fresh))  # the youngest may be gone in a moment
            if time.monotonic() > self._deadline or (not fresh and self._over and not self._members):
                return
            if not fresh and self._members:
                time.sleep(_POLL_S)  # they are dying

    def _look(self) -> list[ProcessIdentity]:
        """Look once; return whoever was not seen before. The youngest come first: one that forks and leaves
        is gone by the end of a look at all."""
        for _ in range(_GLANCES):
            glance = retry_on_shortage(self._deadline, self._search.glance)
            if glance is None:
                break
            if fresh := self._note(glance):
                return fresh
        look = retry_on_shortage(self._deadline, self._search.look)
        fresh = self._note(look)
        self._empty_looks = 0 if fresh else self._empty_looks + 1
        self._members, self._over = look.members, look.complete or self._empty_looks >= _EMPTY_LOOKS
        return fresh

    def _note(self, look: TreeSnapshot) -> list[ProcessIdentity]:
        self._groups = look.groups - self._spared
        fresh = [one for one in look.members if one not in self._caught]
        self._caught.update(dict.fromkeys(fresh))
        return fresh

    def _signal_groups(self, number: int | None) -> None:
        """One signal to a whole group cannot be outrun by forking. A group other than the root's was made
        within the tree, for only a process itself or its parent moves it to another. A member was in it
        a moment ago, so its number is not given to anybody else."""
        for group in self._groups if number is not None else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number or KILL)

    def _send(self, number: int | None, identities: Iterable[ProcessIdentity]) -> None:
        trouble: OSError | None = None
        for identity in identities if number is not None else ():
            try:
                retry_on_shortage(self._deadline, send_signal, identity, number or KILL)
            except PermissionError:
                continue  # not ours: it is named among the survivors
            except OSError as error:
                trouble = error  # told once all the others have theirs
        if trouble is not None:
            raise trouble

    def _await_gone(self, identities: list[ProcessIdentity]) -> list[int]:
        waiting = [
            one for one in dict.fromkeys(identities) if retry_on_shortage(self._deadline, is_alive, one)
        ]
        while waiting and time.monotonic() < self._deadline:
            time.sleep(_POLL_S)
            waiting = [one for one in waiting if retry_on_shortage(self._deadline, is_alive, one)]
        return [identity.pid for identity in waiting]


def _groups_to_spare(root_pid: int, *, with_root: bool) -> frozenset[int]:
    """The process groups that hold others than the tree: our own, and the root's if it stays."""
    own = _group_of(os.getpid())
    return frozenset({0, 1, own} if with_root else {0, 1, own, _group_of(root_pid)})


def _group_of(pid: int) -> int:
    getpgid = getattr(os, "getpgid", None)
    try:
        return getpgid(pid) if getpgid else 0
    except OSError:
        return 0  # gone, or not ours
