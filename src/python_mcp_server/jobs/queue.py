"""Which queued jobs start next: the one order of all servers of a home, and what is released into it.

A job that waits for a time or for other jobs is in a list of its own and costs nothing until then, and so is
one whose key is taken. The ready jobs of one queue, one server and one kind of condition form a group, in the
order of their ranks: if the first of a group may not start, no other one may, unless its key alone holds it
back; then it goes behind its key. So a look reads the first jobs of each group, however many wait.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.capacity import Capacity, SlotLimits, capacity_of, nothing_taken
from python_mcp_server.jobs.chains import release_after
from python_mcp_server.jobs.concurrency_keys import put_behind_key, release_key
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.recovery import PENDING_AGAIN, can_be_started, recovered
from python_mcp_server.model import Job, ProcessIdentity, utc_now
from python_mcp_server.store.keys import AFTER, DELAYED, ENDING, READY, index_key, rank_of

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_RELEASED_AT_ONCE: Final = 200
_SWEPT_AT_ONCE: Final = 20
"""How many lists of jobs that wait for another one are looked at in one round; those of a job that ends while
this server lives are released at once."""


@dataclass(slots=True)
class Look:
    """The result of a look at the queue.

    Attributes:
        chosen: The jobs that this server starts now, in their order.
        capacity: What the background jobs of the home take; nothing is counted where no job is ready.
        left: The jobs that are left to others, which live.
        behind: The jobs that this look has put behind their keys.
        due_s: In how many seconds the next job is due that waits for a time or its rate; None if none does.
        waiting: Whether any job is ready, or may be behind a key.
    """

    capacity: Capacity
    chosen: list[Job] = field(default_factory=list[Job])
    left: set[str] = field(default_factory=set[str])
    behind: list[Job] = field(default_factory=list[Job])
    due_s: float | None = None
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses jobs for one server.

    Attributes:
        store: Where the jobs lie.
        limits: The limits of the server.
        own: The process of the server.
        can_start: Whether this process can run the body of a job.
        starting: The jobs that the server starts at present.
        passed_over: The jobs of other servers that have not taken a free slot for too long.
    """

    store: JobStore
    limits: SlotLimits
    own: ProcessIdentity | None
    can_start: Callable[[Job], bool]
    starting: tuple[Job, ...] = ()
    passed_over: frozenset[str] = frozenset()

    def look(self, rules: QueueRules) -> Look:
        """Choose the jobs that start now. Blocks.

        Raises:
            StoreError: The store cannot be read.
        """
        groups = self.store.index_names(READY)
        look = Look(self._capacity(rules) if groups else nothing_taken(self.store, self.limits, rules))
        look.due_s = self._next_due_s()
        look.waiting = bool(groups) or look.capacity.has_keys
        if look.capacity.free_slots > 0:
            self._choose(look, groups)
        if look.behind:
            self._look_again_at_keys(look, rules)
        return look

    def _capacity(self, rules: QueueRules) -> Capacity:
        return capacity_of(self.store, self.limits, rules, self.starting)[0]

    def _choose(self, look: Look, groups: Iterable[str]) -> None:
        seen = {job.id for job in self.starting}
        queue = list[tuple[str, str, int, Job, Iterator[Job]]]()
        for number, group in enumerate(groups):
            _push(queue, number, self._group(group, look))
        while queue and look.capacity.free_slots > 0:
            _, job_id, number, job, rest = heapq.heappop(queue)
            if job_id not in seen:  # one that moves to another group may be found in both
                seen.add(job_id)
                if not self._consider(look, job):
                    continue  # none of its group may start
            if look.capacity.free_slots > 0:  # else the rest of its group is not read
                _push(queue, number, rest)

    def _consider(self, look: Look, job: Job) -> bool:
        """Take a job into the look, if it may start; return whether others of its group may."""
        held = look.capacity.held_back(job)
        has_place = held is not None and self._is_startable(job) and look.capacity.reserve(job)
        if look.capacity.is_key_taken(job):
            return has_place or self._put_behind_key(look, job)
        if held:
            if (wait := look.capacity.rates.wait(job)) is not None:
                look.due_s = wait[0] if look.due_s is None else min(look.due_s, wait[0])
            return False
        of_another = self._is_of_another(job)
        if not of_another and self.can_start(job):
            look.chosen.append(job)
        elif of_another or (job.call is None and job.owner == self.own):
            look.left.add(job.id)  # to its server, or to another manager of this process
            if job.id in self.passed_over:
                return not of_another
        else:
            return False
        look.capacity.add(job)
        return True

    def _is_startable(self, job: Job) -> bool:
        return self._is_of_another(job) or self.can_start(job)

    def _put_behind_key(self, look: Look, job: Job) -> bool:
        if len(look.behind) >= _RELEASED_AT_ONCE:
            look.due_s = 0.0
            return False
        look.behind.append(job)
        return put_behind_key(self.store, job)

    def _look_again_at_keys(self, look: Look, rules: QueueRules) -> None:
        """Let jobs move up again whose key was left free while this look put them behind it."""
        claimed = (*self.starting, *look.chosen)
        capacity = capacity_of(self.store, self.limits, rules, claimed)[0]
        capacity.reserved = look.capacity.reserved
        free = {job.options.key for job in look.behind if job.options and not capacity.is_key_taken(job)}
        for key in free - {None}:
            release_key(self.store, str(key))
            look.due_s = 0.0

    def _is_of_another(self, job: Job) -> bool:
        return job.owner is not None and job.owner != self.own and not processes.is_gone(job.owner)

    def _group(self, name: str, look: Look) -> Iterator[Job]:
        """Yield the jobs of a group that may be of use: the first alone, because often it may not start.
        Those that go behind their keys meanwhile leave the group.
        """
        seen, fresh, limit = set[str](), True, 1
        while fresh:
            page = self.store.indexed(name, limit)
            unseen = [job for job in page if job.id not in seen]
            for job in unseen:
                seen.add(job.id)
                yield job
            fresh = bool(unseen) and len(page) == limit
            limit = look.capacity.limits.slots + len(self.starting) + 1

    def _next_due_s(self) -> float | None:
        first = [job for name in self.store.index_names(DELAYED) for job in self.store.indexed(name, 1)]
        times = [job.not_before for job in first if job.not_before is not None]
        return max(0.0, (min(times) - utc_now()).total_seconds()) if times else None


