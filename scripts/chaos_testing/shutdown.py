"""The end of the servers: each has a background job that must go on when its server exits or is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final

from chaos_testing.actor import Action, Actor
from chaos_testing.process_table import marked_processes, send
from chaos_testing.stdio_server import Server

_SHORTEST_S: Final = 20.0
"""Shorter runs leave this out, because they do not wait long enough for the remaining jobs."""

_KEPT_S: Final = 2.5
"""From the hand-off to the end of the server: by then its worker has certainly read that it must go on."""


class Shutdown(Actor):
    """Gives each server a last job, and kills half of the servers."""

    async def run(self) -> None:
        """Do so. The supervisors end the other servers afterwards."""
        if self._environment.seconds < _SHORTEST_S:
            return
        servers = [slot.server for slot in self._slots if slot.server is not None and slot.server.alive]
        to_kill = self._rng.sample(servers, len(servers) // 2)
        survivors = [server for server in servers if server not in to_kill]
        orphans = await self._orphans(to_kill)
        await asyncio.gather(*(self._begin(server, "outlives") for server in servers))
        await asyncio.sleep(_KEPT_S)
        await self._kill({server.pid for server in to_kill})
        for server, job_id in zip(survivors, orphans, strict=False):
            action = Action("cancel", server, job_id, time.monotonic())
            await self._outcome_of(action, self._cancel(action))

    async def _begin(self, server: Server, kind: str) -> str | None:
        """Call a script of this kind; return its id once it is handed over."""
        action = Action("call", server, "none", time.monotonic())
        script = self._script(kind, self._rng.randrange(1_000_000))
        return await self._outcome_of(action, self._run(action, script))

    async def _orphans(self, to_kill: list[Server]) -> list[str]:
        """Start a long job on each of these servers; return the ids of those that have started."""
        job_ids = await asyncio.gather(*(self._begin(server, "stays") for server in to_kill))
        return [job_id for job_id in job_ids if job_id is not None and await self._start_of(job_id)]

    async def _kill(self, pids: set[int]) -> None:
        found = await asyncio.to_thread(marked_processes, self._environment.mark)
        for target in found:
            if target.pid in pids and target.pid not in self._history.fatal_signals:
                self._history.fatal_signals[target.pid] = signal.SIGKILL
                if send(target, signal.SIGKILL, self._environment.mark, group=True):
                    self._history.kills["server group"] += 1
                    self._history.note_kill(target.pid)
