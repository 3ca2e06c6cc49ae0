"""Who belongs to a process tree.

A tree is more than psutil's children. A process belongs to the tree of a root when it descends from
it, or is in a session that the root (or one of its descendants) leads, or carries the job's id or the
lane's in its environment: so double forks, `setsid` and `nohup` are found too. A worker is a subreaper
on Linux, so orphans below it stay below it while it lives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import NamedTuple

import psutil

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import (
    JOB_VARIABLE,
    LANE_VARIABLE,
    LINUX,
    SHORTAGES,
    Stat,
    identify,
    identity_of,
    read_stat,
)


class Scan(NamedTuple):
    """One look at all processes.

    Attributes:
        members: The living processes of the tree without its root, leaves last.
        strangers: The pids of those that need no second look: not of the tree, or dead.
        complete: Whether nobody ended under the scanner's eyes. One who did may have left a child
            behind that is too young to be in this look.
        groups: The process groups of the members, also of those that died meanwhile.
    """

    members: list[ProcessIdentity]
    strangers: frozenset[int]
    complete: bool
    groups: frozenset[int]


def tree(root: ProcessIdentity | int, job_id: str | None = None) -> list[psutil.Process]:
    """Return the living processes of the tree without its root, leaves last.

    Costs a scan of all processes: call it off the event loop.

    Args:
        root: The root's identity, or its pid where it is certain to be the one that is meant.
        job_id: Also whoever carries this id in its environment.
    """
    found = (_handle(member) for member in scan(root, job_id).members)
    return [process for process in found if process is not None]


def _handle(member: ProcessIdentity) -> psutil.Process | None:
    try:
        process = psutil.Process(member.pid)
    except psutil.Error:
        return None
    return process if identify(member.pid) == member else None


def scan(
    root: ProcessIdentity | int, job_id: str | None = None, strangers: frozenset[int] = frozenset()
) -> Scan:
    """Look once at all processes; see `tree` for the first arguments.

    Args:
        root: The root.
        job_id: The job's id.
        strangers: Those of the look before, which need no second one. So a series of looks is fast
            enough to catch a process that lives for a millisecond.
    """
    root_pid = root if isinstance(root, int) else root.pid
    running = {process for process in _pids() if process != os.getpid()}
    looked_at = running - (strangers - {root_pid})
    # The youngest first: they are those who may be gone in a moment.
    looks = {pid: _look(pid) for pid in sorted(looked_at, reverse=True)}
    stats = {pid: stat for pid, stat in looks.items() if stat is not None}
    complete = len(stats) == len(looks)  # before the family takes the root out
    family = _Family(root, root_pid, stats)
    if wanted := _marks(root, job_id):
        family.adopt_carriers(wanted, _part_mark(job_id))
    return Scan(family.living(), (strangers & running) | family.strangers(), complete, family.groups())


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

    def __init__(self, root: ProcessIdentity | int, root_pid: int, stats: dict[int, Stat]) -> None:
        self._root_stat = stats.pop(root_pid, None)
        self._stats = stats
        self._members: dict[int, Stat] = {}
        self._undecided: set[int] = set()
        self._next_to: defaultdict[int, list[int]] = defaultdict(list)
        for pid, stat in stats.items():
            self._next_to[stat.parent].append(pid)
            if stat.session != stat.parent:
                self._next_to[stat.session].append(pid)
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
                environment = _environment(pid)
                if not environment:
                    self._undecided.add(pid)  # about to become another program, or not ours to read
                elif not wanted.isdisjoint(environment) or any(one.startswith(part) for one in environment):
                    self._members[pid] = stat
                    self._adopt(pid)

    def living(self) -> list[ProcessIdentity]:
        return [identity_of(pid, stat.start_ticks) for pid, stat in self._members.items() if stat.alive]

    def groups(self) -> frozenset[int]:
        return frozenset(stat.group for stat in self._members.values() if stat.group)

    def strangers(self) -> frozenset[int]:
        # A dead member leads to nobody unless it leads a session; init may keep thousands of them.
        leading = {pid for pid, stat in self._members.items() if stat.alive or stat.session == pid}
        return frozenset(self._stats.keys() - leading - self._undecided)

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


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if LINUX else psutil.pids()


def _look(pid: int) -> Stat | None:
    return read_stat(pid) if LINUX else _psutil_stat(pid)


def _psutil_stat(pid: int) -> Stat | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            alive = process.status() != psutil.STATUS_ZOMBIE
            return Stat(process.ppid(), _session(pid), int(process.create_time() * 100), alive, _group(pid))
    except (psutil.Error, OSError):
        return None


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if hasattr(os, "getpgid") else 0
    except OSError:
        return 0


def _session(pid: int) -> int:
    getsid = getattr(os, "getsid", None)
    return getsid(pid) if getsid else 0


def _environment(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where it is gone, or not ours to look at."""
    try:
        if not LINUX:
            return [f"{name}={value}".encode() for name, value in psutil.Process(pid).environ().items()]
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return (file.read() or b"").split(b"\0")[:-1]
    except (psutil.Error, OSError) as error:
        if getattr(error, "errno", None) in SHORTAGES:
            raise  # whoever is not looked at would outlive its tree
        return []
