"""One who looks at the records on the disk all the time, for what nobody is ever told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attack.stage import PLACES, Stage

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_LOOK_S: Final = 0.2


class Watcher:
    """Holds each look against the one before."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before: dict[str, Job] = {}

    async def run(self) -> None:
        """Look until the attack is over."""
        while await self._stage.rest(_LOOK_S):
            jobs = {job.id: job for job in await asyncio.to_thread(self._stage.eyes.live)}
            self._doomed(jobs)
            self._count(jobs)
            self._before = jobs

    def _doomed(self, jobs: dict[str, Job]) -> None:
        """Once a verdict is on a queued job, its body never starts."""
        for job in jobs.values():
            if job.ending is not None and job.status.value == "pending":
                self._stage.history.doomed(job.id)

    def _count(self, jobs: dict[str, Job]) -> None:
        """Count who had a place between the last look and this one. A call that was handed over needs
        none, so only those count that had to wait for theirs."""
        from python_mcp_server import processes

        both = [(self._before.get(job.id), job) for job in jobs.values()]
        stayed = [now for former, now in both if former and _same_run(former, now)]
        alive = [job for job in stayed if job.worker is not None and processes.is_alive(job.worker)]
        history = self._stage.history
        queued = [job.id for job in alive if history.known(job.id).queued]
        history.peak = max(history.peak, len(queued))
        if len(queued) > PLACES:
            history.gave_up(f"{len(queued)} jobs ran at once in {PLACES} places: {', '.join(queued)}")


def _same_run(former: Job, now: Job) -> bool:
    running = former.status.value == now.status.value == "running"
    return running and (former.worker, former.started_at) == (now.worker, now.started_at)
