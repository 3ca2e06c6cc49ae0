"""Who kills: at random instants, one of the kinds of processes that a run has."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Final

from attack.dice import dice
from attack.machine import STORE_WORDS, Found, marked, send, worked_s
from attack.stage import Stage

PACE_S: Final = 0.4
"""Between two kills, on average: 100 a minute and more, also where the machine is slow."""

_BLOWS: Final = {
    "worker": 26, "script": 34, "child": 10, "program": 12, "server": 3, "server group": 1,
    "server SIGTERM": 2, "server stopped": 8,
}  # fmt: skip
_STARTS_S: Final = {"server": 1.0, "program": 0.4, "worker": 0.15}
"""The CPU time that a start takes, roughly, on any machine and however busy it is."""

_UNBORN: Final = 0.1
"""How often a process may be hit that is starting still: not all should fail before they do anything."""

_STOPPED_S: Final = (0.05, 1.0)


class Killer:
    """Kills one process after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._dice: random.Random = dice(stage.seed, "killer")

    async def run(self) -> None:
        """Kill until the attack is over; what a busy machine delays is made up for."""
        due_at = time.monotonic()
        while await self._stage.rest(max(0.0, due_at - time.monotonic())):
            found = await asyncio.to_thread(marked, self._stage.mark)
            while due_at <= time.monotonic() and not self._stage.over.is_set():
                due_at += self._dice.expovariate(1 / PACE_S)
                await self._strike_one(found)

    async def _strike_one(self, found: list[Found]) -> None:
        """Strike somebody; a worker or a library process where nobody of the chosen kind is there, and
        rather one that uses the store alone than a worker that starts: else a slow machine would do
        nothing but start workers."""
        alive = [process for process in found if process.pid not in self._stage.history.struck]
        grown = alive
        if self._dice.random() > _UNBORN:
            grown = [process for process in alive if worked_s(process) >= _STARTS_S.get(process.kind, 0.0)]
        chosen = self._dice.choices(list(_BLOWS), list(_BLOWS.values()))[0]
        stores = [process for process in alive if STORE_WORDS in process.line]
        fallbacks = (("worker", grown), ("program", grown), ("program", stores), ("worker", alive))
        for blow, candidates in ((chosen, grown), *fallbacks):
            victims = [process for process in candidates if process.kind == blow.partition(" ")[0]]
            if victims:
                await self._strike(blow, self._dice.choice(victims))
                return

    async def _strike(self, blow: str, target: Found) -> None:
        history = self._stage.history
        if blow == "server stopped":
            await self._stop(target)
            return
        number = signal.SIGTERM if blow == "server SIGTERM" else signal.SIGKILL
        if target.kind in ("server", "program"):
            history.deadly[target.pid] = number  # before: its end may be noticed at once
        if target.job_id:
            history.hurt.add(target.job_id)
        if send(target, number, self._stage.mark, group=blow == "server group"):
            history.kills[blow] += 1
            history.strike(target.pid)

    async def _stop(self, target: Found) -> None:
        if send(target, signal.SIGSTOP, self._stage.mark):
            await asyncio.sleep(self._dice.uniform(*_STOPPED_S))
            send(target, signal.SIGCONT, self._stage.mark)
            self._stage.history.kills["server stopped"] += 1
