"""A library process that queues jobs with options: attempts, predecessors, delays, keys, resources.

Further options belong into `_options`, and into `queue_promises` as checks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from chaos_testing.choices import choose_kind, seeded_random
from chaos_testing.expected import label_of
from chaos_testing.facts import emit, emit_job
from chaos_testing.queue_bodies import queued_body
from chaos_testing.queue_rules import BOUNDED, QUEUES, RESOURCES
from python_mcp_server.errors import JobNotFound, PythonMcpError, QuotaExceeded
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.limits import Limits
from python_mcp_server.model import JobState, utc_now
from python_mcp_server.options import JobOptions, Retry

_ACTIONS: Final = {
    "one": 40, "delayed": 8, "burst": 6, "chain": 8, "diamond": 6, "closure": 4, "far": 2, "get": 10,
    "wait": 5, "cancel": 12,
}  # fmt: skip
_KINDS: Final = {"q-quick": 14, "q-flaky": 6, "q-raises": 4, "q-dies": 2, "q-snoozes": 4, "q-lasts": 1}
_BURST: Final = 8
_FAR: Final = timedelta(hours=1)


class QueueUser:
    """Queues random jobs through one manager."""

    def __init__(self, manager: JobManager, seed: int, notes: str) -> None:
        self._manager = manager
        self._rng = seeded_random(seed, "queue")
        self._notes = notes
        self._ids: list[str] = []

    async def act(self) -> None:
        """Do one thing, and report the result."""
        what = self._rng.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        job_id = self._rng.choice(self._ids[-40:]) if self._ids else "none"
        asked_at = time.monotonic()
        try:
            await getattr(self, f"_{what}")(job_id)
            emit("answered", what=f"queue {what}", asked=asked_at)
        except JobNotFound:
            if what in ("get", "wait", "cancel"):
                emit("not found", id=job_id, asked=asked_at)  # else a predecessor was pruned
        except QuotaExceeded:
            emit("answered", what="queue over its quota", asked=asked_at)
        except PythonMcpError as error:
            emit("error", text=f"{what} of {job_id}: {type(error).__name__}: {error}")

    async def _submit(self, *, closure: bool = False, kind: str | None = None, **options: Any) -> str:
        asked_at = time.monotonic()
        chosen, value = choose_kind(self._rng, _KINDS)
        kind, notes = kind or chosen, self._notes
        body, arguments = queued_body, (kind, value, notes)
        if closure:
            body, arguments = (lambda: queued_body(kind, value, notes)), ()
        label, tool = label_of(kind, value), self._rng.choice(("queued", "narrow"))
        options = self._options(tool) | options
        how: dict[str, Any] = {"options": JobOptions(**options)} | self._client()
        request = Request(body, arguments, label=label, tool=tool, **how)
        job = await self._manager.submit_request(request)
        emit("told", id=job.id, asked=asked_at, queued=True, follows=bool(options.get("after")))
        self._ids.append(job.id)
        return job.id

    def _options(self, tool: str) -> dict[str, Any]:
        """Return random options of a job of a kind; jobs of a kind have the same bound."""
        chance = self._rng.random
        options: dict[str, Any] = {
            "queue": self._rng.choice(QUEUES),
            "priority": self._rng.choice((0, 0, -5, 5)),
        }
        if tool == "narrow":
            options["max_concurrency"] = 2
        if chance() < 0.6:  # noqa: PLR2004
            lost = chance() < 0.5  # noqa: PLR2004
            wait = self._rng.choice((0, 0, 0.1, 0.5))
            options["retry"] = Retry(self._rng.randint(2, 3), wait=wait, lost_workers=lost)
        if chance() < 0.2:  # noqa: PLR2004
            number = self._rng.randrange(2)
            options |= {"key": f"key {number}", "key_concurrency": 1 + number}
        if chance() < 0.3:  # noqa: PLR2004
            name = self._rng.choice(list(RESOURCES))
            options["resources"] = {name: self._rng.randint(1, RESOURCES[name])}
        return options

    def _client(self) -> dict[str, Any]:
        """Return the client of a job, now and then the one with a quota, and the limits of that one."""
        if self._rng.random() < 0.6:  # noqa: PLR2004
            return {"client": "free 1.0"}
        memory_mb = self._rng.choice((None, 200, 400))
        return {"client": BOUNDED, "limits": None if memory_mb is None else Limits(memory_limit_mb=memory_mb)}

    async def _one(self, _job_id: str) -> None:
        await self._submit()

    async def _closure(self, _job_id: str) -> None:
        """Queue a body that only this process can start."""
        await self._submit(closure=True)

    async def _delayed(self, _job_id: str) -> None:
        await self._submit(run_at=utc_now() + timedelta(seconds=self._rng.uniform(0.1, 3)))

    async def _far(self, _job_id: str) -> None:
        """Queue a job that waits until it is cancelled."""
        await self._submit(kind="q-far", run_at=utc_now() + _FAR)

    async def _burst(self, _job_id: str) -> None:
        await asyncio.gather(*(self._submit() for _ in range(_BURST)))

    async def _chain(self, _job_id: str) -> None:
        last = await self._submit()
        for _ in range(self._rng.randint(1, 5)):
            last = await self._after([last])

    async def _diamond(self, _job_id: str) -> None:
        first = await self._submit()
        middle = [await self._after([first]) for _ in range(self._rng.randint(2, 4))]
        await self._after([*middle, first])

    async def _after(self, others: Iterable[str]) -> str:
        anyway = self._rng.random() < 0.3  # noqa: PLR2004
        return await self._submit(after=tuple(others), run_after_failure=anyway)

    async def _get(self, job_id: str) -> None:
        asked_at = time.monotonic()
        emit_job(await self._manager.get(job_id), asked_at)

    async def _wait(self, job_id: str) -> None:
        job, _ = await self._manager.wait(job_id, self._rng.random())
        emit_job(job, time.monotonic() if not job.status.terminal else 0.0)

    async def _cancel(self, job_id: str) -> None:
        emit("cancelling", id=job_id)
        asked_at = time.monotonic()
        job = await self._manager.cancel(job_id)
        if job.status is JobState.CANCELLED:
            emit("cancelled", id=job_id)
        emit_job(job, asked_at)


async def use_queue(seed: int, starts: str, seconds: float) -> None:
    """Queue jobs until the time is over or stdin closes."""
    finished = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, finished.set)
    pauses = seeded_random(seed, "pauses")
    until = time.monotonic() + seconds
    async with JobManager() as manager:
        user = QueueUser(manager, seed, str(Path(starts).with_name("notes")))
        while time.monotonic() < until and not finished.is_set():
            await user.act()
            await asyncio.sleep(pauses.expovariate(6))


async def serve_queue() -> None:
    """Start what is queued, and queue nothing, until stdin closes."""
    finished = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, finished.set)
    async with JobManager():
        await finished.wait()
