"""One store with many queued jobs on a few slots, in a process of its own: what a submission and the next
start cost, in which order the jobs start, and what the manager's process holds.

As a program (`python -m benchmarks.queue_depth STORE QUEUED STARTS [keys]`) it prints a `Depth` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.bodies import log_hold, log_rest
from benchmarks.heartbeat import HEARTBEAT_VARIABLE, heartbeat
from benchmarks.queue_stores import open_store
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job
from python_mcp_server.options import JobOptions
from python_mcp_server.settings import Settings

SLOTS: Final = 4
_PRIORITIES: Final = range(-2, 3)
_STEP_S: Final = 600.0
"""What a step of priority is promised to be worth, written down here a second time on purpose."""
_TIMED: Final = 100
_LOOK_S: Final = 0.05
_MB: Final = 1e6


@dataclass(frozen=True)
class Depth:
    """What was seen at one depth.

    Attributes:
        submit_s: The last submissions, in seconds.
        next_start_s: From the last line of a body to the first line of the next one, in seconds.
        out_of_order: The jobs that began although as many as there are slots were to begin before them.
        resident_mb: What the process of the manager holds with all of them queued.
    """

    submit_s: list[float]
    next_start_s: list[float]
    out_of_order: int
    resident_mb: float


def depth_of(store: str, queued: int, starts: int, *, keys: bool = False) -> Depth:
    """Measure one store at one depth, in a process of its own; with `keys` each job has a key of its own."""
    beats = os.environ.get(HEARTBEAT_VARIABLE)
    command = [sys.executable, "-m", __name__, store, str(queued), str(starts), *(["keys"] if keys else [])]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=() if beats is None else (int(beats),),
        check=True,
    )
    return Depth(**json.loads(done.stdout))


async def _measure(store: str, place: Path, queued: int, starts: int, *, keys: bool) -> Depth:
    settings = Settings.from_environ(home=place, max_background_jobs=SLOTS, min_free_memory_mb=0)
    log, gate = place / "log", place / "gate"
    async with JobManager(open_store(store, place), settings) as jobs:
        for _ in range(SLOTS):
            await jobs.submit_request(Request(log_hold, (str(log), str(gate))))
        await _until(log, SLOTS)
        submit_s = await _fill(jobs, log, queued, keys=keys)
        resident_mb = psutil.Process().memory_info().rss / _MB
        ranks = _ranks(jobs)
        gate.touch()
        await _until(log, 2 * (SLOTS + starts))
    begun, ended = _read(log)
    next_start_s = [begin - end for (begin, _), end in zip(begun[SLOTS:], ended, strict=False)]
    names = [name for _, name in begun[SLOTS:]]
    return Depth(submit_s, next_start_s[SLOTS:], out_of_order(names, ranks), resident_mb)


async def _fill(jobs: JobManager, log: Path, queued: int, *, keys: bool) -> list[float]:
    """Submit the jobs, and return how long each of the last ones took."""
    chance, times = random.Random(queued), list[float]()  # noqa: S311  every store gets the same jobs
    for number in range(queued):
        options = JobOptions(priority=chance.choice(_PRIORITIES), key=str(number) if keys else None)
        seconds = chance.uniform(0.05, 0.15)
        request = Request(log_rest, (str(log), str(number), seconds), label=str(number), options=options)
        started = time.perf_counter()
        await jobs.submit_request(request)
        times.append(time.perf_counter() - started)
        heartbeat()
    return times[-_TIMED:]


def _ranks(jobs: JobManager) -> dict[str, float]:
    """Return the promised place of each queued job, by its label: when it would have been queued without a
    priority."""
    return {job.label: _rank(job) for job in jobs.store.live() if job.options is not None}


def _rank(job: Job) -> float:
    priority = 0 if job.options is None else job.options.priority
    return job.created_at.timestamp() - priority * _STEP_S


async def _until(log: Path, count: int) -> None:
    while _lines_in(log) < count:
        heartbeat()
        await asyncio.sleep(_LOOK_S)


def _lines_in(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def _read(log: Path) -> tuple[list[tuple[float, str]], list[float]]:
    """Return when each body began, with its name, and when each ended; by time."""
    lines = [line.split() for line in log.read_text().splitlines()]
    begun = sorted((float(when), name) for what, name, when in lines if what == "+")
    return begun, sorted(float(when) for what, _, when in lines if what == "-")


def out_of_order(names: list[str], ranks: dict[str, float]) -> int:
    """Count the jobs that passed over as many others as there are slots: fewer may be starting just then."""
    promised = {name: place for place, name in enumerate(sorted(ranks, key=lambda name: ranks[name]))}
    places = [promised[name] for name in names]
    return sum(
        place - sum(other < place for other in places[:number]) >= SLOTS
        for number, place in enumerate(places)
    )


def main(store: str, queued: str, starts: str, *keys: str) -> None:
    """Measure in this process, and print."""
    with tempfile.TemporaryDirectory(prefix="bench-queue-", ignore_cleanup_errors=True) as name:
        depth = asyncio.run(_measure(store, Path(name), int(queued), int(starts), keys=bool(keys)))
    print(json.dumps(asdict(depth)))


if __name__ == "__main__":
    main(*sys.argv[1:])
