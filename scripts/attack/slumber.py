"""The machine sleeps, and a server with a long queue does not wake: all others look for its jobs at once."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any, Final

from attack.asking import Asker, Turn
from attack.expected import SCRIPTS, chosen
from attack.machine import Found, marked, send
from attack.wire import Server

_BURST: Final = 14
"""More jobs than there are places, so that most of them queue when their server is killed."""

_ASLEEP_S: Final = 2.2
"""At least: longer than any server waits between two looks for the jobs of dead ones, so that each is due
when it wakes."""

_CALM_S: Final = 1.5
"""From the begin of the sleep to the burst, so that the queue is long still when its server is killed."""

_BURST_S: Final = 4.0
"""What the burst gets: one who sleeps may hold a lock that it needs."""


class Slumber(Asker):
    """One who lets all servers but one sleep, and kills that one."""

    async def run(self) -> None:
        """Do so now and then until the attack is over."""
        while await self._stage.rest(self._dice.uniform(3, 8)):
            slot = self._dice.choice(self._slots)
            scripts = [self._script(*chosen(self._dice, SCRIPTS)) for _ in range(_BURST)]
            server = await slot.present()
            if server is not None:
                turn = Turn("call", server, "none", time.monotonic())
                orphan = await self._heard(turn, self._run(turn, self._script("stays", 0)))
                if orphan is not None and await self._start_of(orphan):
                    await self._sleep(server, scripts)
                    await self._shoot(orphan, time.monotonic(), (0.0, 1.0))

    async def _sleep(self, server: Server, scripts: list[dict[str, Any]]) -> None:
        found = await asyncio.to_thread(marked, self._stage.mark)
        others = [one for one in found if one.kind in ("server", "program") and one.pid != server.pid]
        began = time.monotonic()
        try:
            for one in others:
                send(one, signal.SIGSTOP, self._stage.mark)
            await self._stage.rest(_CALM_S)
            burst = [asyncio.create_task(self._load(server, script)) for script in scripts]
            await asyncio.wait(burst, timeout=_BURST_S)
            self._kill(server, found)
            await self._stage.rest(began + _ASLEEP_S - time.monotonic())
        finally:
            for one in others:
                send(one, signal.SIGCONT, self._stage.mark)
        await asyncio.gather(*burst)

    async def _load(self, server: Server, script: dict[str, Any]) -> None:
        turn = Turn("submit", server, "none", time.monotonic())
        await self._heard(turn, self._submit(turn, script))

    def _kill(self, server: Server, found: list[Found]) -> None:
        target = next((one for one in found if one.pid == server.pid), None)
        if target is not None and server.pid not in self._history.deadly:
            self._history.deadly[server.pid] = signal.SIGKILL
            if send(target, signal.SIGKILL, self._stage.mark):
                self._history.kills["server with a queue"] += 1
                self._history.strike(server.pid)
