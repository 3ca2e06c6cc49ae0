"""The end of a process tree."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import (
    SHORTAGES,
    identify,
    identity_of,
    is_alive,
    send_signal,
)
from python_mcp_server.processes.scan import scan

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_POLL_S: Final = 0.002
"""Between two looks at dying processes; measured: SIGKILL takes effect in 1 to 3 ms."""
_EMPTY_LOOKS: Final = 100
"""So many looks without a member are the end even if strangers ended during each of them. Measured:
a look after the first takes 0.2 ms, and a process that forks and leaves is met within a few."""
_STOP: Final[int | None] = getattr(signal, "SIGSTOP", None)
_KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)


def kill_tree(
    root: ProcessIdentity | int,
    *,
    job_id: str | None = None,
    with_root: bool = True,
    wait_s: float = 5.0,
) -> list[int]:
    """Kill a process tree and wait until it is gone. Blocks.

    The root is stopped first, so that it starts nothing new; then whoever is found is killed until
    nobody is found any more; the root comes last, for its orphans stay findable below it.

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
    identity = _insist(deadline, identify, root) if isinstance(root, int) else root
    doomed = [identity] if with_root and identity is not None else []
    spared = _groups_to_spare(root if isinstance(root, int) else root.pid, with_root=with_root)
    try:
        for one in doomed:
            _send(one, _STOP, deadline)
        survivors = _kill_members(root if identity is None else identity, job_id, deadline, spared)
    finally:
        for one in doomed:
            _send(one, _KILL, deadline)
    return _await_gone([*survivors, *doomed], deadline)


def _insist(deadline: float, work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Do this, again while there is a shortage: a tree is ended whole, or whoever asked is told."""
    while True:
        try:
            return work(*args)
        except OSError as error:
            if error.errno not in SHORTAGES or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


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


def _kill_groups(groups: frozenset[int]) -> None:
    """One signal to a whole group cannot be outrun by forking. A group other than the root's was made
    within the tree, for only a process itself or its parent moves it to another."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, _KILL)


def _kill_members(
    root: ProcessIdentity | int, job_id: str | None, deadline: float, spared: frozenset[int]
) -> list[ProcessIdentity]:
    strangers: frozenset[int] = frozenset()
    members: list[ProcessIdentity] = []
    empty_looks = 0
    while True:
        dying = members
        members, strangers, complete, groups = _insist(deadline, scan, root, job_id, strangers)
        _kill_groups(groups - spared)
        empty_looks = 0 if members else empty_looks + 1
        if (not members and complete) or empty_looks == _EMPTY_LOOKS or time.monotonic() > deadline:
            return members
        for member in reversed(members):  # the youngest may be gone in a moment
            _send(member, _KILL, deadline)
        if members and members == dying:
            time.sleep(_POLL_S)


def _send(identity: ProcessIdentity, number: int | None, deadline: float) -> None:
    if number is None:
        return
    try:
        _insist(deadline, send_signal, identity, number)
    except PermissionError:
        return  # not ours: it is named among the survivors


def _await_gone(identities: list[ProcessIdentity], deadline: float) -> list[int]:
    waiting = [identity for identity in identities if _insist(deadline, is_alive, identity)]
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        waiting = [identity for identity in waiting if _insist(deadline, is_alive, identity)]
    return [identity.pid for identity in waiting]
