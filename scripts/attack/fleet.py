"""The servers and library processes of a run: started, started again when they are killed, and asked to
leave at the end. Whoever ends in another way than by our hand is a breach."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Final

from attack.dice import dice
from attack.stage import Stage
from attack.wire import MORTAL, SERVE, Server

LEAVE_S: Final = 30.0
_KILLED: Final = -int(signal.SIGKILL)
_TERMINATED: Final = frozenset({0, -int(signal.SIGTERM), 128 + int(signal.SIGTERM)})


class Slot:
    """A place that one server after the other takes."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.name = f"server-{number}"
        self.server: Server | None = None
        self._stage = stage
        self._dice = dice(stage.seed, self.name)

    async def run(self) -> None:
        """Keep a server here until the attack is over, then ask it to leave."""
        while not self._stage.quiet.is_set():
            server = self.server = await self._start()
            self._stage.history.pids.add(server.pid)
            quiet = asyncio.create_task(self._stage.quiet.wait())
            gone = asyncio.create_task(server.ended())
            await asyncio.wait({quiet, gone}, return_when=asyncio.FIRST_COMPLETED)
            quiet.cancel()
            if not gone.done():
                server.hang_up()
                await asyncio.wait({gone}, timeout=LEAVE_S)
            judge(self._stage, self.name, server.pid, gone.result() if gone.done() else None)
            gone.cancel()
        self.server = None

    async def _start(self) -> Server:
        mortal = self._dice.random() < 0.25  # noqa: PLR2004  a quarter
        step = self._dice.randrange(1, 800) if mortal else 0
        env = self._stage.environment(budget_s=self._dice.choice([0.05, 0.3, 2.0]), step=step)
        return await Server.start(MORTAL if mortal else SERVE, self._stage.errors(self.name), env)

    async def present(self) -> Server | None:
        """Return the server that is here, as soon as one is; None where the attack is over."""
        while not self._stage.over.is_set():
            if self.server is not None and self.server.alive:
                return self.server
            await self._stage.rest(0.05)
        return None


def judge(stage: Stage, name: str, pid: int, code: int | None) -> None:
    """Hold the end of a process against what was done to it."""
    stage.history.prunes_over(pid)
    if code is None:
        stage.history.gave_up(f"{name} (pid {pid}) did not leave within {LEAVE_S:g} s after its stdin closed")
        return
    hand = stage.history.deadly.get(pid)
    if code == _KILLED and (hand == signal.SIGKILL or stage.died_at_a_step(pid)):
        return
    if code in _TERMINATED and hand == signal.SIGTERM:
        return
    if code != 0 or (hand is None and not stage.quiet.is_set() and name.startswith("server")):
        stage.history.gave_up(
            f"{name} (pid {pid}) ended by itself with exit code {code}; see {stage.errors(name)}"
        )


class Programs:
    """A place that one library process after the other takes."""

    def __init__(self, stage: Stage, number: int, role: str) -> None:
        self.name = f"{role}-{number}"
        self._stage = stage
        self._role = role
        self._dice = dice(stage.seed, self.name)

    async def run(self) -> None:
        """Keep a program here until the attack is over, then ask it to leave."""
        while not self._stage.over.is_set():
            process = await self._start()
            self._stage.history.pids.add(process.pid)
            reading = asyncio.create_task(self._read(process))
            over = asyncio.create_task(self._stage.over.wait())
            await asyncio.wait({over, reading}, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(LEAVE_S):
                    code = await process.wait()
            except TimeoutError:
                code = None
            await asyncio.wait({reading}, timeout=1)
            reading.cancel()
            judge(self._stage, self.name, process.pid, code)

    async def _start(self) -> asyncio.subprocess.Process:
        step = self._dice.randrange(1, 400) if self._dice.random() < 0.6 else 0  # noqa: PLR2004  six in ten
        seconds = 1 + self._dice.expovariate(0.2)
        words = ("-m", "attack.program", self._role, self._dice.randrange(10**9), self._stage.starts, seconds)
        pipe = asyncio.subprocess.PIPE
        with self._stage.errors(self.name).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, *map(str, words), stdin=pipe, stdout=pipe, stderr=log,
                env=self._stage.environment(step=step), start_new_session=True,
            )  # fmt: skip

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):
                self._stage.history.take(json.loads(line), self._role, process.pid)
