"""Supervisors of the servers and library processes: they start them, start them again after a kill, and end
them. A process that ends without having been killed is a breach."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterable
from typing import Final

from chaos_testing.choices import seeded_random
from chaos_testing.environment import Environment
from chaos_testing.stdio_server import SERVE, SERVE_WITH_CRASH_POINT, Server

LEAVE_S: Final = 30.0
_KILLED: Final = -int(signal.SIGKILL)
_TERMINATED: Final = frozenset({0, -int(signal.SIGTERM), 128 + int(signal.SIGTERM)})


class ServerSlot:
    """Keeps one server running, and starts another one when it ends."""

    def __init__(self, environment: Environment, number: int) -> None:
        self.name = f"server-{number}"
        self.server: Server | None = None
        self._environment = environment
        self._rng = seeded_random(environment.seed, self.name)

    async def run(self) -> None:
        """Keep a server running until the clients are done, then close its stdin."""
        while not self._environment.clients_done.is_set():
            server = self.server = await self._start()
            self._environment.history.pids.add(server.pid)
            clients_done = asyncio.create_task(self._environment.clients_done.wait())
            gone = asyncio.create_task(server.ended())
            await asyncio.wait({clients_done, gone}, return_when=asyncio.FIRST_COMPLETED)
            clients_done.cancel()
            if not gone.done():
                server.close_stdin()
                await asyncio.wait({gone}, timeout=LEAVE_S)
            check_exit(self._environment, self.name, server.pid, gone.result() if gone.done() else None)
            gone.cancel()
        self.server = None

    async def _start(self) -> Server:
        crashes = self._rng.random() < 0.25  # noqa: PLR2004  a quarter
        step = self._rng.randrange(1, 800) if crashes else 0
        env = self._environment.variables(budget_s=self._rng.choice([0.05, 0.3, 2.0]), step=step)
        return await Server.start(
            SERVE_WITH_CRASH_POINT if crashes else SERVE, self._environment.errors(self.name), env
        )

    async def wait_for_server(self) -> Server | None:
        """Return the running server as soon as there is one; None once the actors are to stop."""
        while not self._environment.finished.is_set():
            if self.server is not None and self.server.alive:
                return self.server
            await self._environment.pause(0.05)
        return None


def check_exit(environment: Environment, name: str, pid: int, code: int | None) -> None:
    """Compare the exit of a process with the signals that it got."""
    environment.history.prunes_finished(pid)
    if code is None:
        environment.history.add_breach(
            f"{name} (pid {pid}) did not end within {LEAVE_S:g} s after its stdin closed"
        )
        return
    signalled = environment.history.fatal_signals.get(pid)
    if code == _KILLED and (signalled == signal.SIGKILL or environment.crashed(pid)):
        return
    if code in _TERMINATED and signalled == signal.SIGTERM:
        return
    if code != 0 or (
        signalled is None and not environment.clients_done.is_set() and name.startswith("server")
    ):
        environment.history.add_breach(
            f"{name} (pid {pid}) ended by itself with exit code {code}; see {environment.errors(name)}"
        )


class ProgramSlot:
    """Keeps one library process running, and starts another one when it ends."""

    def __init__(self, environment: Environment, number: int, role: str) -> None:
        self.name = f"{role}-{number}"
        self._environment = environment
        self._role = role
        self._rng = seeded_random(environment.seed, self.name)

    async def run(self) -> None:
        """Keep a program running until the actors are to stop, then close its stdin."""
        while not self._environment.finished.is_set():
            process = await self._start()
            self._environment.history.pids.add(process.pid)
            reading = asyncio.create_task(self._read(process))
            finished = asyncio.create_task(self._environment.finished.wait())
            await asyncio.wait({finished, reading}, return_when=asyncio.FIRST_COMPLETED)
            finished.cancel()
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(LEAVE_S):
                    code = await process.wait()
            except TimeoutError:
                code = None
            await asyncio.wait({reading}, timeout=1)
            reading.cancel()
            check_exit(self._environment, self.name, process.pid, code)

    async def _start(self) -> asyncio.subprocess.Process:
        step = self._rng.randrange(1, 400) if self._rng.random() < 0.6 else 0  # noqa: PLR2004  six in ten
        seconds = 1 + self._rng.expovariate(0.2)
        arguments = (self._role, self._rng.randrange(10**9), self._environment.starts, seconds)
        return await start_program(self._environment, self.name, arguments, step)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):
                self._environment.history.add_fact(json.loads(line), self._role, process.pid)


async def start_program(
    environment: Environment, name: str, arguments: Iterable[object], step: int = 0
) -> asyncio.subprocess.Process:
    """Start `chaos_testing.program`, which kills itself at this step of the store; 0 for never."""
    pipe = asyncio.subprocess.PIPE
    with environment.errors(name).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaos_testing.program", *map(str, arguments),
            stdin=pipe, stdout=pipe, stderr=log, env=environment.variables(step=step), start_new_session=True,
        )  # fmt: skip
