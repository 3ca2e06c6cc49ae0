"""What is not as it should be in a home: the one report of `doctor`, `/healthz` and `py_health`.

A look reads a bounded number of records, and none that has ended but dead letters and the last jobs of
schedules. Every problem has a text that anyone may read, and a detail with names, numbers and paths, which is
for the account's owner, or about the reader's own jobs. `jobs.server_health` adds what a server knows of
itself.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server import processes
from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.jobs.capacity import Capacity, SlotLimits, capacity_of, pressure
from python_mcp_server.jobs.firing import ScheduleFiles
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.jobs.queue_rules import QueueRules, read_rules
from python_mcp_server.jobs.servers import has_server
from python_mcp_server.jobs.spec import missing_part
from python_mcp_server.model import MB, Job, JobState, cut, iso, utc_now
from python_mcp_server.options import DEFAULT_QUEUE
from python_mcp_server.processes.host import is_shortage
from python_mcp_server.store.journal import Position
from python_mcp_server.store.keys import ATTACHED, DEAD, DELAYED, READY, queue_of, rank_of

if TYPE_CHECKING:
    from python_mcp_server.jobs.schedule import Schedule
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

SLOW_S: Final = 5.0
"""How long a lock is held, or a look takes, until that is a problem. Guessed: some ms are usual."""

_IDLE: Final = timedelta(seconds=10)
"""How long a job that could start waits until that is a problem; guessed: a server looks twice a second."""

_LATE: Final = timedelta(seconds=60)
_SILENT: Final = timedelta(seconds=60)
_LEAST_FREE_BYTES: Final = 50_000_000
_PROBE: Final = b"x" * 4096
_TAIL_BYTES: Final = 4096
_OF_JOBS: Final = frozenset({"server", "queue", "queues", "owners", "dead_letters", "schedules"})
"""The checks whose details are about the reader's own jobs where a principal reads them."""

_GROUPS: Final = 100
_COUNTED: Final = 1_000
_READ: Final = 200
_NAMED: Final = 5
_TEXT_CHARS: Final = 200


class Condition(StrEnum):
    """How well something is."""

    OK = "ok"
    DEGRADED = "degraded"  # it serves, and something needs a person
    FAILING = "failing"  # it cannot serve


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        check: The name of the check that found it.
        text: What is wrong, in words that anyone may read, without a full stop.
        advice: What to do, in a sentence.
        detail: The names, numbers and paths of it; empty where the reader may not know them.
        failing: Whether the server cannot serve for it.
    """

    check: str
    text: str
    advice: str
    detail: str = ""
    failing: bool = False

    @property
    def status(self) -> Condition:
        """How bad it is."""
        return Condition.FAILING if self.failing else Condition.DEGRADED


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a look at a server and its home.

    Attributes:
        problems: What is not as it should be.
    """

    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> Condition:
        """The worst status of the problems."""
        if any(problem.failing for problem in self.problems):
            return Condition.FAILING
        return Condition.DEGRADED if self.problems else Condition.OK

    def to_json(self, *, details: bool = True) -> dict[str, Any]:
        """Return `{"status": ..., "problems": [{"check", "status", "text", "advice", "detail"}]}`."""
        problems = list[dict[str, str]]()
        for each in self.problems:
            told = {"check": each.check, "status": each.status.value, "text": each.text}
            told |= {"advice": each.advice} | ({"detail": each.detail} if details and each.detail else {})
            problems.append(told)
        return {"status": self.status.value, "problems": problems}


