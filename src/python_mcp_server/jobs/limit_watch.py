"""The limits of one job, as its server keeps them: a timer for its time, the pool's monitor for the rest."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import InvalidInput, LimitExceeded
from python_mcp_server.limits import DISK, MEMORY, time_breach
from python_mcp_server.model import JobState, Outcome
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.outcomes import failure_of
from python_mcp_server.pool.worker.streams import STREAMS
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.enforce import LimitChecker, check_here

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from python_mcp_server.jobs.inline import InlineWorker
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.limits import Breach, Limits
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
    """Return the meter of the files of a call that is about to be sent to this worker; None without limits.
    The worker's logs have the output of its last call until it begins the next.
    """
    if call.limits is None or not isinstance(worker, WorkerHandle):
        return None
    logs = [f"{worker.log_folder}/{name}" for name in STREAMS]
    return DiskMeter((call.folder, *logs), old_files=logs)


class LimitWatch:
    """Reports once that a running body has exceeded one of its limits."""

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        monitor: LimitMonitor,
        on_breach: Callable[[EndReason], None],
    ) -> None:
        """Make the watch; nothing is checked yet.

        Args:
            limits: The limits.
            loop: Where `on_breach` is called.
            monitor: Checks memory, CPU time and disk space in a thread.
            on_breach: Gets the reason to end the body.
        """
        self._limits = limits
        self._loop = loop
        self._monitor = monitor
        self._on_breach = on_breach
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Watched | None = None
        self._worker: WorkerHandle | None = None

    def start(self, worker: WorkerHandle | InlineWorker, disk: DiskMeter | None) -> None:
        """Start to watch the body that was sent to this worker.

        Args:
            worker: The worker.
            disk: Measures the files of the call.
        """
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
