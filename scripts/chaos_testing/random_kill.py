"""Signals random processes of a run at random instants."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Final

from chaos_testing.choices import seeded_random
from chaos_testing.environment import Environment
from chaos_testing.process_table import STORE_WORDS, MarkedProcess, marked_processes, send, worked_s

PACE_S: Final = 0.4
"""Between two kills, on average: 100 a minute and more, also on a slow machine."""

_HITS: Final = {
    "worker": 26, "script": 34, "child": 10, "program": 12, "server": 3, "server group": 1,
    "server SIGTERM": 2, "server stopped": 8,
}  # fmt: skip
_STARTS_S: Final = {"server": 1.0, "program": 0.4, "worker": 0.15}
"""Roughly the CPU time that a start takes, which does not depend on how busy the machine is."""

_STARTING_SHARE: Final = 0.1
"""How often a process that is still starting may be hit: not all should fail before they do anything."""

_STOPPED_S: Final = (0.05, 1.0)


class RandomKiller:
    """Kills one process after the other."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._rng: random.Random = seeded_random(environment.seed, "killer")

    async def run(self) -> None:
        """Kill until the actors are to stop; kills that a busy machine delays are made up for."""
        due_at = time.monotonic()
        while await self._environment.pause(max(0.0, due_at - time.monotonic())):
            found = await asyncio.to_thread(marked_processes, self._environment.mark)
            while due_at <= time.monotonic() and not self._environment.finished.is_set():
                due_at += self._rng.expovariate(1 / PACE_S)
                await self._hit_one(found)

    async def _hit_one(self, found: list[MarkedProcess]) -> None:
        """Hit a process of a random kind, or another one if there is none of that kind.

        A library process that uses the store alone comes before a worker that is still starting, because
        otherwise a slow machine would do nothing but start workers.
        """
        alive = [process for process in found if process.pid not in self._environment.history.killed_at]
        started = alive
        if self._rng.random() > _STARTING_SHARE:
            started = [process for process in alive if worked_s(process) >= _STARTS_S.get(process.kind, 0.0)]
        chosen = self._rng.choices(list(_HITS), list(_HITS.values()))[0]
        stores = [process for process in alive if STORE_WORDS in process.line]
        fallbacks = (("worker", started), ("program", started), ("program", stores), ("worker", alive))
        for hit, candidates in ((chosen, started), *fallbacks):
            victims = [process for process in candidates if process.kind == hit.partition(" ")[0]]
            if victims:
                await self._hit(hit, self._rng.choice(victims))
                return

    async def _hit(self, hit: str, target: MarkedProcess) -> None:
        history = self._environment.history
        if hit == "server stopped":
            await self._stop(target)
            return
        number = signal.SIGTERM if hit == "server SIGTERM" else signal.SIGKILL
        if target.kind in ("server", "program"):
            history.fatal_signals[target.pid] = number  # before: its end may be noticed at once
        if target.job_id:
            history.hit_jobs.add(target.job_id)
        history.kill_begins(target.pid)
        if send(target, number, self._environment.mark, group=hit == "server group"):
            history.kills[hit] += 1
            history.note_kill(target.pid)

    async def _stop(self, target: MarkedProcess) -> None:
        if send(target, signal.SIGSTOP, self._environment.mark):
            await asyncio.sleep(self._rng.uniform(*_STOPPED_S))
            send(target, signal.SIGCONT, self._environment.mark)
            self._environment.history.kills["server stopped"] += 1