def _push(queue: list[tuple[str, str, int, Job, Iterator[Job]]], number: int, group: Iterator[Job]) -> None:
    """Put the next job of a group into the queue, by its rank."""
    if (job := next(group, None)) is not None:
        key = index_key(job)
        heapq.heappush(queue, ("" if key is None else key.rank, job.id, number, job, group))


def release(store: JobStore, limits: SlotLimits, swept: str) -> tuple[str, bool]:
    """Move the jobs whose time has come, or whose predecessors have ended, to those that are ready; settle or
    queue again the jobs whose process is gone. Blocks.

    Args:
        store: Where the jobs lie.
        limits: The limits of the server.
        swept: The list of waiting jobs that the last round ended with.

    Returns:
        The list that this round ended with, and whether every job whose time has come could be moved.

    Raises:
        StoreError: The store cannot be read.
    """
    now, names = rank_of(utc_now()), store.index_names(DELAYED)
    due = [store.indexed(name, _RELEASED_AT_ONCE, now) for name in names]
    moved = [_change(store, job, _due) for job in chain.from_iterable(due)]
    _, lost = capacity_of(store, limits, QueueRules())
    for job in lost:
        _queue_again(store, job)
    for job in store.indexed(ENDING, _RELEASED_AT_ONCE):  # the process that cancelled it may be gone
        recovered(store, job)
    _settle_abandoned(store)
    return _sweep(store, swept), all(moved)


def _due(job: Job) -> Job:
    if job.not_before is None or job.not_before > utc_now() + timedelta(milliseconds=1):
        return job
    return job.evolve(not_before=None, queued_at=job.not_before)


def _queue_again(store: JobStore, job: Job) -> None:
    """Settle a job whose worker is gone, or queue it again if no worker had begun it."""
    if not can_be_started(store, job):
        recovered(store, job)
        return

    def again(found: Job) -> Job:
        same = (found.status, found.owner, found.worker) == (job.status, job.owner, job.worker)
        return found.evolve(**PENDING_AGAIN, owner=None, message=None) if same else found

    _change(store, job, again)


def _settle_abandoned(store: JobStore) -> None:
    """Fail the first jobs of each group that only a server which is gone could start."""
    for name in store.index_names(READY):
        for job in store.indexed(name, 1):
            if job.call is None and job.owner is not None and processes.is_gone(job.owner):
                for other in store.indexed(name, _RELEASED_AT_ONCE):
                    recovered(store, other)


def _sweep(store: JobStore, swept: str) -> str:
    """Release the jobs whose predecessor ended while no server saw it, some lists in each round."""
    names = store.index_names(AFTER)
    following = [name for name in names if name > swept] or list(names)
    for name in following[:_SWEPT_AT_ONCE]:
        predecessor_id = name.removeprefix(AFTER)
        if (predecessor := store.peek(predecessor_id)) is not None:
            recovered(store, predecessor)
        release_after(store, predecessor_id)
    return following[:_SWEPT_AT_ONCE][-1] if following else ""


def _change(store: JobStore, job: Job, change: Callable[[Job], Job]) -> bool:
    try:
        store.update(job.id, change)
    except (StoreError, JobNotFound) as error:
        _log.warning("job %s waits on: %s", job.id, error)
        return False
    return True
