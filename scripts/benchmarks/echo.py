"""An echo while two CPU-bound bodies run, against the same echo while the server is idle."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.heartbeat import heartbeat
from benchmarks.servers import Server, peer, serving, timed

if TYPE_CHECKING:
    from mcp import Client

_SERVERS = {
    "our server": "ours",
    "MCPServer with smart_async": "decorated",
    "MCPServer with a plain def": "bare",
}
_PLAIN = "MCPServer with a plain def"
_BODIES = 2
_BODY_S = 1.5
_BEGIN_S = 0.3
_PHASE_S = 1.0
_PAUSE_S = 0.005
"""Between two echoes, idle and under load alike: a client asks now and then, not without end."""

Phases = dict[bool, list[float]]
"""Seconds of each echo, idle (False) and under load (True)."""


def measure(repeats: int) -> list[Figure]:
    """Return the slowdown of an echo under load, seen by the SDK's client and by a raw one."""
    return [
        *_figures("SDK client", asyncio.run(_with_sdk(repeats))),
        *_figures("raw client", _with_raw_client(repeats)),
    ]


def _figures(client: str, phases: dict[str, Phases]) -> Iterator[Figure]:
    for name, times in phases.items():
        idle, loaded = (median(times[load]) * 1e3 for load in (False, True))
        aim, limit = ("", None) if name == _PLAIN else ("at most 2x", 2 * idle)
        what = f"echo, 2 cores burning: {name}, {client}"
        yield Figure("echo", what, loaded, "ms", len(times[True]), "idle", idle, aim, limit)


def _with_raw_client(repeats: int) -> dict[str, Phases]:
    phases: dict[str, Phases] = {name: {False: [], True: []} for name in _SERVERS}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(*peer(module))).open() for name, module in _SERVERS.items()
        }
        for server in servers.values():
            _echoes(server, loaded=True)  # warms its workers
        for _ in range(repeats):
            for name, server in servers.items():
                for loaded in (False, True):
                    phases[name][loaded] += _echoes(server, loaded=loaded)
    return phases


def _echoes(server: Server, *, loaded: bool) -> list[float]:
    bodies = [server.ask("burn", seconds=_BODY_S) for _ in range(_BODIES if loaded else 0)]
    time.sleep(_BEGIN_S)
    until, times = time.monotonic() + _PHASE_S, list[float]()
    while time.monotonic() < until:
        times.append(timed(server, "echo", text="hello"))
        time.sleep(_PAUSE_S)
    for body in bodies:
        server.result(body)
    return times


async def _with_sdk(repeats: int) -> dict[str, Phases]:
    return {name: await _sdk_phases(module, repeats) for name, module in _SERVERS.items()}


async def _sdk_phases(module: str, repeats: int) -> Phases:
    from mcp import Client, StdioServerParameters

    phases: Phases = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        environment = {**os.environ, "PYTHON_MCP_HOME": home}
        parameters = StdioServerParameters(command=sys.executable, args=[*peer(module)], env=environment)
        async with Client(parameters) as client:
            await _sdk_echoes(client, loaded=True)  # warms its workers
            for _ in range(repeats):
                for loaded in (False, True):
                    heartbeat()
                    phases[loaded] += await _sdk_echoes(client, loaded=loaded)
    return phases


async def _sdk_echoes(client: Client, *, loaded: bool) -> list[float]:
    async with asyncio.TaskGroup() as bodies:
        for _ in range(_BODIES if loaded else 0):
            bodies.create_task(client.call_tool("burn", {"seconds": _BODY_S}))
        await asyncio.sleep(_BEGIN_S)
        until, times = time.monotonic() + _PHASE_S, list[float]()
        while time.monotonic() < until:
            started = time.perf_counter()
            await client.call_tool("echo", {"text": "hello"})
            times.append(time.perf_counter() - started)
            await asyncio.sleep(_PAUSE_S)
    return times
