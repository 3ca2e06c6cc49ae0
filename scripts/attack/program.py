"""A library process: `python -m attack.program manager|store SEED STARTS SECONDS`.

It uses one home like everybody else, through a `JobManager` or through the store alone, and says on
stdout, a JSON line each, what it was told: the driver counts what it has read. It leaves when its time
is over or its stdin closes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from attack import bodies, victim
from attack.dice import dice
from attack.duel import use_store
from attack.expected import BODIES, SCRIPTS, chosen, label_of
from attack.mortal import arm
from attack.pruning import prune_options
from attack.telling import saw, say
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import JobNotFound, PythonMcpError, RemoteError, WorkerDied
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import AsyncJob, CommandJob
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
    """Acts at random through one manager."""

    def __init__(self, manager: JobManager, seed: int, starts: str) -> None:
        self._manager = manager
        self._dice = dice(seed, "program")
        self._starts = starts
        self._ids: list[str] = []

    async def act(self) -> None:
        """Do one thing, and tell what came of it."""
        what = self._dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        job_id = self._dice.choice(self._ids[-40:]) if self._ids else "none"
        asked_at = time.monotonic()
        try:
            await getattr(self, f"_{what}")(job_id, asked_at)
            say("answered", what=what, asked=asked_at)
        except JobNotFound:
            say("not found", id=job_id, asked=asked_at)
        except PythonMcpError as error:
            say("error", text=f"{what} of {job_id}: {type(error).__name__}: {error}")

    def _request(self) -> AsyncJob | CommandJob:
        if self._dice.random() < 0.5:  # noqa: PLR2004  half of each
            return self._body(*chosen(self._dice, BODIES))
        kind, value = chosen(self._dice, SCRIPTS)
        argv = (sys.executable, victim.__file__, kind, str(value), self._starts)
        return CommandJob(argv, label=label_of(kind, value))

    def _body(self, kind: str, value: int) -> AsyncJob:
        arguments = (kind, value, self._starts)
        return AsyncJob(bodies.body, arguments, label=label_of(kind, value), tool="body")

    async def _submit(self, _job_id: str, asked_at: float) -> None:
        job = await self._manager.submit(self._request())
        say("told", id=job.id, asked=asked_at, queued=True)
        self._ids.append(job.id)

    async def _run(self, _job_id: str, asked_at: float) -> None:
        request, budget_s = self._request(), 0.05 + self._dice.random() / 2
        if self._dice.random() < 0.3:  # noqa: PLR2004  three in ten end in the instant of the hand-off
            value = self._dice.randrange(0, 1600, 16)
            request = self._body("body-sleeps", value)
            budget_s = bodies.sleep_s(value) + self._dice.uniform(-0.01, 0.02)
        try:
            result = await self._manager.run(request, budget_s=budget_s)
        except (ArithmeticError, RemoteError, WorkerDied, JobCancelled):
            return
        except RuntimeError as error:
            if "before it was ready" not in str(error):
                raise
            return  # so many workers were killed at their start that the manager gave up
        if result.handed_over:
            say("told", id=result.job_id, asked=asked_at, queued=False)
            self._ids.append(result.job_id)

    async def _get(self, job_id: str, asked_at: float) -> None:
        saw(await self._manager.get(job_id), asked_at)

    async def _wait(self, job_id: str, asked_at: float) -> None:
        saw((await self._manager.wait(job_id, self._dice.random()))[0], asked_at)

    async def _list(self, _job_id: str, asked_at: float) -> None:
        for job in (await self._manager.list(limit=30))[0]:
            saw(job, asked_at)
            if job.id not in self._ids:
                self._ids.append(job.id)

    async def _cancel(self, job_id: str, asked_at: float) -> None:
        say("cancelling", id=job_id)
        job = await self._manager.cancel(job_id)
        if job.status is JobState.CANCELLED:
            say("cancelled", id=job_id)
        saw(job, asked_at)

    async def _prune(self, _job_id: str, _asked_at: float) -> None:
        options = prune_options(self._dice)
        age_s = options.pop("age_s")
        say("pruning", options={**options, "age_s": age_s})
        pruned = await self._manager.prune(
            keep_completed=bool(options["keep_completed"]),
            keep_failed=bool(options["keep_failed"]),
            max_age_hours=age_s / 3600,
        )
        say("pruned", removed=pruned.removed)

    async def _output(self, job_id: str, _asked_at: float) -> None:
        await self._manager.output(job_id, self._dice.choice(["stdout", "stderr"]))


async def use_manager(seed: int, starts: str, seconds: float) -> None:
    """Act through a manager until the time is over."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)
    pauses = dice(seed, "pauses")
    until = time.monotonic() + seconds
    async with JobManager() as manager:
        user = ManagerUser(manager, seed, starts)
        while time.monotonic() < until and not over.is_set():
            await user.act()
            await asyncio.sleep(pauses.expovariate(8))


if __name__ == "__main__":
    arm()
    _, role, seed_text, starts_path, seconds_text = sys.argv
    if role == "store":
        use_store(int(seed_text), float(seconds_text))
    else:
        asyncio.run(use_manager(int(seed_text), starts_path, float(seconds_text)))
