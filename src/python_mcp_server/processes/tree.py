"""The table of processes: who there is, and what it says of one. /proc on Linux, psutil portable.

Who belongs to a process tree.

A tree is more than psutil's children. A process belongs to the tree of a root when it descends from
it, or is in a session that the root (or one of its descendants) leads, or carries the job's id or the
lane's in its environment: so double forks, `setsid` and `nohup` are found too. A worker is a subreaper
on Linux, so orphans below it stay below it while it lives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import (
    FOREIGN,
    JOB_VARIABLE,
    LANE_VARIABLE,
    SHORTAGES,
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
    """Return the last pid that was given in our namespace, where the system tells it."""
    if not LINUX:
        return None
    try:
        with open("/proc/loadavg", "rb", buffering=0) as file:
            return int((file.read() or b"0").split()[-1]) or None
    except (OSError, ValueError):
        return None


def stat_of(pid: int) -> Stat | None:
    """Return what the table says of one process; None where there is none.

    Raises:
        OSError: Of `SHORTAGES`, on Linux: nothing is known about it.
    """
    if LINUX:
        return read_stat(pid)
    from python_mcp_server.processes import portable

    found = portable.stat(pid)
    return None if found is None else Stat(*found)


def environment_of(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where it is gone, or not ours to look at.

    Raises:
        OSError: Of `SHORTAGES`.
    """
    try:
        if LINUX:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                return (file.read() or b"").split(b"\0")[:-1]
        from python_mcp_server.processes import portable

        return portable.environment_of(pid)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise  # whoever is not looked at would outlive its tree
        return []


_GLANCE: Final = 32
"""So many pids at most in one glance: of a long series most are gone."""


class TreeSnapshot(NamedTuple):
    """One look at all processes.

    Attributes:
        members: The living processes of the tree without its root, leaves last.
        complete: Whether nobody ended since the look before, or under the looker's eyes. One who did may
            have left a child behind that is too young to be in this look.
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
        job_id: Also whoever carries this id in its environment.
    """
    return TreeScan(root, job_id).look().members


class TreeScan:
    """A series of looks for one tree; see `tree` for the arguments.

    Whoever needs no second look gets none, so that the looks after the first are fast enough to catch a
    process that lives for a millisecond, also where init keeps thousands of dead ones.
    """

    def __init__(self, root: ProcessIdentity | int, job_id: str | None = None) -> None:
        self._root = root
        self._root_pid = root if isinstance(root, int) else root.pid
        self._marks = _marks(root, job_id), _part_mark(job_id)
        self._strangers: frozenset[int] = frozenset()  # not of the tree, or dead
        self._living: frozenset[int] = frozenset()  # members
        self._seats: frozenset[int] = frozenset()  # of dead members that led a session
        self._ended: frozenset[int] = frozenset()  # in the look before
        self._begun: int | None = None  # the last pid that was given when the last look began
        self._over: int | None = None  # and when it was over

    def look(self) -> TreeSnapshot:
        """Look once at all processes."""
        self._begun = newest_pid()
        running = {process for process in all_pids() if process != os.getpid()}
        self._strangers &= running
        self._seats = self._still(self._seats & running, self._begun)
        stats = self._read(running - (self._strangers - {self._root_pid}))
        ended = frozenset(pid for pid, stat in stats.items() if _has_ended(stat))
        family = self._family(stats, self._seats)
        self._strangers |= family.strangers(self._strangers | {os.getpid(), self._root_pid})
        self._seats |= family.seats()
        members = family.living()
        self._living = frozenset(member.pid for member in members)
        complete, self._ended = ended <= self._ended, ended
        self._over = newest_pid()
        return TreeSnapshot(members, complete, family.groups())

    def glance(self) -> TreeSnapshot | None:
        """Look at those only that began since the last look: pids are given in order. It takes some 0.1 ms,
        and is never complete.

        Returns:
            None where nobody began, or nobody can say so.
        """
        before, newest = self._begun, newest_pid()
        if before is None or newest is None or newest <= before:
            return None
        youngest = range(max(before, newest - _GLANCE) + 1, newest + 1)
        stats = self._read({self._root_pid, *youngest} - {os.getpid()})
        family = self._family(stats, self._still(self._seats | self._living, newest))
        family.keep(leads_threads)
        self._begun = self._over = newest
        members = family.living()
        self._living |= {member.pid for member in members}
        return TreeSnapshot(members, complete=False, groups=family.groups())

    def _still(self, pids: frozenset[int], newest: int | None) -> frozenset[int]:
        """Return those whose number was not given again since."""
        before = self._over
        if before is None or newest is None:
            return pids
        if before <= newest:
            return frozenset(pid for pid in pids if not before < pid <= newest)
        return frozenset(pid for pid in pids if newest < pid <= before)

    def _read(self, pids: set[int]) -> dict[int, Stat | None]:
        # The youngest first: they are those who may be gone in a moment.
        return {pid: stat_of(pid) for pid in sorted(pids, reverse=True)}

    def _family(self, stats: dict[int, Stat | None], elders: frozenset[int]) -> _Family:
        there = {pid: stat for pid, stat in stats.items() if stat is not None}
        family = _Family(self._root, self._root_pid, there, elders)
        if self._marks[0]:
            family.adopt_carriers(*self._marks)
        return family


