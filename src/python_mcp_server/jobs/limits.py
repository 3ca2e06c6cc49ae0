"""The limits of one attempt, as its front keeps them: a timer for its time, a guard for the rest."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import InvalidInput, LimitExceeded
from python_mcp_server.limits import MEMORY, time_breach
from python_mcp_server.model import JobState, Outcome
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.outcomes import failure_of
from python_mcp_server.runner.limits import LimitChecker, check_here

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.inline import InlineLane
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.limits import Breach, Limits
    from python_mcp_server.pool.monitor import Watched

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndReason:
    """Why a body is ended from outside.

    Attributes:
        ending: What its record says before the kill.
        sentence: What its record and its caller are told; None for a cancel.
        peak_bytes: The memory that was too much.
    """

    ending: str = JobState.CANCELLED.value
    sentence: str | None = None
    peak_bytes: int = 0

    @property
    def patient(self) -> bool:
        """Whether the body may clean up first: not while it eats the machine's memory."""
        return self.ending != MEMORY

    def outcome(self) -> Outcome:
        """Return how the attempt ends."""
        if self.sentence is None:
            return Outcome(cancelled=True, touched=True)
        failure = failure_of(LimitExceeded(self.sentence, self.ending))
        return Outcome(failure=replace(failure, traceback_text=""), touched=True)


def check_limits(request: Request) -> None:
    """Refuse limits that cannot be kept here.

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


class LimitWatch:
    """Tells, once, when a running body has gone over a limit."""

    def __init__(self, front: Engine, limits: Limits | None, exceed: Callable[[EndReason], None]) -> None:
        """Make it; nothing is looked at yet.

        Args:
            front: Whose loop and pool look.
            limits: The limits; None for none.
            exceed: Called on the loop.
        """
        self._front = front
        self._limits = limits
        self._exceed = exceed
        self._timer: asyncio.TimerHandle | None = None
        self._watched: Watched | None = None
        self._lane: WorkerHandle | None = None

    def begin(self, lane: WorkerHandle | InlineLane) -> None:
        """The body was sent to this lane."""
        limits = self._limits
        if limits is None:
            return
        if limits.timeout_seconds is not None:
            self._timer = self._front.loop.call_later(limits.timeout_seconds, self._tell, time_breach(limits))
        if limits.needs_monitoring and isinstance(lane, WorkerHandle):
            pid = lane.pid
            guard = LimitChecker(limits, lambda: (pid,), from_now=True)
            self._lane = lane
            self._watched = self._front.pool.limiter.watch(guard, self._hear)

    def end(self) -> None:
        """The body has ended, or never began. Where it was over a limit this instant, its worker may be
        held by the kernel, so it takes no further call."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watched is not None and self._lane is not None:
            self._lane.retired |= not self._front.pool.limiter.unwatch(self._watched)
            self._watched = None

    def _hear(self, breach: Breach) -> None:
        """In the thread that looks."""
        try:
            self._front.loop.call_soon_threadsafe(self._tell, breach)
        except RuntimeError:
            _log.debug("the loop is closed: a kept worker looks after its limits by itself")

    def _tell(self, breach: Breach) -> None:
        self._exceed(EndReason(breach.kind, breach.sentence, breach.peak_bytes))
