"""Cancels jobs through servers that do not own them, at critical instants: before the start, while their
processes are alive, at the end, or after the owner was killed."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from chaos_testing.actor import Action, Actor
from chaos_testing.job_script import sleep_s

_INSTANTS: Final = {"queued": 4, "tree": 4, "end": 4, "orphan": 3}
_SPREAD_S: Final = {
    "queued": (0.0, 0.05),  # while a worker is chosen for it, or starts
    "tree": (0.0, 0.2),
    "end": (-0.05, 0.15),  # the end reaches the worker and the server a little later
    "orphan": (0.0, 0.1),
}
_BATCH: Final = 4
"""How many queued jobs are cancelled at once: only few of these cancels hit the right instant."""

_TREES: Final = ("stays", "session", "forks", "lasts")


class TargetedCanceller(Actor):
    """Starts jobs on one server, and cancels them through others."""

    async def run(self) -> None:
        """Do so until the actors are to stop."""
        while await self._environment.pause(self._rng.expovariate(2)):
            instant = self._rng.choices(list(_INSTANTS), list(_INSTANTS.values()))[0]
            server = await self._rng.choice(self._slots).wait_for_server()
            if server is not None:
                what = "submit" if instant == "queued" else "call"
                action = Action(what, server, "none", time.monotonic())
                await getattr(self, f"_at_{instant}")(action)

    async def _at_orphan(self, _action: Action) -> None:
        orphans = [
            job_id for job_id in self._history.orphan_ids() if self._environment.observer.first_start(job_id)
        ]
        if orphans:
            await self._cancel_at_instant("orphan", self._rng.choice(orphans), time.monotonic())

    async def _at_queued(self, action: Action) -> None:
        scripts = [self._script("quick", self._value()) for _ in range(_BATCH)]
        await asyncio.gather(*(self._one_queued(action, script) for script in scripts))

    async def _one_queued(self, action: Action, script: dict[str, Any]) -> None:
        job_id = await self._outcome_of(action, self._submit(action, script))
        if job_id is not None:
            finished = asyncio.Event()
            looking = asyncio.create_task(self._watch_record(job_id, finished))
            await self._cancel_at_instant("queued", job_id, time.monotonic())
            finished.set()
            await looking

    async def _watch_record(self, job_id: str, finished: asyncio.Event) -> None:
        """Note when a queued job has an end reason: from then on it may not start."""
        while not finished.is_set() and (job := self._environment.observer.see(job_id)) is not None:
            if job.status.value != "pending":
                return
            if job.ending is not None:
                self._history.end_requested(job_id)
                return
            await self._environment.pause(0.002)

    async def _at_tree(self, action: Action) -> None:
        await self._at(action, "tree", self._rng.choice(_TREES), self._value(), 0.0)

    async def _at_end(self, action: Action) -> None:
        value = self._value()
        await self._at(action, "end", "sleeps", value, sleep_s(value))

    def _value(self) -> int:
        return self._rng.randrange(1_000_000)

    async def _at(self, action: Action, instant: str, kind: str, value: int, after_s: float) -> None:
        job_id = await self._outcome_of(action, self._run(action, self._script(kind, value)))
        started_at = None if job_id is None else await self._start_of(job_id)
        if job_id is not None and started_at is not None:
            await self._cancel_at_instant(instant, job_id, started_at + after_s)

    async def _cancel_at_instant(self, instant: str, job_id: str, at: float) -> None:
        self._history.targets[instant] += 1
        await self._cancel_around(job_id, at, _SPREAD_S[instant])
