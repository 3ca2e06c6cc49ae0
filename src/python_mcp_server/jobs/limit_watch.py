"""The limits of one job, as its server keeps them: a timer for its time, the pool's monitor for the rest. And
the bound on the disk space of all jobs of a home.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from python_mcp_server.errors import InvalidInput, LimitExceeded, StoreError
from python_mcp_server.jobs.home_bound import full_sentence
from python_mcp_server.limits import DISK, MEMORY, Limits, number_words, time_breach
from python_mcp_server.model import MB, JobState, Outcome
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.outcomes import failure_of
from python_mcp_server.pool.steady import to_thread
from python_mcp_server.pool.worker.streams import STREAMS
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.enforce import LimitChecker, check_here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from python_mcp_server.jobs.inline import InlineWorker
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.limits import Breach
    from python_mcp_server.model import Call
    from python_mcp_server.pool.monitor import LimitMonitor, Watched

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndReason:
    """The reason why a body is ended from outside.

    Attributes:
        ending: The `ending` that its record gets before the kill.
        sentence: The text for its record and its caller; None for a cancel.
        peak_bytes: The memory that exceeded the limit.
    """

    ending: str = JobState.CANCELLED.value
    sentence: str | None = None
    peak_bytes: int = 0

    @property
    def patient(self) -> bool:
        """Whether the body may clean up first: not while it fills the machine's memory or disk."""
        return self.ending not in (MEMORY, DISK)

    def outcome(self) -> Outcome:
        """Return the outcome of a job that is ended for this reason."""
        if self.sentence is None:
            return Outcome(cancelled=True, touched=True)
        failure = failure_of(LimitExceeded(self.sentence, self.ending))
        return Outcome(failure=replace(failure, traceback_text=""), touched=True)


def check_limits(request: Request) -> None:
    """Refuse limits that cannot be enforced here.

    Raises:
        InvalidInput: The text names the value.
    """
    limits = request.limits
    if limits is None:
        return
    check_here(limits)
    if request.isolation == "inline" and (limits.needs_monitoring or limits.single_use_worker):
        given = ", ".join(name for name in limits.to_json() if name != "timeout_seconds")
        raise InvalidInput(f"{given} cannot be kept with isolation='inline'; only timeout_seconds can")


def disk_meter(call: Call, worker: WorkerHandle | InlineWorker) -> DiskMeter | None:
    """Return the meter of the files of a call that is about to be sent to this worker; None where no limit
    needs one. The worker's logs have the output of its last call until it begins the next.
    """
    limits = call.limits
    if limits is None or not limits.needs_monitoring or not isinstance(worker, WorkerHandle):
        return None
    logs = [f"{worker.log_folder}/{name}" for name in STREAMS]
    return DiskMeter((call.folder, *logs), old_files=() if limits.disk_limit_mb is None else logs)


class LimitWatch:
    """Reports once that a running body has exceeded one of its limits."""

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        monitor: LimitMonitor,
        on_breach: Callable[[EndReason], None],
    ) -> None:
        self._limits = limits
        self._loop = loop
        self._monitor = monitor
        self._on_breach = on_breach
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Watched | None = None
        self._worker: WorkerHandle | None = None

    def start(self, worker: WorkerHandle | InlineWorker, disk: DiskMeter | None) -> None:
        """Start to watch the body that was sent to this worker."""
        limits = self._limits
        if limits.timeout_seconds is not None:
            self._timer = self._loop.call_later(limits.timeout_seconds, self._report, time_breach(limits))
        if limits.needs_monitoring and isinstance(worker, WorkerHandle):
            pid = worker.pid
            self._worker = worker
            checker = LimitChecker(limits, lambda: (pid,), from_now=True, disk=disk)
            self._watched = self._monitor.watch(checker, self._report_from_thread)

    def stop(self) -> None:
        """Stop watching. A worker that exceeded a limit this instant may be held by the kernel, so it takes
        no further call.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._watched is not None and self._worker is not None:
            self._worker.retired |= not self._monitor.unwatch(self._watched)
            self._watched = None

    def _report_from_thread(self, breach: Breach) -> None:
        try:
            self._loop.call_soon_threadsafe(self._report, breach)
        except RuntimeError:
            _log.debug("the loop is closed: a detached worker looks after its limits by itself")

    def _report(self, breach: Breach) -> None:
        self._on_breach(EndReason(breach.kind, breach.sentence, breach.peak_bytes))


_USES: Final = 20
"""A measurement is used for this many times as long as it took; guessed: a twentieth of a core."""

_LONG_S: Final = 0.1
"""A call does not wait for a measurement that takes longer, as long as the last one is known."""


_LOOK_S: Final = 0.25
"""The least time between two measurements while several calls run; the monitor looks as often at one call."""


class Endable(Protocol):
    """The part of a run that the bound of its home needs."""

    call: Call

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the run."""
        ...

    def request_end(self, reason: EndReason) -> None:
        """End the body for this reason, unless it has ended."""
        ...


