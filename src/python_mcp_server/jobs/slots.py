"""Whose turn it is among the background jobs of all servers that share a home.

A job has a place while its record says that it runs and the process behind it lives: so a crash frees
its place, and there is no count that could be wrong. It takes one by going from pending to running under
a short lock. Handed-over calls run already: they are counted, and never refused.

The pool counts the calls that somebody waits for; the background jobs are counted here only.


Whether the machine has memory for one more background job."""

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
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.store.contract import JobStore


_log: Final = logging.getLogger(__name__)
_LOCK: Final = "places"
_LOOK_S: Final = 0.5
"""Between two looks while jobs of this process wait: those of others end unseen."""

_COURTESY_S: Final = 2.0
"""How long an older job of another server goes first though it does not take the free place: its server
may be stopped. Guessed: starting a worker takes 0.1 s, on a busy machine ten times as long."""


class Claim(Enum):
    """What became of a try to take a place."""

    TAKEN = auto()  # the record says that the job runs
    FULL = auto()  # others were quicker, or the record cannot be written now
    OVER = auto()  # the job is not queued any more: somebody cancelled it


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """The background jobs of a home at one instant.

    Attributes:
        running: How many have a place.
        line: The ids of those that wait for one and whose server lives, oldest first.
        memory_pressure: How far memory has run out, or None where there is enough.
    """

    running: int
    line: tuple[str, ...]
    memory_pressure: str | None = None

    def room(self, limit: int) -> int:
        """Return how many more may start; without memory one at a time, for it may be others who use it."""
        room = limit - self.running
        return room if self.memory_pressure is None else min(room, 0 if self.running else 1)

    def reason(self, limit: int) -> str | None:
        """Return why the next job must wait, or None if it need not."""
        if self.running < limit:
            return (
                f"waiting for memory: {self.memory_pressure}"
                if self.memory_pressure and self.running
                else None
            )
        jobs = "1 background job runs" if self.running == 1 else f"{self.running} background jobs run"
        return f"waiting for its turn: {jobs} on this machine, the limit is {limit}"


def snapshot(store: JobStore, least_bytes: float = 0) -> SlotSnapshot:
    """Return how the background jobs of this home stand. Blocks.

    Processes of another container cannot be seen from here: their jobs are not counted.

    Args:
        store: Where they lie.
        least_bytes: The memory that must be free for a job to start beside others.

    Raises:
        StoreError: The store cannot be read.
    """
    alive = cache(processes.is_alive)
    background = [job for job in store.live() if job.background]
    running = [job for job in background if job.status is not JobState.PENDING]
    line = [job for job in background if job.status is JobState.PENDING and not job.ending]
    return SlotSnapshot(
        sum(_lives(job.worker or job.owner, alive) for job in running),
        tuple(job.id for job in line if _lives(job.owner, alive)),
        memory_pressure(least_bytes),
    )


