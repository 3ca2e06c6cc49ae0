"""One hostile run: two servers over one home, the attacks beside a client at work, and the last checks."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from chaos_testing.choices import seeded_random
from chaos_testing.environment import Environment
from chaos_testing.final_state import processes_left
from chaos_testing.hostile.calls import HostileClient
from chaos_testing.hostile.findings import LARGEST_LOG, Findings
from chaos_testing.hostile.http_server import HttpServer
from chaos_testing.hostile.odd_files import lay_in_home
from chaos_testing.hostile.peaceful import Peaceful
from chaos_testing.hostile.strangers import Stranger
from chaos_testing.process_table import semaphores

_CLIENTS: Final = 3
_STOP_S: Final = 15.0
"""Guessed: three seconds on a quiet machine."""


async def run_hostile(environment: Environment) -> Findings:
    """Run for the time of the environment; return what was seen."""
    findings, before = Findings(secret=uuid.uuid4().hex), semaphores()
    precious = environment.folder / "precious"
    precious.mkdir()
    (precious / "kept").write_text("kept", encoding="ascii")
    async with _servers(environment, findings) as (own, other):
        work = environment.folder / "peaceful"
        work.mkdir()
        peaceful = Peaceful(own, work, findings)
        await peaceful.prepare()
        await _attack(environment, findings, peaceful, (own, other), precious)
        _log("looking whether the servers are well ...")
        await peaceful.work()
        await peaceful.finish()
        for server in (own, other):
            if not await server.is_healthy():
                findings.breach(f"the server at port {server.port} is not healthy")
    _log("checking what is left ...")
    findings.breaches += await processes_left(environment.mark)
    findings.breaches += sorted(semaphores() - before)
    if [path.name for path in precious.iterdir()] != ["kept"] or (precious / "kept").stat().st_size != len(
        "kept"
    ):
        findings.breach("a folder that a link led to was changed")
    return findings


async def _attack(
    environment: Environment,
    findings: Findings,
    peaceful: Peaceful,
    servers: tuple[HttpServer, HttpServer],
    precious: Path,
) -> None:
    laid = await asyncio.to_thread(lay_in_home, environment.home, precious)
    findings.counts["odd files in the home"] = laid
    async with asyncio.TaskGroup() as group:
        group.create_task(peaceful.run(environment.finished))
        for number in range(_CLIENTS):
            folder = environment.folder / f"hostile-{number}"
            folder.mkdir()
            rng = seeded_random(environment.seed, folder.name)
            client = HostileClient(servers[1], folder, [peaceful.ended, peaceful.running], findings, rng)
            group.create_task(client.run(environment.finished))
        for server in servers:
            rng = seeded_random(environment.seed, f"stranger-{servers.index(server)}")
            stranger = Stranger(server.port, findings, rng)
            group.create_task(stranger.run(environment.finished))
            group.create_task(stranger.hold(environment.finished))
        _log(f"attacking two servers for {environment.seconds:g} s ...")
        await asyncio.sleep(environment.seconds)
        environment.finished.set()
        _log("waiting for the last answers ...")


@asynccontextmanager
async def _servers(
    environment: Environment, findings: Findings
) -> AsyncGenerator[tuple[HttpServer, HttpServer]]:
    """Start both, and check their ends and what they logged."""
    env = environment.variables(budget_s=5.0)
    names = ("peaceful", "hostile")
    servers = [
        await HttpServer.start(f"token-of-the-{name}-client", environment.errors(name), env) for name in names
    ]
    try:
        yield servers[0], servers[1]
    finally:
        for name, server in zip(names, servers, strict=True):
            if server.process.returncode is not None:
                findings.breach(f"the {name} server ended by itself with {server.process.returncode}")
            seconds = await server.stop()
            log = server.log.read_text(encoding="utf-8", errors="replace")
            findings.counts[f"log of the {name} server in bytes"] = len(log)
            findings.slowest[f"end of the {name} server"] = (seconds, "after SIGTERM")
            if seconds > _STOP_S:
                findings.breach(f"the {name} server took {seconds:.1f} s to end")
            if len(log) > LARGEST_LOG:
                findings.breach(f"the {name} server logged {len(log)} bytes")
            if "Traceback" in log:
                findings.breach(f"the {name} server logged a traceback: {server.log}")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
