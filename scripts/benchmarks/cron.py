"""How late the jobs of a schedule by the second are: their records, and the first lines of their bodies; and
the bodies of jobs with a `run_at`. All cores are busy in bodies of background jobs, beside none.

Both kinds run at once: a delayed job falls between two times of the schedule.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.bodies import beat, log_time, rest
from benchmarks.figures import Figure, percentile
from benchmarks.heartbeat import heartbeat
from benchmarks.queue_stores import STORES, open_store
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.settings import Settings

_EVERY_S: Final = 1.0
_AFTER_S: Final = 0.5
"""From a time of the schedule to that of a delayed job."""

_WARM: Final = 3
"""Jobs before the first one, and times that do not count."""

_REST_S: Final = 0.2

_WAIT_S: Final = 60.0
_LOOK_S: Final = 0.2
_PERCENTS: Final = ((50, "p50"), (99, "p99"), (100, "max"))

MADE: Final = "a job each second, until its record is made"
BEGUN: Final = "a job each second, until its body begins"
DELAYED: Final = "a job with run_at, until its body begins"


@dataclass(frozen=True)
class Lateness:
    """Seconds after the time that was asked for, one for each job, by what was waited for."""

    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, what: str, since: datetime, until_s: float) -> None:
        """Note one job."""
        self.seconds.setdefault(what, []).append(until_s - since.timestamp())


def measure(repeats: int) -> list[Figure]:
    """Return p50, p99 and the maximum of each lateness, by store, with busy cores beside idle ones."""
    figures = list[Figure]()
    for store in STORES:
        idle, busy = (asyncio.run(_measure(store, repeats, burning=burning)) for burning in (False, True))
        figures += _figures(store, busy, idle)
    return figures


def _figures(store: str, busy: Lateness, idle: Lateness) -> Iterator[Figure]:
    for what, times in busy.seconds.items():
        for percent, name in _PERCENTS:
            value, peer_value = (percentile(each, percent) * 1e3 for each in (times, idle.seconds[what]))
            title = f"{what}, {name}, all cores busy, {store}"
            yield Figure("cron", title, value, "ms", len(times), "idle", peer_value)


async def _measure(store: str, repeats: int, *, burning: bool) -> Lateness:
    with tempfile.TemporaryDirectory(prefix="bench-cron-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        cores = (os.cpu_count() or 1) if burning else 0
        settings = Settings.from_environ(home=place, max_background_jobs=cores + 4, min_free_memory_mb=0)
        async with JobManager(open_store(store, place), settings) as jobs:
            burners = [await jobs.submit_request(Request(beat, (os.devnull, 1e6))) for _ in range(cores)]
            await _warm(jobs)
            found = await _scheduled(jobs, place / "log", repeats)
            await asyncio.gather(*(jobs.cancel(burner.id) for burner in burners))
            return found


async def _warm(jobs: JobManager) -> None:
    """Start the workers that the jobs need, and one more."""
    quick = [await jobs.submit_request(Request(rest, (_REST_S,))) for _ in range(_WARM)]
    for job in quick:
        await jobs.wait(job.id, _WAIT_S)


async def _scheduled(jobs: JobManager, log: Path, repeats: int) -> Lateness:
    schedule = await jobs.schedules.add(Request(log_time, (str(log),)), every=_EVERY_S, name="bench")
    first = schedule.next_time(utc_now()) or utc_now()
    delays = [first + timedelta(seconds=number * _EVERY_S + _AFTER_S) for number in range(repeats + _WARM)]
    for run_at in delays:
        await jobs.submit_request(Request(log_time, (str(log),), options=JobOptions(run_at=run_at)))
    await _until_begun(log, 2 * (repeats + _WARM))
    await jobs.schedules.pause("bench")
    for job in (await jobs.list(None, 10 * (repeats + _WARM)))[0]:
        await jobs.wait(job.id, _WAIT_S if job.label == log_time.__name__ else 0)
    return _lateness(jobs, log, delays[_WARM:])


async def _until_begun(log: Path, count: int) -> None:
    while _lines_in(log) < count:
        heartbeat()
        await asyncio.sleep(_LOOK_S)


def _lines_in(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def _lateness(jobs: JobManager, log: Path, delays: Sequence[datetime]) -> Lateness:
    """Compare what was asked for with what the bodies have written down."""
    begun = {job_id: float(when) for job_id, when in map(str.split, log.read_text().splitlines())}
    found, records = Lateness(), [job for job_id in begun if (job := jobs.store.get(job_id)) is not None]
    for job in records:
        if job.schedule is not None and (time := datetime.fromisoformat(job.schedule["time"])) > delays[0]:
            found.add(MADE, time, job.created_at.timestamp())
            found.add(BEGUN, time, begun[job.id])
    for job in records:
        run_at = None if job.options is None else job.options.run_at
        if run_at is not None and run_at in delays:
            found.add(DELAYED, run_at, begun[job.id])
    return found
