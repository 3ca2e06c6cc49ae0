"""Slots for background jobs, shared by all servers of one home.

A job holds a slot while its record says that it runs and the process behind it lives: so a crash frees the
slot, and no separate count can be wrong. A job takes a slot by changing from pending to running under a short
lock. Handed-over calls run already: they are counted, and never refused. The pool counts the calls that a
caller waits for; only the background jobs are counted here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes
from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.budget import within
from python_mcp_server.jobs.record import start_record
from python_mcp_server.model import MB, JobState, ProcessIdentity
from python_mcp_server.processes.host import memory

if TYPE_CHECKING:
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.store.contract import JobStore


_log: Final = logging.getLogger(__name__)
_LOCK: Final = "places"
_LOOK_S: Final = 0.5
"""Between two looks while jobs of this process wait: those of others end unseen."""

HEAD_OF_LINE_GRACE_S: Final = 2.0
"""How long an older job of another server goes first although it does not take the free slot; its server may
be stopped. Guessed: starting a worker takes 0.1 s, on a busy machine ten times as long.
"""


class Claim(Enum):
    """The result of an attempt to acquire a slot."""

    TAKEN = auto()  # the record says that the job runs
    FULL = auto()  # others were quicker, or the record cannot be written now
    OVER = auto()  # the job is no longer queued: it was cancelled


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """The background jobs of a home at one instant.

    Attributes:
        running: How many hold a slot.
        queue: The ids of the jobs that wait for a slot and whose server lives, oldest first.
        memory_pressure: A sentence on how short memory is, or None where there is enough.
    """

    running: int
    queue: tuple[str, ...]
    memory_pressure: str | None = None

    def free_slots(self, limit: int) -> int:
        """Return how many more may start; where memory is short one at a time, because other programs may use
        it.
        """
        free = limit - self.running
        return free if self.memory_pressure is None else min(free, 0 if self.running else 1)

    def reason(self, limit: int) -> str | None:
        """Return why the next job must wait, or None if it need not wait."""
        if self.running < limit:
            return (
                f"waiting for memory: {self.memory_pressure}"
                if self.memory_pressure and self.running
                else None
            )
        jobs = "1 background job runs" if self.running == 1 else f"{self.running} background jobs run"
        return f"waiting for its turn: {jobs} on this machine, the limit is {limit}"


def snapshot(store: JobStore, least_bytes: float = 0) -> SlotSnapshot:
    """Return the background jobs of this home. Blocks.

    Processes of another container cannot be seen from here: their jobs are not counted.

    Args:
        store: Where the jobs are stored.
        least_bytes: The memory that must be free for a job to start beside others.

    Raises:
        StoreError: The store cannot be read.
    """
    alive = cache(processes.is_alive)
    background = [job for job in store.live() if job.background]
    running = [job for job in background if job.status is not JobState.PENDING]
    queue = [job for job in background if job.status is JobState.PENDING and not job.ending]
    return SlotSnapshot(
        sum(_lives(job.worker or job.owner, alive) for job in running),
        tuple(job.id for job in queue if _lives(job.owner, alive)),
        memory_pressure(least_bytes),
    )


def _lives(identity: ProcessIdentity | None, alive: Callable[[ProcessIdentity], bool]) -> bool:
    return identity is not None and alive(identity)


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A queued job, its owner, and the worker that is to run it; None for this process."""

    id: str
    owner: ProcessIdentity | None
    worker: ProcessIdentity | None


def acquire(store: JobStore, job: SlotRequest, limit: int, *, in_turn: bool, least_bytes: float = 0) -> Claim:
    """Try to take a slot for a queued job. Blocks.

    Args:
        store: Where the job is stored.
        job: The job.
        limit: How many slots there are.
        in_turn: Whether older jobs go first.
        least_bytes: The memory that must be free for the job to start beside others.

    Raises:
        StoreError, JobNotFound: The record cannot be read or written, or is gone.
    """
    with store.exclusive(_LOCK):
        slots = snapshot(store, least_bytes)
        free = slots.free_slots(limit)
        if free < 1 or (in_turn and job.id in slots.queue[free:]):
            return Claim.FULL
        return Claim.TAKEN if start_record(store, job.id, job.owner, job.worker) else Claim.OVER


