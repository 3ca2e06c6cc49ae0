"""A no-op through our queue and through those of others: one at a time, and many at once, on two workers.

Their durability differs, so each name says it. What polls does so each millisecond, not by its default.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import docket  # pyright: ignore[reportMissingImports]  (only the environment of the benchmarks has it)

from benchmarks.bodies import repeat
from benchmarks.heartbeat import heartbeat
from benchmarks.peers.with_huey import POLL_S, queue_in
from benchmarks.queue_stores import STORES, open_store
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.settings import Settings

_WORKERS: Final = 2
_ROUNDS: Final = 3
_AT_ONCE: Final = 100
_WARM: Final = 5
_PATIENCE_S: Final = 60.0

Handle = Callable[[], Awaitable[object]]
"""Waits for the result of a job that was submitted."""
Submit = Callable[[], Awaitable[Handle]]

OURS: Final = {f"{store}, survives SIGKILL": store for store in STORES}


def measure_peers(repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds from submission to result, and the results a second, by contender."""
    contenders: dict[str, Callable[[Path], AbstractAsyncContextManager[Submit]]] = {
        **{name: partial(_ours, store) for name, store in OURS.items()},
        "huey on SQLite, survives SIGKILL": _huey,
        "docket in memory, survives nothing": _docket,
    }
    latencies: dict[str, list[float]] = {name: [] for name in contenders}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(_ROUNDS):
        for name in sorted(contenders, reverse=bool(turn % 2)):
            found, rate = asyncio.run(_turn(contenders[name], max(1, repeats // _ROUNDS)))
            latencies[name] += found
            rates[name].append(rate)
    return latencies, rates


async def _turn(
    contender: Callable[[Path], AbstractAsyncContextManager[Submit]], repeats: int
) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory(prefix="bench-queue-", ignore_cleanup_errors=True) as folder:
        async with contender(Path(folder)) as submit:
            for _ in range(_WARM):
                await _through(submit)
            times = [await _through(submit) for _ in range(repeats)]
            started = time.perf_counter()
            handles = [await submit() for _ in range(_AT_ONCE)]
            await asyncio.gather(*(handle() for handle in handles))
            return times, _AT_ONCE / (time.perf_counter() - started)


async def _through(submit: Submit) -> float:
    heartbeat()
    started = time.perf_counter()
    await (await submit())()
    return time.perf_counter() - started


@asynccontextmanager
async def _ours(store: str, place: Path) -> AsyncGenerator[Submit]:
    settings = Settings.from_environ(home=place, max_background_jobs=_WORKERS, min_free_memory_mb=0)
    async with JobManager(open_store(store, place), settings) as jobs:

        async def submit() -> Handle:
            job = await jobs.submit_request(Request(repeat, ("done",)))
            return partial(_ended, jobs, job.id)

        yield submit


async def _ended(jobs: JobManager, job_id: str) -> None:
    job, _ = await jobs.wait(job_id, _PATIENCE_S)
    if job.result != "done":
        raise RuntimeError(f"a job ended as {job.status}: {job.error}")


@asynccontextmanager
async def _huey(place: Path) -> AsyncGenerator[Submit]:
    file = str(place / "huey.db")
    call = queue_in(file)
    with _huey_workers(file):

        async def submit() -> Handle:
            result: Any = call("done")
            get = partial(result.get, blocking=True, backoff=1, max_delay=POLL_S, timeout=_PATIENCE_S)
            return partial(asyncio.to_thread, get)

        yield submit


@contextmanager
def _huey_workers(file: str) -> Generator[None]:
    command = [sys.executable, "-m", "benchmarks.peers.with_huey", file, str(_WORKERS)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as consumer:
        try:
            yield
        finally:
            consumer.terminate()


@asynccontextmanager
async def _docket(_: Path) -> AsyncGenerator[Submit]:
    async with (
        docket.Docket(f"bench-{os.urandom(4).hex()}", url="memory://") as queue,
        docket.Worker(queue, concurrency=_WORKERS) as worker,
    ):
        queue.register(_echo)
        running = asyncio.create_task(worker.run_forever())

        async def submit() -> Handle:
            execution = await queue.add(_echo)("done")
            return execution.get_result

        try:
            yield submit
        finally:
            running.cancel()
            await asyncio.wait({running})


async def _echo(text: str) -> str:
    return text
