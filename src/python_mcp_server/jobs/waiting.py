"""Why a queued job has not started, in a sentence, for those who read it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.capacity import Capacity, SlotLimits, capacity_of
from python_mcp_server.jobs.queue_rules import read_rules
from python_mcp_server.jobs.record import WAITS_FOR_A_SERVER
from python_mcp_server.jobs.servers import NO_SERVER, has_server
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.keys import READY

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_GROUPS: Final = 1_000
_FRESH_S: Final = 0.2
"""How long a reader takes what it has seen of the home: a list asks for many jobs."""


class WaitingReasons:
    """Tells why jobs wait. The methods block."""

    def __init__(self, store: JobStore, limits: SlotLimits) -> None:
        self._store = store
        self._limits = limits
        self._seen: tuple[float, Capacity, bool] | None = None

    def of(self, job: Job) -> str | None:
        """Return why this queued job waits; None where nothing holds it back but its server."""
        if job.status is not JobState.PENDING or not job.background:
            return None
        if job.waits_for:
            rest = len(job.waits_for) - 1
            return f"waiting for job {job.waits_for[0]}{f' and {rest} more' if rest else ''} to end"
        if job.not_before is not None:
            return f"waiting until {_second(job.not_before)}{_attempt(job)}"
        try:
            capacity, is_served = self._look()
        except (StoreError, OSError) as error:
            return f"waiting for its turn: {error}"
        if held := capacity.held_back(job):
            return held
        ownerless = job.owner is None or job.message == WAITS_FOR_A_SERVER
        return NO_SERVER if ownerless and not is_served else capacity.full()

    def _look(self) -> tuple[Capacity, bool]:
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] > _FRESH_S:
            capacity = capacity_of(self._store, self._limits, read_rules(self._store))[0]
            groups = self._store.index_names(READY)[:_GROUPS]
            capacity.reserve_for(job for name in groups for job in self._store.indexed(name, 1))
            self._seen = now, capacity, has_server(self._store)
        return self._seen[1:]


def _second(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def _attempt(job: Job) -> str:
    retry = None if job.options is None else job.options.retry
    if retry is None or not job.attempts:
        return ""
    last = job.attempts[-1].get("error")
    because = f", after {last.splitlines()[0]}" if isinstance(last, str) and last else ""
    return f" for attempt {job.attempt} of {retry.attempts}{because}"
