"""The end of the servers: each has a job in the background, which goes on when its server leaves, and when
it is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final

from attack.asking import Asker, Turn
from attack.machine import marked, send
from attack.wire import Server

SHORTEST_S: Final = 20.0
"""Of the attacks that end like this: after a shorter one nobody waits for the jobs that are left."""

_HEARD_S: Final = 2.5
"""From the hand-off to the end of the server: by then its worker knows for certain that it must stay."""


class Parting(Asker):
    """One who gives each server a last job, and kills every other server."""

    async def run(self) -> None:
        """Do so; whoever still lives afterwards is to be asked to leave."""
        if self._stage.seconds < SHORTEST_S:
            return
        servers = [slot.server for slot in self._slots if slot.server is not None and slot.server.alive]
        doomed = self._dice.sample(servers, len(servers) // 2)
        survivors = [server for server in servers if server not in doomed]
        orphans = await self._orphans(doomed)
        await asyncio.gather(*(self._begin(server, "parts") for server in servers))
        await asyncio.sleep(_HEARD_S)
        await self._kill({server.pid for server in doomed})
        for server, job_id in zip(survivors, orphans, strict=False):
            turn = Turn("cancel", server, job_id, time.monotonic())
            await self._heard(turn, self._cancel(turn))

    async def _begin(self, server: Server, kind: str) -> str | None:
        """Call for a job of this kind; return its id once it is handed over."""
        turn = Turn("call", server, "none", time.monotonic())
        script = self._script(kind, self._dice.randrange(1_000_000))
        return await self._heard(turn, self._run(turn, script))

    async def _orphans(self, doomed: list[Server]) -> list[str]:
        """Start a job that does not end on each of these; return the ids of those that have started."""
        job_ids = await asyncio.gather(*(self._begin(server, "stays") for server in doomed))
        return [job_id for job_id in job_ids if job_id is not None and await self._start_of(job_id)]

    async def _kill(self, pids: set[int]) -> None:
        found = await asyncio.to_thread(marked, self._stage.mark)
        for target in found:
            if target.pid in pids and target.pid not in self._history.deadly:
                self._history.deadly[target.pid] = signal.SIGKILL
                if send(target, signal.SIGKILL, self._stage.mark, group=True):
                    self._history.kills["server group"] += 1
                    self._history.strike(target.pid)
