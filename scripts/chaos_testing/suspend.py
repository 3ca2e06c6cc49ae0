"""Suspends all servers but one, kills that one with a long queue, and resumes the others, which then all look
for its jobs at once: what a machine that wakes up does."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any, Final

from chaos_testing.actor import Action, Actor
from chaos_testing.choices import choose_kind
from chaos_testing.expected import SCRIPTS
from chaos_testing.process_table import MarkedProcess, marked_processes, send
from chaos_testing.stdio_server import Server

_BURST: Final = 14
"""More jobs than there are slots, so that most of them are queued when their server is killed."""

_SUSPENDED_S: Final = 2.2
"""At least. Longer than the interval at which servers look for jobs of dead ones, so that each does so when
it is resumed."""

_BEFORE_BURST_S: Final = 1.5
"""From the suspension to the burst, so that the queue is still long when its server is killed."""

_BURST_S: Final = 4.0
"""Time for the burst: a suspended server may hold a lock that it needs."""


class Suspender(Actor):
    """Suspends all servers but one, and kills that one."""

    async def run(self) -> None:
        """Do so now and then until the actors are to stop."""
        while await self._environment.pause(self._rng.uniform(3, 8)):
            slot = self._rng.choice(self._slots)
            scripts = [self._script(*choose_kind(self._rng, SCRIPTS)) for _ in range(_BURST)]
            server = await slot.wait_for_server()
            if server is not None:
                action = Action("call", server, "none", time.monotonic())
                orphan = await self._outcome_of(action, self._run(action, self._script("stays", 0)))
                if orphan is not None and await self._start_of(orphan):
                    await self._suspend_others(server, scripts)
                    await self._cancel_around(orphan, time.monotonic(), (0.0, 1.0))

    async def _suspend_others(self, server: Server, scripts: list[dict[str, Any]]) -> None:
        found = await asyncio.to_thread(marked_processes, self._environment.mark)
        others = [one for one in found if one.kind in ("server", "program") and one.pid != server.pid]
        began = time.monotonic()
        try:
            for one in others:
                send(one, signal.SIGSTOP, self._environment.mark)
            await self._environment.pause(_BEFORE_BURST_S)
            burst = [asyncio.create_task(self._submit_to(server, script)) for script in scripts]
            await asyncio.wait(burst, timeout=_BURST_S)
            self._kill(server, found)
            await self._environment.pause(began + _SUSPENDED_S - time.monotonic())
        finally:
            for one in others:
                send(one, signal.SIGCONT, self._environment.mark)
        await asyncio.gather(*burst)

    async def _submit_to(self, server: Server, script: dict[str, Any]) -> None:
        action = Action("submit", server, "none", time.monotonic())
        await self._outcome_of(action, self._submit(action, script))

    def _kill(self, server: Server, found: list[MarkedProcess]) -> None:
        target = next((one for one in found if one.pid == server.pid), None)
        if target is not None and server.pid not in self._history.fatal_signals:
            self._history.fatal_signals[server.pid] = signal.SIGKILL
            if send(target, signal.SIGKILL, self._environment.mark):
                self._history.kills["server with a queue"] += 1
                self._history.note_kill(server.pid)
