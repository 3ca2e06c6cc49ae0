"""The rules of the queues of a run, the quota of a client, the schedules, and the actor that pauses and
resumes queues.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from chaos_testing.choices import seeded_random
from chaos_testing.environment import Environment
from python_mcp_server.jobs.quota import Quota

if TYPE_CHECKING:
    from python_mcp_server.jobs.queues import Queues
    from python_mcp_server.model import Job

QUEUES: Final = ("default", "default", "thin", "paused")
"""The queues of jobs, with their weights; `paused` is paused now and then."""

QUEUE_LIMITS: Final = {"thin": 2}
RESOURCES: Final = {"gpu": 1, "disk": 3}
BOUNDED: Final = "bounded 1.0"
"""The client that has a quota."""

QUOTA: Final = Quota(jobs=12, cpu_seconds=1000, memory_mb=400, per="5s")
"""So small that it is spent now and then; its CPU time is counted, and never spent."""

SCHEDULES: Final = {"skip": 1.0, "wait": 1.3, "start": 1.0}
"""The seconds between the jobs of each schedule, by its name and its rule for an overlap."""

_PAUSED: Final = "paused"


class QueuePauser:
    """Pauses a queue at random, and looks whether a job of it starts meanwhile."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._rng = seeded_random(environment.seed, "pauser")

    async def prepare(self) -> None:
        """Write the rules of the run."""
        await asyncio.to_thread(self._write_rules)

    def _write_rules(self) -> None:
        from python_mcp_server.jobs.quotas import Quotas

        for name, count in RESOURCES.items():
            self._queues.resource(name, count)
        for name, most in QUEUE_LIMITS.items():
            self._queues.limit(name, most)
        Quotas(self._environment.observer.store).set(BOUNDED, **QUOTA.to_json())
        self._add_schedules()

    def _add_schedules(self) -> None:
        from chaos_testing.expected import label_of
        from chaos_testing.queue_bodies import queued_body
        from python_mcp_server.jobs.request import Request
        from python_mcp_server.jobs.schedules import BlockingSchedules
        from python_mcp_server.options import JobOptions, Retry

        clients = {"start": BOUNDED}

        options = JobOptions(retry=Retry(2, wait=0, lost_workers=True))
        for number, (overlap, every_s) in enumerate(SCHEDULES.items()):
            arguments = ("q-snoozes", number, str(self._environment.notes))
            label = label_of("q-snoozes", number)
            how = {"tool": "scheduled", "client": clients.get(overlap)}
            request = Request(queued_body, arguments, label=label, options=options, **how)
            schedules = BlockingSchedules(self._environment.observer.store)
            missed = self._rng.choice(("once", "all"))
            schedules.add(request, every=every_s, name=overlap, overlap=overlap, missed=missed)

    def _remove_schedules(self) -> None:
        from python_mcp_server.jobs.schedules import BlockingSchedules

        for name in SCHEDULES:
            BlockingSchedules(self._environment.observer.store).remove(name)

    async def run(self) -> None:
        """Do so until the actors are to stop; leave the queue resumed, and no schedule."""
        while await self._environment.pause(self._rng.uniform(0.5, 4)):
            await asyncio.to_thread(self._queues.pause, _PAUSED)
            before = await asyncio.to_thread(self._jobs)
            try:
                await self._environment.pause(self._rng.uniform(0.2, 3))
                after = await asyncio.to_thread(self._jobs)
            finally:
                await asyncio.to_thread(self._queues.resume, _PAUSED)
            for job_id, status in after.items():
                if before.get(job_id) == "pending" and status == "running":
                    self._environment.history.add_breach(f"job {job_id} started while its queue was paused")
        await asyncio.to_thread(self._remove_schedules)

    @property
    def _queues(self) -> Queues:
        from python_mcp_server.jobs.queues import Queues

        return Queues(self._environment.observer.store)

    def _jobs(self) -> dict[str, str]:
        return {job.id: job.status.value for job in self._environment.observer.live() if _is_paused(job)}


def _is_paused(job: Job) -> bool:
    return job.options is not None and job.options.queue == _PAUSED