class HomeHealth:
    """Looks at one home, for any process. The methods block, and one call runs at a time for each object."""

    def __init__(self, store: JobStore, settings: Settings, *, served: bool = False) -> None:
        """Make it; nothing is looked at.

        Args:
            store: Where the jobs lie.
            settings: The settings of the servers of the home.
            served: Whether this process is such a server.
        """
        self._store = store
        self._settings = settings
        self._served = served
        self._limits = SlotLimits.of(settings)
        self._files = HomeFiles(store, "health")
        self._schedules = ScheduleFiles(store)

    def look(self, principal: str | None = None) -> Health:
        """Return what is not as it should be; with a principal, of jobs only of its own."""
        began = time.monotonic()
        checks = (self._home, self._records, self._locks, self._journal, self._pressure, self._retention)
        found = [problem for check in checks for problem in self._tried(check)]
        found += self._tried(partial(self._schedules_of, principal))
        for of_jobs in (self._queue, self._dead_letters):
            found += self._tried(partial(of_jobs, principal), vital=True)
        if principal is not None:
            found = [each if each.check in _OF_JOBS else replace(each, detail="") for each in found]
        if (took_s := time.monotonic() - began) > SLOW_S:
            found.append(slow(took_s))
        return Health(tuple({(each.check, each.text): each for each in found}.values()))

    def _tried(self, check: Callable[[], Iterable[Problem]], *, vital: bool = False) -> list[Problem]:
        """Return what a check finds; what cannot be read is a problem, too, and without its jobs a server
        cannot serve.
        """
        try:
            return list(check())
        except (StoreError, OSError) as error:
            failing = vital and not (isinstance(error, StoreLocked) or is_shortage(error))
            text = "the jobs cannot be read" if vital else "a part of the home cannot be read"
            advice = "Run `python-mcp-server doctor`, which says why."
            return [Problem("store", text, advice, str(error), failing=failing)]

    # ---- the home

    def _home(self) -> Iterator[Problem]:
        advice = "Free space on its disk, make it writable, or set PYTHON_MCP_HOME to another directory."
        home = str(self._store.home)
        if not os.path.isdir(home):
            yield Problem("home", "the home is gone", "Bring it back, or start the server again.", home)
            return
        try:
            self._files.write("probe", data=_PROBE)
        except (StoreError, OSError) as error:
            yield Problem("home", "nothing can be written into the home", advice, str(error))
            return
        if (free := shutil.disk_usage(home).free) < _LEAST_FREE_BYTES:
            advice = "Free space on its disk: python-mcp-server clean, python-mcp-server jobs prune."
            yield Problem(
                "space", "the disk of the home is almost full", advice, f"{free / MB:.0f} MB are free"
            )

    def _records(self) -> Iterator[Problem]:
        damaged = self._store.damaged()
        if damaged:
            text, advice = "damaged records were set aside", "Look at them, and remove them."
            yield Problem("records", text, advice, f"{len(damaged)} in {damaged[0].parent}")
        self._schedules.all()  # it sets aside those that are damaged
        names = HomeFiles(self._store, "schedules").names()
        if lost := [name for name in names if name.endswith(".damaged")]:
            text = "damaged schedules were set aside, and no longer start jobs"
            yield Problem("damage", text, "Add them again, and remove the files.", _listed(lost))

    def _locks(self) -> Iterator[Problem]:
        if held := self._store.long_locks(SLOW_S):
            text, advice = "a process holds a lock of the store for long", "Wait for the process, or end it."
            yield Problem("locks", text, advice, _listed(held))

    def _journal(self) -> Iterator[Problem]:
        journal = self._store.journal
        try:
            end = journal.end()
            journal.read(Position(end.number, max(0, end.offset - _TAIL_BYTES)))
        except (StoreError, OSError) as error:
            advice = "Make the directory `events` of the home readable, or remove it."
            yield Problem("journal", "the events of the jobs cannot be read", advice, str(error))

    def _pressure(self) -> Iterator[Problem]:
        if (reason := pressure(self._limits)) is not None:
            text, advice = "the machine is short of memory or cores", "End other programs, or wait for them."
            yield Problem("pressure", f"{text}, so jobs start one at a time", advice, reason)

    def _retention(self) -> Iterator[Problem]:
        if (reason := Keeper(self._store, Bounds.of(self._settings)).blocked()) is not None:
            text = "the jobs take more disk space than the home may keep, and none of them may be removed"
            advice = "Wait for jobs that run, cancel one, look at the dead letters, or raise the bound."
            yield Problem("retention", text, advice, reason)

    # ---- the queue

    def _queue(self, principal: str | None) -> Iterator[Problem]:
        """Look at the queues, and at the jobs that run or could."""
        try:
            rules = read_rules(self._store)
        except StoreError as error:
            detail = str(error) if principal is None else ""
            text = "the rules of the queues cannot be read, so no queued job starts"
            yield Problem("rules", text, "Correct the file.", detail)
            return
        groups = self._store.index_names(READY)[:_GROUPS]
        first = [job for name in groups for job in self._store.indexed(name, 1)]
        heads = [job for job in first if job.belongs_to(principal)]
        yield from self._held_queues(rules, heads, principal)
        capacity, lost = capacity_of(self._store, self._limits, rules)
        capacity.reserve_for(first)
        yield from self._waiting(heads, capacity, principal)
        attached = self._store.indexed(ATTACHED, _READ)
        stale = [job for job in (*lost, *attached) if job.belongs_to(principal) and _is_stale(job)]
        stale = [job for job in stale if self._store.peek(job.id) == job]
        if stale:
            text = "jobs run no longer, and no server has noted their end"
            advice = "Look at one, which settles it: python-mcp-server jobs show."
            yield Problem("owners", text, advice, _jobs(stale))

    def _held_queues(self, rules: QueueRules, heads: list[Job], principal: str | None) -> Iterator[Problem]:
        waiting = {DEFAULT_QUEUE if job.options is None else job.options.queue for job in heads}
        for names, state in ((rules.paused, "paused"), (rules.closed, "being drained")):
            held = sorted(waiting.intersection(names))
            if principal is None:  # another client may not know how many jobs of others wait
                held = [f"{name} ({self._count(name)})" for name in held]
            if held:
                advice = "Run `python-mcp-server queues resume` with its name when it may go on."
                yield Problem("queues", f"jobs wait in a queue that is {state}", advice, _listed(held))

    def _count(self, queue: str) -> str:
        count = 0
        for name in self._store.index_names(f"{READY}{queue}")[:_GROUPS]:
            if queue_of(name) == queue:
                count += self._store.index_count(name, _COUNTED - count)
        return _counted(count)

    def _waiting(self, heads: list[Job], capacity: Capacity, principal: str | None) -> Iterator[Problem]:
        before = rank_of(utc_now() - _IDLE)
        names = self._store.index_names(DELAYED)
        due = [job for name in names for job in self._store.indexed(name, _READ, before)]
        late = [job for job in heads if utc_now() - (job.queued_at or job.created_at) > _IDLE]
        late += [job for job in due if job.belongs_to(principal)]
        late.sort(key=lambda job: job.queued_at or job.not_before or job.created_at)
        if late and not self._served and not has_server(self._store):
            advice = "Start one: python-mcp-server serve, with the same PYTHON_MCP_HOME."
            yield Problem("server", "jobs wait, and no server of the home is seen here", advice, _jobs(late))
        elif able := [job for job in late if capacity.refusal(job) is None]:
            text = "a job could run, and no server starts it"
            advice = "Start a server that has its code and its working directory, or cancel it."
            yield Problem("queue", text, advice, _jobs(able))

    # ---- ends

    def _dead_letters(self, principal: str | None) -> Iterator[Problem]:
        names = sorted(self._store.index_names(DEAD), reverse=True)[:_GROUPS]
        each = 1 if principal is None else _READ
        letters = (job for name in names for job in self._store.indexed(name, each))
        if principal is None:
            newest, count = next(letters, None), 0
            for name in names:
                count += self._store.index_count(name, _COUNTED - count)
        else:
            own = [job for job in islice(letters, _READ) if job.belongs_to(principal)]
            newest, count = (own[0] if own else None), len(own)
        if newest is not None:
            error = cut((newest.error or "").partition("\n")[0], _TEXT_CHARS)
            detail = f"{_counted(count)}, the newest is {newest.id} ({newest.label}), failed at "
            detail += f"{iso(newest.completed_at)}: {error}"
            advice = "Look at them with `python-mcp-server jobs dead`, and retry or drop them."
            yield Problem("dead_letters", "jobs have failed for good", advice, detail)

    def _schedules_of(self, principal: str | None) -> Iterator[Problem]:
        found: dict[str, list[str]] = {}
        own = [each for each in self._schedules.all() if each.belongs_to(principal) and not each.paused]
        for schedule in own[:_READ]:
            for text, reason in self._faults(schedule):
                found.setdefault(text, []).append(f"{schedule.name} ({reason})")
        advice = "`python-mcp-server schedules list` has it; change it, or remove it."
        for text, names in found.items():
            yield Problem("schedules", text, advice, _listed(names))

    def _faults(self, schedule: Schedule) -> Iterator[tuple[str, str]]:
        now, lost = utc_now(), schedule.missed_times
        if (missing := missing_part(schedule.job.get("call") or {})) is not None:
            yield "what a schedule runs is gone", missing
        if lost.last is not None and (schedule.last is None or lost.last > schedule.last):
            yield "the last time of a schedule started no job", f"{iso(lost.last)}: {lost.why}"
        if (due := schedule.next_time(now)) is not None and due < now - _LATE:
            yield "a time of a schedule has passed, and no server has started its job", f"{iso(due)}"
        last = self._store.peek(schedule.jobs[-1]) if schedule.jobs else None
        if last is not None and last.status is JobState.FAILED:
            error = cut((last.error or "").partition("\n")[0], _TEXT_CHARS)
            yield "the last job of a schedule failed", f"{last.id}: {error}"


def slow(took_s: float) -> Problem:
    """Return the problem of a look at the home that takes long."""
    advice = "See what keeps its disk busy; use a disk of this machine."
    return Problem("store", "the disk of the home answers slowly", advice, f"a look took {took_s:.1f} s")


def _is_stale(job: Job) -> bool:
    """Whether no process is left that could note the end of a job."""
    identities = [each for each in (job.owner, job.worker) if each is not None]
    if any(processes.is_out_of_reach(each) for each in identities):
        return job.missed_at is not None and utc_now() - job.missed_at > _SILENT
    return all(processes.is_gone(each) for each in identities)


def _jobs(jobs: list[Job]) -> str:
    return _listed([f"{job.id} ({job.label}), since {iso(job.queued_at or job.created_at)}" for job in jobs])


def _counted(count: int) -> str:
    return f"{count} or more jobs" if count >= _COUNTED else "1 job" if count == 1 else f"{count} jobs"


def _listed(names: Sequence[str]) -> str:
    left = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f"; and {left} more" if left > 0 else "")