class BackgroundSlots:
    """The queue of one engine's background jobs. All methods belong to its loop."""

    def __init__(self, services: Services, limit: int, least_bytes: float = 0) -> None:
        self._services = services
        self._least_bytes = least_bytes
        self._limit = max(1, limit)
        self._waiting: dict[str, _Waiter] = {}
        self._called: set[str] = set()
        self._passed_over_since: float | None = None
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def wait_for_slot(self, job_id: str, set_reason: Callable[[str | None], None]) -> None:
        """Return when this job may take a worker; `set_reason` gets the reason why it must wait."""
        if not self._waiting and not self._called:
            self._passed_over_since = None
        waiter = self._waiting[job_id] = _Waiter(self._services.loop.create_future(), set_reason)
        self._changed.set()
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = self._services.spawn(self._look(), "slots")
        try:
            await waiter.called
        except BaseException:
            self._waiting.pop(job_id, None)
            self._called.discard(job_id)
            self.wake()
            raise

    def wake(self) -> None:
        """Check the queue now, because a job of this process has ended or left the queue."""
        if not self._services.loop.is_closed():  # otherwise the caller is abandoned with it
            self._changed.set()

    async def close(self) -> None:
        """Stop checking the queue: this process starts no background job from now on."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def acquire(
        self, job_id: str, worker: ProcessIdentity | None, set_reason: Callable[[str], None]
    ) -> Claim:
        """Take a free slot for the next job in the queue. On failure, `set_reason` gets the reason.

        Raises:
            JobNotFound: Its record is gone.
        """
        job = SlotRequest(job_id, self._services.identity, worker)
        in_turn, least = not self._passed_over, self._least_bytes
        work = partial(acquire, self._services.store, job, self._limit, in_turn=in_turn, least_bytes=least)
        try:
            return await self._services.in_store(work)
        except (StoreError, OSError, MemoryError) as error:  # also of descriptors, to look at processes with
            _log.warning("job %s cannot be started now, it waits on: %s", job_id, error)
            set_reason(f"waiting to start: {error}")
            await asyncio.sleep(_LOOK_S)
            return Claim.FULL
        finally:
            self._called.discard(job_id)

    @property
    def _passed_over(self) -> bool:
        since = self._passed_over_since
        return since is not None and time.monotonic() - since > HEAD_OF_LINE_GRACE_S

    async def _look(self) -> None:
        while self._waiting:
            self._changed.clear()
            try:
                slots = await self._services.in_store(snapshot, self._services.store, self._least_bytes)
                self._call(slots)
            except (StoreError, OSError, MemoryError) as error:
                self._tell(f"waiting for its turn: {error}")
            if self._waiting:
                await within(self._changed.wait(), _LOOK_S)

    def _call(self, slots: SlotSnapshot) -> None:
        """Wake the next jobs in the queue, and tell the others why they still wait."""
        self._called.intersection_update(slots.queue)
        own = [job_id for job_id in slots.queue if job_id in self._waiting or job_id in self._called]
        free = max(0, slots.free_slots(self._limit))
        chosen = {*slots.queue[:free]}.intersection(own)
        if chosen or not own or (free == 0 and not self._passed_over):
            self._passed_over_since = None
        elif self._passed_over_since is None:
            self._passed_over_since = time.monotonic()
        if self._passed_over:
            chosen = {*own[:free]}
        for job_id in chosen & self._waiting.keys():
            waiter = self._waiting.pop(job_id)
            if not waiter.called.done():  # else it was cancelled this instant
                self._called.add(job_id)
                waiter.called.set_result(None)
        self._tell(slots.reason(self._limit))

    def _tell(self, reason: str | None) -> None:
        for waiter in self._waiting.values():
            waiter.set_reason(reason)


@dataclass(frozen=True, slots=True)
class _Waiter:
    called: asyncio.Future[None]
    set_reason: Callable[[str | None], None]


_SHARE: Final = 0.1
"""The most that is kept free, as a share of all memory; guessed, for small machines."""


def memory_pressure(least_bytes: float) -> str | None:
    """Return a sentence on how short memory is, or None where there is enough. Blocks for a millisecond.

    Args:
        least_bytes: The memory that must be available; 0 for no check.
    """
    if not least_bytes:
        return None
    now = memory()
    wanted = min(least_bytes, _SHARE * now.total)
    if now.available >= wanted:
        return None
    return f"{now.available / MB:.0f} MB are free, {wanted / MB:.0f} MB must be"
