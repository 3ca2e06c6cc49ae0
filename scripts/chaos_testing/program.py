"""A library process: `python -m chaos_testing.program manager|store|queue|drain SEED STARTS SECONDS`.

It uses the shared home through a `JobManager`, also for jobs that are queued with options, or through the
store alone, and writes each fact that it learns as a JSON line to stdout, where the experiment reads it. It
ends when its time is over or its stdin closes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from chaos_testing import bodies, job_script
from chaos_testing.cancel_race import use_store
from chaos_testing.choices import choose_kind, choose_prune, seeded_random
from chaos_testing.crash_point import arm_crash_point
from chaos_testing.expected import BODIES, SCRIPTS, label_of
from chaos_testing.facts import emit, emit_job
from chaos_testing.queue_user import serve_queue, use_queue
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import JobNotFound, PythonMcpError, RemoteError, WorkerDied
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.kinds import CommandJob
from python_mcp_server.model import JobState

_ACTIONS: Final = {
    "submit": 30,
    "run": 12,
    "get": 16,
    "wait": 8,
    "list": 10,
    "cancel": 14,
    "prune": 3,
    "output": 6,
}


class ManagerUser:
    """Calls random methods of one manager."""

    def __init__(self, manager: JobManager, seed: int, starts: str) -> None:
        self._manager = manager
        self._rng = seeded_random(seed, "program")
        self._starts = starts
        self._ids: list[str] = []

    async def act(self) -> None:
        """Do one thing, and report the result."""
        what = self._rng.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        job_id = self._rng.choice(self._ids[-40:]) if self._ids else "none"
        asked_at = time.monotonic()
        try:
            await getattr(self, f"_{what}")(job_id, asked_at)
            emit("answered", what=what, asked=asked_at)
        except JobNotFound:
            emit("not found", id=job_id, asked=asked_at)
        except PythonMcpError as error:
            emit("error", text=f"{what} of {job_id}: {type(error).__name__}: {error}")

    def _request(self) -> Request:
        if self._rng.random() < 0.5:  # noqa: PLR2004  half of each
            return self._body(*choose_kind(self._rng, BODIES))
        kind, value = choose_kind(self._rng, SCRIPTS)
        argv = (sys.executable, job_script.__file__, kind, str(value), self._starts)
        return request_of(CommandJob(argv, label=label_of(kind, value)))

    def _body(self, kind: str, value: int) -> Request:
        arguments = (kind, value, self._starts)
        return Request(bodies.body, arguments, label=label_of(kind, value), tool="body")

    async def _submit(self, _job_id: str, asked_at: float) -> None:
        job = await self._manager.submit_request(self._request())
        emit("told", id=job.id, asked=asked_at, queued=True)
        self._ids.append(job.id)

    async def _run(self, _job_id: str, asked_at: float) -> None:
        request, budget_s = self._request(), 0.05 + self._rng.random() / 2
        if self._rng.random() < 0.3:  # noqa: PLR2004  three in ten end at the instant of the hand-off
            value = self._rng.randrange(0, 1600, 16)
            request = self._body("body-sleeps", value)
            budget_s = bodies.sleep_s(value) + self._rng.uniform(-0.01, 0.02)
        try:
            result = await self._manager.run(request, budget_s=budget_s)
        except (ArithmeticError, RemoteError, WorkerDied, JobCancelled):
            return
        except RuntimeError as error:
            if "before it was ready" not in str(error):
                raise
            return  # the manager gave up because too many workers were killed at their start
        if result.handed_over:
            emit("told", id=result.job_id, asked=asked_at, queued=False)
            self._ids.append(result.job_id)

    async def _get(self, job_id: str, asked_at: float) -> None:
        emit_job(await self._manager.get(job_id), asked_at)

    async def _wait(self, job_id: str, asked_at: float) -> None:
        emit_job((await self._manager.wait(job_id, self._rng.random()))[0], asked_at)

    async def _list(self, _job_id: str, asked_at: float) -> None:
        for job in (await self._manager.list(limit=30))[0]:
            emit_job(job, asked_at)
            if job.id not in self._ids:
                self._ids.append(job.id)

    async def _cancel(self, job_id: str, asked_at: float) -> None:
        emit("cancelling", id=job_id)
        job = await self._manager.cancel(job_id)
        if job.status is JobState.CANCELLED:
            emit("cancelled", id=job_id)
        emit_job(job, asked_at)

    async def _prune(self, _job_id: str, _asked_at: float) -> None:
        options = choose_prune(self._rng)
        age_s = options.pop("age_s")
        emit("pruning", options={**options, "age_s": age_s})
        pruned = await self._manager.prune(
            keep_completed=bool(options["keep_completed"]),
            keep_failed=bool(options["keep_failed"]),
            max_age_hours=age_s / 3600,
        )
        emit("pruned", removed=pruned.removed)

    async def _output(self, job_id: str, _asked_at: float) -> None:
        await self._manager.output(job_id, self._rng.choice(["stdout", "stderr"]))


async def use_manager(seed: int, starts: str, seconds: float) -> None:
    """Act through a manager until the time is over or stdin closes."""
    finished = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, finished.set)
    pauses = seeded_random(seed, "pauses")
    until = time.monotonic() + seconds
    async with JobManager() as manager:
        user = ManagerUser(manager, seed, starts)
        while time.monotonic() < until and not finished.is_set():
            await user.act()
            await asyncio.sleep(pauses.expovariate(8))


if __name__ == "__main__":
    arm_crash_point()
    _, role, seed_text, starts_path, seconds_text = sys.argv
    if role == "store":
        use_store(int(seed_text), float(seconds_text))
    elif role == "queue":
        asyncio.run(use_queue(int(seed_text), starts_path, float(seconds_text)))
    elif role == "drain":
        asyncio.run(serve_queue())
    else:
        asyncio.run(use_manager(int(seed_text), starts_path, float(seconds_text)))
