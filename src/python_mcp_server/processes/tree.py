"""The members of a process tree, found in the system's table of processes: /proc on Linux, psutil elsewhere.

A tree is more than psutil's children. A process belongs to the tree of a root when it descends from
it, or is in a session that the root (or one of its descendants) leads, or carries the job's id or the
worker's in its environment: so double forks, `setsid` and `nohup` are found too. A worker is a subreaper
on Linux, so orphans below it stay below it while it lives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import (
    JOB_VARIABLE,
    SHORTAGES,
    UNREADABLE,
    WORKER_VARIABLE,
    Stat,
    identify,
    identity_of,
    leads_threads,
    read_stat,
)
from python_mcp_server.processes.usage import LINUX


def all_pids() -> list[int]:
    """Return the pid of each process."""
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    from python_mcp_server.processes import portable

    return portable.all_pids()


def newest_pid() -> int | None:
    """Return the last pid that was assigned in our namespace, where the system shows it."""
    if not LINUX:
        return None
    try:
        with open("/proc/loadavg", "rb", buffering=0) as file:
            return int((file.read() or b"0").split()[-1]) or None
    except (OSError, ValueError):
        return None


def stat_of(pid: int) -> Stat | None:
    """Return the table's entry of one process; None if the process does not exist.

    Raises:
        OSError: One of `SHORTAGES`, on Linux: nothing is known about it.
    """
    if LINUX:
        return read_stat(pid)
    from python_mcp_server.processes import portable

    found = portable.stat(pid)
    return None if found is None else Stat(*found)


def environment_of(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where the process is gone or another user's.

    Raises:
        OSError: One of `SHORTAGES`.
    """
    try:
        if LINUX:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                return (file.read() or b"").split(b"\0")[:-1]
        from python_mcp_server.processes import portable

        return portable.environment_of(pid)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise  # a member that is not read would outlive its tree
        return []


_NEWEST: Final = 32
"""`look_at_new` reads so many pids at most: of a long series most are gone."""


class TreeSnapshot(NamedTuple):
    """What one scan found.

    Attributes:
        members: The living processes of the tree without its root, leaves last.
        complete: Whether no process ended since the scan before, or during this one. One that did may have
            left a child behind that began too late for this scan.
        groups: The process groups of the members, also of those that died meanwhile.
    """

    members: list[ProcessIdentity]
    complete: bool
    groups: frozenset[int]


def find_tree(root: ProcessIdentity | int, job_id: str | None = None) -> list[ProcessIdentity]:
    """Return the living processes of the tree without its root, leaves last.

    Costs a scan of all processes: call it off the event loop.

    Args:
        root: The root's identity, or its pid where it is certain to be the one that is meant.
        job_id: Processes that carry this id in their environment are members too.
    """
    return TreeScan(root, job_id).look().members


class TreeScan:
    """A series of scans for one tree; see `find_tree` for the arguments.

    A process that is known to be an outsider is not read again, so that the scans after the first are fast
    enough to catch a process that lives for a millisecond, also where init keeps thousands of dead ones.
    """

    def __init__(self, root: ProcessIdentity | int, job_id: str | None = None) -> None:
        self._root = root
        self._root_pid = root if isinstance(root, int) else root.pid
        part_mark = f"{JOB_VARIABLE}={job_id}." if job_id else "\0"  # of an item of a batch; none has a NUL
        self._marks = _marks(root, job_id), part_mark.encode()
        self._known_outsiders: frozenset[int] = frozenset()  # not of the tree, or dead
        self._living: frozenset[int] = frozenset()  # members
        self._dead_session_leaders: frozenset[int] = frozenset()
        self._ended: frozenset[int] = frozenset()  # in the scan before
        self._newest_at_begin: int | None = None  # the newest pid when the last look began
        self._newest_at_end: int | None = None  # and when it ended

    def look(self) -> TreeSnapshot:
        """Scan all processes once."""
        self._newest_at_begin = newest_pid()
        running = {process for process in all_pids() if process != os.getpid()}
        self._known_outsiders &= running
        self._dead_session_leaders = self._not_reused(
            self._dead_session_leaders & running, self._newest_at_begin
        )
        stats = self._read(running - (self._known_outsiders - {self._root_pid}))
        ended = frozenset(pid for pid, stat in stats.items() if _has_ended(stat))
        family = self._family(stats, self._dead_session_leaders)
        self._known_outsiders |= family.outsiders(self._known_outsiders | {os.getpid(), self._root_pid})
        self._dead_session_leaders |= family.dead_session_leaders()
        members = family.living()
        self._living = frozenset(member.pid for member in members)
        complete, self._ended = ended <= self._ended, ended
        self._newest_at_end = newest_pid()
        return TreeSnapshot(members, complete, family.groups())

    def look_at_new(self) -> TreeSnapshot | None:
        """Read only the processes that began since the last look, because pids are assigned in order.

        It takes some 0.1 ms, and is never complete.

        Returns:
            None where no process began, or the system does not show that.
        """
        before, newest = self._newest_at_begin, newest_pid()
        if before is None or newest is None or newest <= before:
            return None
        youngest = range(max(before, newest - _NEWEST) + 1, newest + 1)
        stats = self._read({self._root_pid, *youngest} - {os.getpid()})
        family = self._family(stats, self._not_reused(self._dead_session_leaders | self._living, newest))
        family.keep(leads_threads)
        self._newest_at_begin = self._newest_at_end = newest
        members = family.living()
        self._living |= {member.pid for member in members}
        return TreeSnapshot(members, complete=False, groups=family.groups())

    def _not_reused(self, pids: frozenset[int], newest: int | None) -> frozenset[int]:
        """Return those of these pids that were not assigned again since the last look."""
        before = self._newest_at_end
        if before is None or newest is None:
            return pids
        if before <= newest:
            return frozenset(pid for pid in pids if not before < pid <= newest)
        return frozenset(pid for pid in pids if newest < pid <= before)

    def _read(self, pids: set[int]) -> dict[int, Stat | None]:
        # The youngest first, because they may be gone in a moment.
        return {pid: stat_of(pid) for pid in sorted(pids, reverse=True)}

    def _family(self, stats: dict[int, Stat | None], ancestors: frozenset[int]) -> _Family:
        there = {pid: stat for pid, stat in stats.items() if stat is not None}
        family = _Family(self._root, self._root_pid, there, ancestors)
        if self._marks[0]:
            family.adopt_carriers(*self._marks)
        return family