def _lives(identity: ProcessIdentity | None, alive: Callable[[ProcessIdentity], bool]) -> bool:
    return identity is not None and alive(identity)


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A queued job, whose it is, and the worker that is to run it; None for this process."""

    id: str
    owner: ProcessIdentity | None
    worker: ProcessIdentity | None


def claim(store: JobStore, job: SlotRequest, limit: int, *, in_turn: bool, least_bytes: float = 0) -> Claim:
    """Let a queued job have a place, if there is one. Blocks.

    Args:
        store: Where it lies.
        job: The job.
        limit: How many may have a place.
        in_turn: Whether older jobs go first.
        least_bytes: The memory that must be free for it to start beside others.

    Raises:
        StoreError, JobNotFound: The record cannot be read or written, or is gone.
    """
    with store.exclusive(_LOCK):
        standing = snapshot(store, least_bytes)
        room = standing.room(limit)
        if room < 1 or (in_turn and job.id in standing.line[room:]):
            return Claim.FULL
        return Claim.TAKEN if start_record(store, job.id, job.owner, job.worker) else Claim.OVER


class BackgroundSlots:
    """The line of one front's background jobs. Everything belongs to its loop."""

    def __init__(self, front: Engine, limit: int, least_bytes: float = 0) -> None:
        self._front = front
        self._least_bytes = least_bytes
        self._limit = max(1, limit)
        self._waiting: dict[str, _Waiter] = {}
        self._called: set[str] = set()
        self._passed_over_since: float | None = None
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def turn(self, job_id: str, tell: Callable[[str | None], None]) -> None:
        """Return when this job may take a lane; `tell` hears why it must wait."""
        if not self._waiting and not self._called:
            self._passed_over_since = None
        waiter = self._waiting[job_id] = _Waiter(self._front.loop.create_future(), tell)
        self._changed.set()
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = self._front.spawn(self._look(), "places")
        try:
            await waiter.called
        except BaseException:
            self._waiting.pop(job_id, None)
            self._called.discard(job_id)
            self.wake()
            raise

    def wake(self) -> None:
        """A job of this process has ended, or left the line: look now."""
        if not self._front.loop.is_closed():  # else whoever calls is let go of with it
            self._changed.set()

    async def close(self) -> None:
        """Look no more; nobody of this process starts a job from now on."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def claim(self, job_id: str, worker: ProcessIdentity | None) -> Claim:
        """Let a job whose turn it is have a place, if there still is one.

        Raises:
            JobNotFound: Its record is gone.
        """
        job = SlotRequest(job_id, self._front.identity, worker)
        in_turn, least = not self._passed_over, self._least_bytes
        work = partial(claim, self._front.store, job, self._limit, in_turn=in_turn, least_bytes=least)
        try:
            return await self._front.in_store(work)
        except (StoreError, OSError) as error:  # also of descriptors, to look at processes with
            _log.warning("job %s cannot be started now, it waits on: %s", job_id, error)
            await asyncio.sleep(_LOOK_S)
            return Claim.FULL
        finally:
            self._called.discard(job_id)

    @property
    def _passed_over(self) -> bool:
        since = self._passed_over_since
        return since is not None and time.monotonic() - since > _COURTESY_S

    async def _look(self) -> None:
        while self._waiting:
            self._changed.clear()
            try:
                standing = await self._front.in_store(snapshot, self._front.store, self._least_bytes)
                self._call(standing)
            except (StoreError, OSError) as error:
                self._tell(f"waiting for its turn: {error}")
            if self._waiting:
                await within(self._changed.wait(), _LOOK_S)

    def _call(self, standing: SlotSnapshot) -> None:
        """Call those whose turn it is, and tell the others why they wait."""
        self._called.intersection_update(standing.line)
        own = [job_id for job_id in standing.line if job_id in self._waiting or job_id in self._called]
        room = max(0, standing.room(self._limit))
        chosen = {*standing.line[:room]}.intersection(own)
        if chosen or not own or (room == 0 and not self._passed_over):
            self._passed_over_since = None
        elif self._passed_over_since is None:
            self._passed_over_since = time.monotonic()
        if self._passed_over:
            chosen = {*own[:room]}
        for job_id in chosen & self._waiting.keys():
            waiter = self._waiting.pop(job_id)
            if not waiter.called.done():  # else it was cancelled this instant
                self._called.add(job_id)
                waiter.called.set_result(None)
        self._tell(standing.reason(self._limit))

    def _tell(self, reason: str | None) -> None:
        for waiter in self._waiting.values():
            waiter.tell(reason)


@dataclass(frozen=True, slots=True)
class _Waiter:
    called: asyncio.Future[None]
    tell: Callable[[str | None], None]


_SHARE: Final = 0.1
"""Of all memory: on a small machine no more than this is kept free; guessed."""


def memory_pressure(least_bytes: float) -> str | None:
    """Return how far memory has run out, or None where there is enough. Blocks, for a millisecond.

    Args:
        least_bytes: What must be available; 0 for no such look.
    """
    if not least_bytes:
        return None
    now = memory()
    wanted = min(least_bytes, _SHARE * now.total)
    if now.available >= wanted:
        return None
    return f"{now.available / MB:.0f} MB are free, {wanted / MB:.0f} MB must be"
