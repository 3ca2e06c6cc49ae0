"""From the cancel of something CPU-bound until its last process is gone."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable

import pebble  # pyright: ignore[reportMissingImports]  (only the environment of the benchmarks has it)
import psutil

from benchmarks.bodies import burn, call_nothing, with_manager
from benchmarks.figures import Figure, figure_of
from benchmarks.turns import take_timed_turns_async
from python_mcp_server.jobs.request import Request
from python_mcp_server.smart_async import default_manager
from python_mcp_server.tools.scripts import run_script_in_dir

_BODY_S = 600.0
_BEGIN_S = 0.05
_LOOK_S = 0.0005
_DEADLINE_S = 30.0
_AIM_MS = 50.0
_SCRIPT = "while True: pass"


def measure(repeats: int) -> list[Figure]:
    """Return how long it takes for a body and for a script with its child."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, pebble.ProcessPool(1) as pool:
        script = Request(run_script_in_dir, kwargs={"directory": folder, "script_content": _SCRIPT})
        times = asyncio.run(with_manager(_measure(pool, script, repeats)))
        pool.stop()
    names = {"body": "cancel of a CPU-bound body, until gone", "script": "cancel of a script, until gone"}
    return [
        figure_of(
            "cancel",
            what,
            times[name],
            "ms",
            peer="pebble",
            peer_seconds=times["pebble"],
            aim="at most 50 ms",
            limit=_AIM_MS,
        )
        for name, what in names.items()
    ]


async def _measure(pool: pebble.ProcessPool, script: Request, repeats: int) -> dict[str, list[float]]:
    await call_nothing()
    return await take_timed_turns_async(
        {
            "body": lambda: _cancel_job(Request(burn, (_BODY_S,)), _busy),
            "script": lambda: _cancel_job(script, _has_child),
            "pebble": lambda: _cancel_in_pebble(pool),
        },
        repeats,
    )


async def _cancel_job(request: Request, begun: Callable[[psutil.Process], bool]) -> float:
    manager = default_manager()
    job = await manager.submit_request(request)
    while job.worker is None:
        await asyncio.sleep(_LOOK_S)
        job = await manager.get(job.id)
        if job.status.terminal:
            raise RuntimeError(f"the body that was to be cancelled ended by itself: {job.error}")
    worker = psutil.Process(job.worker.pid)
    await _until(lambda: begun(worker))
    await asyncio.sleep(_BEGIN_S)
    tree = [worker, *worker.children(recursive=True)]
    started = time.perf_counter()
    await manager.cancel(job.id)
    await _gone(tree)
    return time.perf_counter() - started


def _busy(worker: psutil.Process) -> bool:
    return worker.status() == psutil.STATUS_RUNNING


def _has_child(worker: psutil.Process) -> bool:
    return bool(worker.children())


async def _cancel_in_pebble(pool: pebble.ProcessPool) -> float:
    worker = psutil.Process(await asyncio.wrap_future(pool.submit(os.getpid, None)))
    future = pool.submit(burn, None, _BODY_S)
    await _until(future.running)
    await asyncio.sleep(_BEGIN_S)
    started = time.perf_counter()
    future.cancel()
    await _gone([worker])
    return time.perf_counter() - started


async def _gone(tree: list[psutil.Process]) -> None:
    await _until(lambda: not any(_lives(process) for process in tree))


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not true():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(_LOOK_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
