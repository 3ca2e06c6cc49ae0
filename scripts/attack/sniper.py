"""Whoever cancels a job through servers that it does not belong to, at an instant that matters: when it is
about to start, while its processes surely live, when it ends, or when the server that had it is gone."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from attack.asking import Asker, Turn
from attack.victim import sleep_s

_AIMS: Final = {"queued": 4, "tree": 4, "end": 4, "orphan": 3}
_SPREAD_S: Final = {
    "queued": (0.0, 0.05),  # while its worker is chosen, or starts
    "tree": (0.0, 0.2),
    "end": (-0.05, 0.15),  # its process, its worker and its server need some time to tell
    "orphan": (0.0, 0.1),
}
_VOLLEY: Final = 4
"""How many jobs that are queued are shot at at once: few of these cancels come in the right instant."""

_TREES: Final = ("stays", "session", "forks", "lasts")


class Sniper(Asker):
    """One who calls here, and cancels there."""

    async def run(self) -> None:
        """Do so until the attack is over."""
        while await self._stage.rest(self._dice.expovariate(2)):
            aim = self._dice.choices(list(_AIMS), list(_AIMS.values()))[0]
            server = await self._dice.choice(self._slots).present()
            if server is not None:
                what = "submit" if aim == "queued" else "call"
                turn = Turn(what, server, "none", time.monotonic())
                await getattr(self, f"_at_{aim}")(turn)

    async def _at_orphan(self, _turn: Turn) -> None:
        orphans = [job_id for job_id in self._history.orphan_ids() if self._stage.eyes.first_start(job_id)]
        if orphans:
            await self._aimed("orphan", self._dice.choice(orphans), time.monotonic())

    async def _at_queued(self, turn: Turn) -> None:
        scripts = [self._script("quick", self._value()) for _ in range(_VOLLEY)]
        await asyncio.gather(*(self._one_queued(turn, script) for script in scripts))

    async def _one_queued(self, turn: Turn, script: dict[str, Any]) -> None:
        job_id = await self._heard(turn, self._submit(turn, script))
        if job_id is not None:
            over = asyncio.Event()
            looking = asyncio.create_task(self._look(job_id, over))
            await self._aimed("queued", job_id, time.monotonic())
            over.set()
            await looking

    async def _look(self, job_id: str, over: asyncio.Event) -> None:
        """Look for the verdict of a job that is still queued: from then on it may not start."""
        while not over.is_set() and (job := self._stage.eyes.see(job_id)) is not None:
            if job.status.value != "pending":
                return
            if job.ending is not None:
                self._history.doomed(job_id)
                return
            await self._stage.rest(0.002)

    async def _at_tree(self, turn: Turn) -> None:
        await self._at(turn, "tree", self._dice.choice(_TREES), self._value(), 0.0)

    async def _at_end(self, turn: Turn) -> None:
        value = self._value()
        await self._at(turn, "end", "sleeps", value, sleep_s(value))

    def _value(self) -> int:
        return self._dice.randrange(1_000_000)

    async def _at(self, turn: Turn, aim: str, kind: str, value: int, after_s: float) -> None:
        job_id = await self._heard(turn, self._run(turn, self._script(kind, value)))
        started_at = None if job_id is None else await self._start_of(job_id)
        if job_id is not None and started_at is not None:
            await self._aimed(aim, job_id, started_at + after_s)

    async def _aimed(self, aim: str, job_id: str, at: float) -> None:
        self._history.aims[aim] += 1
        await self._shoot(job_id, at, _SPREAD_S[aim])