class HomeDisk:
    """Keeps the jobs of a home within `PYTHON_MCP_MAX_DISK_MB`. All methods belong to the loop.

    A call gets what is left as its limit. The space is not known at each call, because a home may have
    100,000 folders: it is measured in a thread when a call comes and the last measurement is old, and always
    before a call is refused. While several calls run, each of which may take all that is left, it is measured
    again and again; where they exceed the bound together, the one that takes most is ended.
    """

    def __init__(self, services: Services, home: Path, most_mb: float, runs: Mapping[str, Endable]) -> None:
        self._services = services
        self._home = home
        self._most_mb = most_mb
        self._runs = runs
        self._taken_mb: float | None = None
        self._took_s = 0.0
        self._use_until = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self._next_look: asyncio.TimerHandle | None = None

    async def admit(self, request: Request) -> Request:
        """Return the request with a disk limit of what the home has left, if that is less than its own. An
        inline body cannot have that limit.

        Raises:
            StoreError: The home has nothing left.
        """
        if self._is_over():  # or not known; a prune may have made room
            await self._measured_from_now()
        elif time.monotonic() > self._use_until:
            measuring = self._measure_soon()
            if self._took_s < _LONG_S:
                await asyncio.shield(measuring)
        left_mb = round(self._most_mb - (self._taken_mb or 0.0), 1)
        if left_mb <= 0:
            raise StoreError(full_sentence(self._home, self._taken_mb or 0.0, self._most_mb))
        self._look_later()
        if request.isolation == "inline":
            return request
        limits = request.limits or Limits()
        own_mb = math.inf if limits.disk_limit_mb is None else limits.disk_limit_mb
        return replace(request, limits=replace(limits, disk_limit_mb=min(own_mb, left_mb)))

    @property
    def is_full(self) -> bool:
        """Whether the last measurement says that the home has nothing left."""
        return self._taken_mb is not None and self._taken_mb >= self._most_mb

    def forget(self) -> None:
        """Measure again at the next call, because a job has met its disk limit."""
        self._taken_mb = self._measuring = None

    def _is_over(self) -> bool:
        """Whether the bound is met, or no measurement says that it is not."""
        return self._taken_mb is None or self._taken_mb >= self._most_mb

    async def _measured_from_now(self) -> None:
        """Wait for a measurement; where one is under way, it may have passed what was pruned since."""
        is_under_way = self._measuring is not None and not self._measuring.done()
        await asyncio.shield(self._measure_soon())
        if is_under_way and self._is_over():
            await asyncio.shield(self._measure_soon())

    def _measure_soon(self) -> asyncio.Task[None]:
        if self._measuring is None or self._measuring.done():
            self._measuring = self._services.spawn(self._measure(), "home-disk")
        return self._measuring

    async def _measure(self) -> None:
        began = time.monotonic()
        meter = DiskMeter((f"{self._home}/output", f"{self._home}/lanes"))
        taken_mb = self._taken_mb
        try:
            taken_mb = await to_thread(self._services.loop, None, meter.measure) / MB
        except (OSError, RuntimeError) as error:  # no descriptors or no thread: that is not the call's fault
            _log.warning("the disk space of %s is not known: %s", self._home, error)
        if self._measuring is not asyncio.current_task() and self._taken_mb is not None:
            return  # forgotten, and a later measurement has ended before
        self._taken_mb = taken_mb
        self._took_s = time.monotonic() - began
        self._use_until = began + _USES * self._took_s

    def _look_later(self) -> None:
        if self._next_look is None:
            pause_s = max(_LOOK_S, _USES * self._took_s)
            self._next_look = self._services.loop.call_later(pause_s, self._look)

    def _look(self) -> None:
        self._next_look = None
        if len(self._running()) > 1:  # one alone has a limit of its own
            self._services.spawn(self._keep_bound(), "home-disk-bound")

    def _running(self) -> list[Endable]:
        return [run for run in list(self._runs.values()) if run.loop is self._services.loop]

    async def _keep_bound(self) -> None:
        await asyncio.shield(self._measure_soon())
        if self._taken_mb is not None and self._taken_mb > self._most_mb:
            await self._end_largest(self._running(), self._taken_mb)
        self._look_later()

    async def _end_largest(self, running: list[Endable], taken_mb: float) -> None:
        """End the run that takes most, if it is these runs that exceed the bound, and not those of others."""
        meters = [DiskMeter((run.call.folder,)) for run in running]
        work = partial(_measured_mb, meters)
        sizes_mb = await to_thread(self._services.loop, None, work)
        if sum(sizes_mb) < taken_mb - self._most_mb:
            return
        size_mb, largest = max(zip(sizes_mb, running, strict=True), key=lambda each: each[0])
        sentence = (
            f"ended because the jobs in {self._home} took {taken_mb:.0f} MB together, this one most, "
            f"{size_mb:.0f} MB, and PYTHON_MCP_MAX_DISK_MB is {number_words(self._most_mb)}"
        )
        largest.request_end(EndReason(DISK, sentence))


def _measured_mb(meters: list[DiskMeter]) -> list[float]:
    return [meter.measure() / MB for meter in meters]
