"""What is left when the attack is over: the last look at the home and at the machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from attack.eyes import Start
from attack.machine import marked, semaphores
from attack.stage import Stage

_LEAVE_S: Final = 10.0
_LONG_AGO_S: Final = 2 * 86_400.0
_CUT_SHORT: Final = re.compile(
    rb"LokyProcess-\d+ failed with traceback: \n-+\nTraceback [^\n]*\n( .*\n)+(EOFError: Ran out of input|"
    rb"_pickle.UnpicklingError: pickle data was truncated)\n"
)


@dataclass(slots=True)
class Evidence:
    """What is left.

    Attributes:
        jobs: The final record of each job, by id.
        starts: The job of each start, in order, and when that was on the monotonic clock.
        orphans: Jobs that stood as running without a living worker after a listing.
        processes: Who still carries the mark.
        leftovers: Files that nobody needs any more.
        damaged: Files that were set aside.
        locks: Locks that cannot be taken.
        semaphores: Names of semaphores of this run.
        tracebacks: Where a traceback was written to.
        bystanders: Strangers that somebody took for a process of ours.
    """

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    starts: list[Start] = field(default_factory=list[Start])
    orphans: list[str] = field(default_factory=list[str])
    processes: list[str] = field(default_factory=list[str])
    leftovers: list[str] = field(default_factory=list[str])
    damaged: list[str] = field(default_factory=list[str])
    locks: list[str] = field(default_factory=list[str])
    semaphores: list[str] = field(default_factory=list[str])
    tracebacks: list[str] = field(default_factory=list[str])
    bystanders: list[str] = field(default_factory=list[str])


async def processes_left(mark: str) -> list[str]:
    """Wait until nobody carries the mark; return who does not leave."""
    deadline = time.monotonic() + _LEAVE_S
    while found := await asyncio.to_thread(marked, mark):
        if time.monotonic() > deadline:
            return [f"pid {one.pid}, a {one.kind} {one.job_id}: {one.line}" for one in found]
        await asyncio.sleep(0.1)
    return []


def collect(stage: Stage, evidence: Evidence, semaphores_before: set[str]) -> None:
    """Take the last look. Nobody of this run may live any more."""
    from python_mcp_server.store.files import FileJobStore

    _let_time_pass(stage.home)
    store = FileJobStore(stage.home)
    store.prune(lambda _: False)  # removes what calls left that were killed with their server
    for job in store.list(limit=1_000_000)[0]:
        whole = store.get(job.id)
        if whole is not None:
            evidence.jobs[job.id] = whole.to_record()
    evidence.damaged = [str(path) for path in store.damaged()]
    store.close()
    evidence.starts = stage.eyes.starts()
    evidence.leftovers = list(_leftovers(stage.home, set(evidence.jobs)))
    evidence.locks = list(_taken_locks(stage.home / "jobs" / "locks"))
    evidence.semaphores = sorted(_own(semaphores() - semaphores_before, stage.history.pids))
    logs = [*stage.folder.glob("*.stderr"), *(stage.home / "logs").glob("*")]
    evidence.tracebacks = [str(path) for path in logs if b"Traceback" in _own_words(path.read_bytes())]


def _own_words(log: bytes) -> bytes:
    """Leave out what loky writes for a worker whose server was killed while it was still sending the
    worker its first words."""
    return _CUT_SHORT.sub(b"", log)


def _let_time_pass(home: Path) -> None:
    """Let what killed processes left look old: what may belong to somebody else is kept for a while."""
    long_ago = time.time() - _LONG_AGO_S
    for path in [
        path for place in ("jobs/tmp/*", "jobs/swept", "lanes/*", "output/*/*") for path in home.glob(place)
    ]:
        os.utime(path, (long_ago, long_ago))


def _leftovers(home: Path, job_ids: set[str]) -> Iterator[str]:
    for folder in (home / "jobs" / "tmp", home / "jobs" / "trash", home / "jobs" / "live", home / "lanes"):
        yield from map(str, folder.iterdir())
    for shard in (home / "output").iterdir():
        yield from (str(path) for path in shard.iterdir() if path.name not in job_ids)


def _own(names: set[str], pids: set[int]) -> list[str]:
    """Return the semaphores, `sem.loky-<pid>-<random>`, whose maker is of this run."""
    return [name for name in names if int(name.split("-")[1]) in pids]


def _taken_locks(folder: Path) -> Iterator[str]:
    from filelock import lock_descriptor

    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDWR)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                yield str(path)
        finally:
            os.close(descriptor)


def orphans(home: Path) -> list[str]:
    """Return the jobs that stand as running while neither their worker nor their owner lives."""
    from python_mcp_server import processes
    from python_mcp_server.model import ProcessIdentity

    found: list[str] = []
    for path in (home / "jobs" / "live").glob("*.json"):
        record = _record(path)
        named: list[dict[str, Any]] = [record[key] for key in ("worker", "owner") if record.get(key)]
        if record.get("status") not in ("running", "input_required") or not named:
            continue  # written through the store alone: no process was ever named
        living = any(processes.is_alive(ProcessIdentity.from_json(one)) for one in named)
        if not living and _record(path).get("status") == record["status"]:
            found.append(f"{path.stem}: {json.dumps(named)}")
    return found


def _record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
