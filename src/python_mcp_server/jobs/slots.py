"""The part of an engine that starts queued jobs: it looks which come next, gives them their slots, and wakes
those of this process that wait.

A job takes a slot by changing from pending to running under a short lock. Handed-over calls run already: they
are counted, and never refused. The pool counts the calls that a caller waits for; only the background jobs
are counted here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.capacity import SlotLimits, capacity_of
from python_mcp_server.jobs.concurrency_keys import sweep_keys
from python_mcp_server.jobs.firing import ScheduledWork
from python_mcp_server.jobs.queue import Chooser, Look, release
from python_mcp_server.jobs.queue_rules import read_rules
from python_mcp_server.jobs.record import Started, start_record
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, Outcome, ProcessIdentity
from python_mcp_server.pool import outcomes

if TYPE_CHECKING:
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_LOCK: Final = "queues"
"""The lock of the rules of the queues, too: when a queue is paused, none of its jobs starts any more."""

_FIRST_LOOK_S: Final = 0.2
"""Delay after the opening, so that the first call goes first."""

_LOOK_S: Final = 0.5
"""Between two looks while jobs wait: those of other servers end unseen."""

_IDLE_LOOK_S: Final = 2.0
_RELEASE_S: Final = 1.0
_LEAST_S: Final = 0.01

HEAD_OF_LINE_GRACE_S: Final = 2.0
"""How long an older job of another server goes first although it does not take the free slot; its server may
be stopped. Guessed: starting a worker takes 0.1 s, on a busy machine ten times as long.
"""


class Full(Exception):
    """Raised where a job may not start now after all; the text says why."""


def acquire(
    store: JobStore,
    job_id: str,
    own: ProcessIdentity | None,
    worker: ProcessIdentity | None,
    limits: SlotLimits,
) -> Started:
    """Try to take a slot for a queued job. Blocks.

    Args:
        store: Where the job is stored.
        job_id: The job.
        own: This process.
        worker: The worker that is to run the job; None for this process.
        limits: The limits of this server.

    Raises:
        Full: Others were quicker.
        StoreError, JobNotFound: The record cannot be read or written, or is gone.
    """
    with store.exclusive(_LOCK):
        capacity, _ = capacity_of(store, limits, read_rules(store))

        def admit(job: Job) -> None:
            if (reason := capacity.refusal(job)) is not None:
                raise Full(reason)
            capacity.rates.count(job)

        return start_record(store, job_id, own, worker, admit)


class BackgroundSlots:
    """Starts the queued jobs of one engine. All methods belong to its loop."""

    def __init__(self, services: Services, limits: SlotLimits, can_start: Callable[[Job], bool]) -> None:
        """Make the part; nothing is looked at before `open`.

        Args:
            services: The objects that the parts of the engine share.
            limits: How many jobs run, and the memory that must be free.
            can_start: Whether this process can run the body of a queued job. Called in a thread.
        """
        self._services = services
        self._limits = limits
        self._can_start = can_start
        self._scheduled = ScheduledWork(services.store, max_disk_mb=services.settings.max_disk_mb)
        self._adopt: Callable[[Job], None] | None = None
        self._waiting: dict[str, _Waiter] = {}
        self._starting: dict[str, Job] = {}
        self._left_since: dict[str, float] = {}
        self._swept = ""
        self._swept_keys = ""
        self._release_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Future[Look] | None = None
        self._again = False
        self._full = False
        self._closed = False

    def open(self, adopt: Callable[[Job], None], declared: Sequence[Callable[[JobStore], None]] = ()) -> None:
        """Begin to look for queued jobs; `adopt` is called with each one that this server starts, and each
        `declared`, once, makes a schedule.
        """
        self._adopt = adopt
        self._scheduled.declare(declared)
        self._schedule(_FIRST_LOOK_S)

    async def wait_for_slot(self, job_id: str, set_reason: Callable[[str | None], None]) -> None:
        """Return when this job may take a worker; `set_reason` gets the reason why it must wait."""
        if job_id in self._starting:
            return
        waiter = self._waiting[job_id] = _Waiter(self._services.loop.create_future(), set_reason)
        self.wake()
        try:
            await waiter.called
        except BaseException:
            self._waiting.pop(job_id, None)
            self.drop(job_id)
            raise

    def wake(self) -> None:
        """Look at the queue now, because a job was queued, has ended, or left the queue."""
        if self._looking is not None:
            self._again = True
        else:
            self._schedule(0.0)

    def wake_for_new(self) -> None:
        """Look at the queue because a job was submitted, unless all slots were taken: then an end wakes."""
        if not self._full:
            self.wake()

    def drop(self, job_id: str) -> None:
        """Note that this job no longer starts here."""
        if self._starting.pop(job_id, None) is not None:
            self.wake()

    async def close(self) -> None:
        """Stop looking at the queue: this process starts no background job from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            await asyncio.wait({self._looking})

    async def acquire(
        self, job_id: str, worker: ProcessIdentity | None, set_reason: Callable[[str], None]
    ) -> Started:
        """Take a free slot for a job that was chosen. On failure, `set_reason` gets the reason.

        Raises:
            JobNotFound: Its record is gone.
        """
        services = self._services
        work = partial(acquire, services.store, job_id, services.identity, worker, self._limits)
        try:
            return await services.in_store(work)
        except Full as reason:
            set_reason(str(reason))
        except (StoreError, OSError, MemoryError) as error:  # also of descriptors, to look at processes with
            _log.warning("job %s cannot be started now, it waits on: %s", job_id, error)
            set_reason(f"waiting to start: {error}")
            await asyncio.sleep(_LOOK_S)
            if isinstance(error, StoreError) and error.in_doubt:
                return Started.UNSURE
        finally:
            self._starting.pop(job_id, None)
        return Started.NOT_YET

    # ---- looking

    def _schedule(self, delay_s: float) -> None:
        if self._closed or self._services.loop.is_closed():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._services.loop.call_later(delay_s, self._begin)

    def _begin(self) -> None:
        self._again = False
        # no task: a loop that is closed without us complains of one that has not begun
        self._looking = self._services.begin_in_store(self._choose)
        self._looking.add_done_callback(self._on_look)

    def _on_look(self, looking: asyncio.Future[Look]) -> None:
        delay_s = _LOOK_S
        try:
            look = looking.result()
            self._full = look.capacity.free_slots < 1 and not self._again
            self._start(look)
            delay_s = self._delay_s(look)
        except (StoreError, OSError, MemoryError) as error:
            _log.debug("the queue cannot be read now: %s", error)
            self._tell(f"waiting for its turn: {error}")
        finally:
            self._looking = None
            self._schedule(0.0 if self._again else delay_s)

    def _choose(self) -> Look:
        store, now, moved = self._services.store, time.monotonic(), True
        if is_round := now >= self._release_at:
            self._release_at = now + _RELEASE_S
            self._swept, moved = release(store, self._limits, self._swept)
        fires_s = self._scheduled.fire()
        over = {job_id for job_id, since in self._left_since.items() if now - since > HEAD_OF_LINE_GRACE_S}
        starting = tuple(self._starting.values())
        chooser = Chooser(
            store, self._limits, self._services.identity, self._may_start, starting, frozenset(over)
        )
        rules = read_rules(store)
        if is_round:
            capacity = partial(capacity_of, store, self._limits, rules, starting)
            self._swept_keys = sweep_keys(store, lambda: capacity()[0], self._swept_keys)
        look = chooser.look(rules)
        due_s = look.due_s if moved else None  # what is due and cannot be written waits for the next release
        look.due_s = min((each_s for each_s in (due_s, fires_s) if each_s is not None), default=None)
        return look

    def _may_start(self, job: Job) -> bool:
        return job.id in self._waiting or (self._adopt is not None and self._can_start(job))

    def _delay_s(self, look: Look) -> float:
        delay_s = _LOOK_S if look.waiting or self._waiting else _IDLE_LOOK_S
        if look.due_s is None or look.due_s >= delay_s:
            return delay_s
        self._release_at = 0.0
        return max(look.due_s, _LEAST_S)

    def _start(self, look: Look) -> None:
        """Start the chosen jobs, and tell the others of this process why they still wait."""
        now = time.monotonic()
        kept = look.left | self._left_since.keys()
        self._left_since = {
            job_id: self._left_since.get(job_id, now) for job_id in kept if job_id in look.left
        }
        for job in look.chosen:
            if self._closed:
                return
            self._starting[job.id] = job
            waiter = self._waiting.pop(job.id, None)
            if waiter is None:
                self._adopt_one(job)
            elif not waiter.called.done():  # else it was cancelled this instant
                waiter.called.set_result(None)
        self._tell(look.capacity.full())

    def _adopt_one(self, job: Job) -> None:
        try:
            if self._adopt is not None:
                self._adopt(job)
        except Exception as error:  # noqa: BLE001  it would be chosen again and again, before all others
            _log.warning("job %s cannot be started: %s", job.id, error)
            self.drop(job.id)
            failed = Outcome(failure=outcomes.failure_of(error))
            self._services.in_background(partial(settle, self._services.store, job.id, failed))

    def _tell(self, reason: str | None) -> None:
        for waiter in self._waiting.values():
            waiter.set_reason(reason)


@dataclass(frozen=True, slots=True)
class _Waiter:
    called: asyncio.Future[None]
    set_reason: Callable[[str | None], None]