def _marks(root: ProcessIdentity | int, job_id: str | None) -> set[bytes]:
    """Return the variables by which a member is known, each as it stands in an environment."""
    worker_id = root.worker_id if isinstance(root, ProcessIdentity) else ""
    marks = {JOB_VARIABLE: job_id, WORKER_VARIABLE: worker_id}
    return {f"{name}={value}".encode() for name, value in marks.items() if value}


class _Family:
    """The closure of parents and sessions over the processes of one look."""

    def __init__(
        self,
        root: ProcessIdentity | int,
        root_pid: int,
        stats: dict[int, Stat],
        ancestors: frozenset[int],
    ) -> None:
        self._root_stat = stats.pop(root_pid, None)
        self._stats = stats
        self._members: dict[int, Stat] = {}
        self._undecided: set[int] = set()
        self._next_to: defaultdict[int, list[int]] = defaultdict(list)
        for pid, stat in stats.items():
            self._next_to[stat.parent].append(pid)
            if stat.session != stat.parent:
                self._next_to[stat.session].append(pid)
        for ancestor in ancestors:
            self._adopt(ancestor)
        if _reused(root):
            self._root_stat = None
        else:
            self._adopt(root_pid)

    def adopt_carriers(self, wanted: set[bytes], part: bytes) -> None:
        """Add processes no older than the root with a `wanted` variable, or one that begins with `part`."""
        since = self._root_stat.start_ticks if self._root_stat else 0
        for pid, stat in self._stats.items():
            # A zombie shows no environment, and init may leave it there for a while.
            if pid not in self._members and stat.alive and stat.start_ticks >= since:
                environment = environment_of(pid)
                if not environment:
                    self._undecided.add(pid)  # about to exec, or another user's
                elif not wanted.isdisjoint(environment) or any(one.startswith(part) for one in environment):
                    self._members[pid] = stat
                    self._adopt(pid)

    def living(self) -> list[ProcessIdentity]:
        return [identity_of(pid, stat.start_ticks) for pid, stat in self._members.items() if stat.alive]

    def groups(self) -> frozenset[int]:
        return frozenset(stat.group for stat in self._members.values() if stat.group > 1)

    def keep(self, wanted: Callable[[int], bool]) -> None:
        """Remove the members for which `wanted` returns False."""
        self._members = {pid: stat for pid, stat in self._members.items() if wanted(pid)}

    def outsiders(self, known: frozenset[int]) -> frozenset[int]:
        """Return the processes that need not be read again: the dead, and those that are not of the tree.

        A process is surely not of the tree only where its parent is known not to be, from `known` or from
        this look: a child whose parent is gone by now may be the child of a member in the next look.
        """
        certain = known | self._stats.keys() | {0, 1}
        unsettled_parents = [
            pid for pid, stat in self._stats.items() if stat.alive and stat.parent not in certain
        ]
        unsettled = set(unsettled_parents) | self._undecided
        for pid in unsettled_parents:  # grows while it is walked
            fresh = [child for child in self._next_to.get(pid, ()) if child not in unsettled]
            unsettled.update(fresh)
            unsettled_parents += fresh
        living = {pid for pid, stat in self._members.items() if stat.alive}
        dead = {pid for pid, stat in self._stats.items() if not stat.alive}
        return frozenset(self._stats.keys() - living - (unsettled - dead))

    def dead_session_leaders(self) -> frozenset[int]:
        """Return the dead session leaders: their session id is the only link to surviving members."""
        dead = (pid for pid, stat in self._members.items() if not stat.alive and stat.session == pid)
        return frozenset(dead)

    def _adopt(self, pid: int) -> None:
        queue = [pid]
        for ancestor in queue:
            for child in self._next_to.get(ancestor, ()):
                if child not in self._members:
                    self._members[child] = self._stats[child]
                    queue.append(child)


def _reused(root: ProcessIdentity | int) -> bool:
    """Whether another process has the root's pid now, perhaps this very one."""
    if isinstance(root, int):
        return False
    now = identify(root.pid)
    return now is not None and now != root


def _has_ended(stat: Stat | None) -> bool:
    return stat is None or not (stat.alive or stat is UNREADABLE)
