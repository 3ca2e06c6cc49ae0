"""The queued jobs that this process submitted, as far as it must remember them, and the checks of new ones.

The queue is in the store. A job whose spec is in its record needs nothing here; the request of another one,
such as a closure, is kept until its body has run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.jobs.arguments import encoded
from python_mcp_server.jobs.chains import release_after
from python_mcp_server.jobs.concurrency_keys import KeyedSubmissions
from python_mcp_server.jobs.expiry import Expiry
from python_mcp_server.jobs.queue_rules import QueueRules, read_rules
from python_mcp_server.jobs.record import WAITS_FOR_A_SERVER
from python_mcp_server.jobs.sameness import is_shared, let_share, same_or_new
from python_mcp_server.jobs.settle import never_started, settle
from python_mcp_server.jobs.spec import from_spec
from python_mcp_server.jobs.spending import counted
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity
from python_mcp_server.options import JobOptions
from python_mcp_server.pool.pickling import dump_arguments
from python_mcp_server.store.keys import DELAYED, KEY, READY, queue_of

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_BOUNDS_LOCK: Final = "bounds"
_REMEMBERED: Final = 4096
"""How many requests are kept that a record has, too: a job is started from it a little faster."""

_REQUEUED_AT_ONCE: Final = 200
"""How many queued jobs are left to other servers at a close, while this process goes on: it takes 0.3 ms
each."""


class Submissions:
    """The queued jobs of one engine. The methods belong to its loop, but `can_start`."""

    def __init__(self, services: Services, runs: Container[str]) -> None:
        """Begin without jobs.

        Args:
            services: The objects that the parts of the engine share.
            runs: The ids of the jobs that run in this process.
        """
        self._services = services
        self._runs = runs
        self._keyed = KeyedSubmissions(services.store)
        self._held: dict[str, Request] = {}
        self._to_cancel: set[str] = set()
        self._found: dict[str, Request] = {}
        self._writing: set[asyncio.Future[Job]] = set()
        self._starts: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    async def add(self, job: Job, request: Request) -> Job:
        """Write the record of a new job, and return it; or return the job that this submission repeats.

        Raises:
            InvalidInput: An argument cannot be sent to a worker, its queue takes no more jobs, its client has
                spent its quota, or an option cannot be kept.
            JobNotFound: A job that it is to wait for does not exist.
            StoreError: The record cannot be written.
        """
        if job.call is None or len(self._held) < _REMEMBERED:
            self.hold(job.id, request)
        elif self._services.settings.on_exit == "cancel":
            self._to_cancel.add(job.id)
        writing = self._services.begin_in_store(self._create, job, request)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        try:
            made = await asyncio.shield(writing)
        except asyncio.CancelledError:
            if not is_shared(job):  # its submitter may submit it again, and others may have got it meanwhile
                writing.add_done_callback(partial(self._withdraw, job.id))
            raise
        except BaseException:
            self._held.pop(job.id, None)
            raise
        if made.id != job.id:
            self._held.pop(job.id, None)
        return made

    def _create(self, job: Job, request: Request) -> Job:
        if job.call is None and request.isolation == "process":  # else it would fail when it starts
            arguments = encoded(request.args), encoded(dict(request.kwargs))
            dump_arguments((job.id, job.label, *arguments), self._services.main, in_thread=True)
        return create_queued(self._services.store, job, request, self._keyed)

    def _withdraw(self, job_id: str, writing: asyncio.Future[Job]) -> None:
        """Cancel a job whose submitter has left while the record was written."""
        self._held.pop(job_id, None)
        if not writing.cancelled() and writing.exception() is None:
            settled = partial(settle, self._services.store, job_id, Outcome(cancelled=True))
            self._services.in_background(settled)

    def hold(self, job_id: str, request: Request) -> None:
        """Keep the request of a job that waits for its next attempt, or its first."""
        self._held[job_id] = request

    def can_start(self, job: Job) -> bool:
        """Whether this process can run the body of a queued job. Blocks, because it may import a module."""
        if job.id in self._runs:
            return False
        request = self._held.get(job.id)
        if request is None and job.call is not None:
            request = from_spec(job)
        if request is not None:
            self._found[job.id] = request
            let_share(self._services.store, job, request)
        return request is not None

    def take(self, job: Job) -> Request | None:
        """Return the request of a job that starts here, and forget it; None where its run has left the queue
        this instant.
        """
        self.let_go(job.id)
        return self._found.pop(job.id, None)

    def let_go(self, job_id: str) -> None:
        """Forget the request of a job that starts or has ended, and wake those that wait for its start."""
        self._held.pop(job_id, None)
        self._to_cancel.discard(job_id)
        if (start := self._starts.pop(job_id, None)) is not None:
            start.set()

    def holds(self, job_id: str) -> bool:
        """Whether the job waits for its start, as far as this engine knows, which has its request."""
        return job_id in self._held

    def start_of(self, job_id: str) -> asyncio.Event:
        """Return the event that is set when the job starts here. Take it before a look at the job: a start
        between the look and the wait is not missed then.
        """
        return self._starts.setdefault(job_id, asyncio.Event())

    async def close(self) -> None:
        """Leave the queued jobs to other servers, and fail those that only this process can start."""
        if self._writing:
            await asyncio.wait(self._writing)
        held, self._held = {*self._held, *self._to_cancel}, {}
        work = partial(_leave, self._services.store, held, self._services)
        await self._services.in_store(work)


def create_queued(store: JobStore, job: Job, request: Request, keyed: KeyedSubmissions | None = None) -> Job:
    """Write the record of a job that waits in the background, and return it; or return the job that this
    submission repeats. Blocks. `keyed` knows of the jobs that were created before.

    Raises:
        InvalidInput: Its queue takes no more jobs, its client has spent its quota, or an option cannot be
            kept.
        JobNotFound: A job that it is to wait for does not exist.
        StoreError: The record cannot be written.
    """
    return same_or_new(store, job, request, partial(write_queued, store, job, keyed))


def write_queued(store: JobStore, job: Job, keyed: KeyedSubmissions | None = None) -> None:
    """Write the record of a job that waits in the background and that no other one is the same as. Blocks.

    Raises:
        InvalidInput, JobNotFound, StoreError: As `create_queued`.
    """
    rules = read_rules(store) if job.options is not None else QueueRules()
    is_bound = job.options is not None and job.options.queue in rules.bounds
    with store.exclusive(_BOUNDS_LOCK) if is_bound else nullcontext():  # else others fill it meanwhile
        if job.options is not None:
            _check(store, job.options, rules)
        with counted(store, job):
            Expiry(store).add(job)
            (keyed or KeyedSubmissions(store)).create(job)
    for other_id in job.waits_for:
        release_after(store, other_id)


def _check(store: JobStore, options: JobOptions, rules: QueueRules) -> None:
    queue = options.queue
    if queue in rules.closed:
        raise InvalidInput(f"the queue {queue!r} is being drained; it takes no new jobs until it is resumed")
    bound = rules.bounds.get(queue)
    if bound is not None and (waiting := count_waiting(store, queue, bound)) >= bound:
        raise InvalidInput(f"the queue {queue!r} is full: {waiting} jobs wait, {bound} may; submit it later")
    for name, count in options.resources.items():
        there = rules.resources.get(name, 0)
        if count > there:
            raise InvalidInput(
                f"the job takes {count} of the resource {name!r}, and there are {there} in all"
            )
    for other_id in options.after:
        if store.peek(other_id) is None:
            raise JobNotFound(other_id)


def count_waiting(store: JobStore, queue: str, most: int) -> int:
    """Return how many jobs of a queue wait for a slot, behind their key or for a time; counting stops at
    `most`.
    """
    names = chain.from_iterable(map(store.index_names, (READY, KEY, DELAYED)))
    count = 0
    for name in (name for name in names if queue_of(name) == queue):
        count += store.index_count(name, most - count)
        if count >= most:
            break
    return count


def _leave(store: JobStore, held: set[str], services: Services) -> None:
    """Leave the queued jobs of this process to other servers, or end those of this manager where that is set
    or none can.
    """
    ending = services.settings.on_exit == "cancel" or services.record_locator is None
    for job in _own_jobs(store, held, services, also_others=not ending):
        try:
            if ending:
                settle(store, job.id, Outcome(cancelled=True), only_if=_is_queued)
            elif job.call is None:
                settle(store, job.id, Outcome(failure=never_started()), only_if=_is_queued)
            else:
                store.update(job.id, partial(_released, services.identity))
        except (StoreError, JobNotFound) as error:
            _log.warning("job %s was not left to another server: %s", job.id, error)


def _own_jobs(store: JobStore, held: set[str], services: Services, *, also_others: bool) -> list[Job]:
    try:
        own = [job for job_id in held if (job := store.peek(job_id)) is not None and _is_queued(job)]
        for name in (*store.index_names(READY), *store.index_names(KEY)) if also_others else ():
            if len(own) < _REQUEUED_AT_ONCE and (head := store.indexed(name, 1)):
                mine = head[0].owner is not None and head[0].owner == services.identity
                others = [job for job in store.indexed(name, _REQUEUED_AT_ONCE) if job.id not in held]
                own += [job for job in others if mine and job.call is not None]  # else of another manager
    except StoreError as error:
        _log.warning("the queued jobs are found by other servers when this process is gone: %s", error)
        return []
    return own


def _is_queued(job: Job) -> bool:
    return job.status is JobState.PENDING and not job.ending


def _released(own: ProcessIdentity | None, job: Job) -> Job:
    if not _is_queued(job) or job.owner != own:
        return job
    return job.evolve(owner=None, message=WAITS_FOR_A_SERVER)