def _marks(root: ProcessIdentity | int, job_id: str | None) -> set[bytes]:
    """Return what a member's environment holds, each as it stands there."""
    lane = root.lane if isinstance(root, ProcessIdentity) else ""
    marks = {JOB_VARIABLE: job_id, LANE_VARIABLE: lane}
    return {f"{name}={value}".encode() for name, value in marks.items() if value}


def _part_mark(job_id: str | None) -> bytes:
    """Return how the mark of a part of the job begins: an item of a batch carries `<job id>.<number>`."""
    return f"{JOB_VARIABLE}={job_id}.".encode() if job_id else b"\0"  # which no variable can hold


class _Family:
    """The closure of parents and sessions over one look at all processes."""

    def __init__(
        self,
        root: ProcessIdentity | int,
        root_pid: int,
        stats: dict[int, Stat],
        elders: frozenset[int],
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
        for elder in elders:
            self._adopt(elder)
        if _reused(root):
            self._root_stat = None
        else:
            self._adopt(root_pid)

    def adopt_carriers(self, wanted: set[bytes], part: bytes) -> None:
        """Take in whoever carries one of these marks, or one that begins with `part`, and did not start
        before the root."""
        since = self._root_stat.start_ticks if self._root_stat else 0
        for pid, stat in self._stats.items():
            # A zombie shows no environment, and init may leave it there for a while.
            if pid not in self._members and stat.alive and stat.start_ticks >= since:
                environment = environment_of(pid)
                if not environment:
                    self._undecided.add(pid)  # about to become another program, or not ours to read
                elif not wanted.isdisjoint(environment) or any(one.startswith(part) for one in environment):
                    self._members[pid] = stat
                    self._adopt(pid)

    def living(self) -> list[ProcessIdentity]:
        return [identity_of(pid, stat.start_ticks) for pid, stat in self._members.items() if stat.alive]

    def groups(self) -> frozenset[int]:
        return frozenset(stat.group for stat in self._members.values() if stat.group > 1)

    def keep(self, wanted: Callable[[int], bool]) -> None:
        """Let go of the members that are not wanted."""
        self._members = {pid: stat for pid, stat in self._members.items() if wanted(pid)}

    def strangers(self, known: frozenset[int]) -> frozenset[int]:
        """Whoever needs no second look: the dead, and those that are not of the tree. That is certain only
        where the same is certain of their parents, as `known` or in this look: the child of one that is gone
        by now may be the child of a member at the next look."""
        certain = known | self._stats.keys() | {0, 1}
        open_ones = [pid for pid, stat in self._stats.items() if stat.alive and stat.parent not in certain]
        unsettled = set(open_ones) | self._undecided
        for pid in open_ones:  # grows while it is walked
            fresh = [child for child in self._next_to.get(pid, ()) if child not in unsettled]
            unsettled.update(fresh)
            open_ones += fresh
        living = {pid for pid, stat in self._members.items() if stat.alive}
        dead = {pid for pid, stat in self._stats.items() if not stat.alive}
        return frozenset(self._stats.keys() - living - (unsettled - dead))

    def seats(self) -> frozenset[int]:
        """The dead members whose sessions may hold others: nothing else leads from them to anybody."""
        dead = (pid for pid, stat in self._members.items() if not stat.alive and stat.session == pid)
        return frozenset(dead)

    def _adopt(self, pid: int) -> None:
        queue = [pid]
        for elder in queue:
            for younger in self._next_to.get(elder, ()):
                if younger not in self._members:
                    self._members[younger] = self._stats[younger]
                    queue.append(younger)


def _reused(root: ProcessIdentity | int) -> bool:
    """Whether somebody else has the root's pid now, perhaps this very process."""
    if isinstance(root, int):
        return False
    now = identify(root.pid)
    return now is not None and now != root


def _has_ended(stat: Stat | None) -> bool:
    return stat is None or not (stat.alive or stat is FOREIGN)
