"""Reads the live records all the time, and checks what no answer of a server shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from chaos_testing.environment import SLOTS, Environment

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_INTERVAL_S: Final = 0.2


class RecordMonitor:
    """Compares each read of the live records with the one before."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._before: dict[str, Job] = {}

    async def run(self) -> None:
        """Read until the actors are to stop."""
        while await self._environment.pause(_INTERVAL_S):
            jobs = {job.id: job for job in await asyncio.to_thread(self._environment.observer.live)}
            self._note_end_requests(jobs)
            self._count(jobs)
            self._before = jobs

    def _note_end_requests(self, jobs: dict[str, Job]) -> None:
        """Note queued jobs with an end reason: their bodies must never start."""
        for job in jobs.values():
            if job.ending is not None and job.status.value == "pending":
                self._environment.history.end_requested(job.id)

    def _count(self, jobs: dict[str, Job]) -> None:
        """Count the slots in use between the last read and this one.

        A call that was handed over needs no slot, so only jobs count that were queued.
        """
        from python_mcp_server import processes

        both = [(self._before.get(job.id), job) for job in jobs.values()]
        stayed = [now for former, now in both if former and _same_run(former, now)]
        alive = [job for job in stayed if job.worker is not None and processes.is_alive(job.worker)]
        history = self._environment.history
        queued = [job.id for job in alive if history.known(job.id).queued]
        history.peak_slots = max(history.peak_slots, len(queued))
        if len(queued) > SLOTS:
            history.add_breach(f"{len(queued)} jobs ran at once in {SLOTS} slots: {', '.join(queued)}")


def _same_run(former: Job, now: Job) -> bool:
    running = former.status.value == now.status.value == "running"
    return running and (former.worker, former.started_at) == (now.worker, now.started_at)
