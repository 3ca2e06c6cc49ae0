"""The home is cleaned by one of its servers, and a kill at any instant leaves it usable."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import JobExpired
from python_mcp_server.jobs import housekeeping
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually
from tests.helpers.managers import LONG_S, manager
from tests.helpers.programs import outputs, python, run_python

CLEANER = """
import sys
from pathlib import Path
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.store.files import FileJobStore
keeper = Keeper(FileJobStore(Path(sys.argv[1])), Bounds(jobs=5))
print("ready", flush=True)
sys.stdin.readline()
keeper.round()
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from python_mcp_server.jobs import expired, keeping
from python_mcp_server.store.files import FileJobStore
store, left = FileJobStore(Path(sys.argv[1])), [int(sys.argv[2])]
def dying(method):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **kwargs)
    return call
store.remove = dying(store.remove)
expired.Tombstones.add = dying(expired.Tombstones.add)
keeping.Keeper._write = dying(keeping.Keeper._write)
keeping.Keeper(store, keeping.Bounds(jobs=1)).round()
"""


def fill(store: FileJobStore, count: int) -> list[str]:
    ids: list[str] = []
    for minutes in range(count, 0, -1):
        when = utc_now() - timedelta(minutes=10 + minutes)
        ids.append(new_job_id(when))
        store.create(Job(ids[-1], "x", JobState.COMPLETED, when, completed_at=when))
    return ids


def left(store: FileJobStore) -> set[str]:
    return {job.id for job in store.list(limit=1000)[0]}


def make_due(home: Path) -> None:
    (home / "keeping" / "state.json").unlink(missing_ok=True)


def test_servers_that_clean_at_once_remove_no_job_too_many(home: Path):
    store = FileJobStore(home)
    ids = fill(store, 60)
    outputs(python("-c", CLEANER, str(home)) for _ in range(3))
    assert left(store) == set(ids[-5:])


@pytest.mark.parametrize("step", range(6))
def test_a_cleaner_that_is_killed_leaves_a_home_that_is_cleaned(step: int, home: Path):
    store = FileJobStore(home)
    ids = fill(store, 4)
    assert run_python("-c", KILLED, str(home), str(step)).returncode < 0
    assert set(ids[-1:]) <= left(store)
    make_due(home)
    Keeper(store, Bounds(jobs=1)).round()
    assert left(store) == set(ids[-1:])


async def test_a_server_cleans_its_home(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(housekeeping, "_FIRST_S", 0.01)
    ids = fill(FileJobStore(home), 3)
    async with manager(keep_jobs=1) as jobs:
        await jobs.list()
        await asyncio.to_thread(eventually, lambda: left(FileJobStore(home)) == set(ids[-1:]))
        with pytest.raises(JobExpired):
            await jobs.get(ids[0])


async def test_a_job_with_a_time_of_its_own_goes_and_frees_its_key(home: Path):
    options: dict[str, Any] = {"keep_seconds": 30.0, "idempotency_key": "k"}
    async with manager() as jobs:
        job = await jobs.submit_request(Request(bodies.pid, options=JobOptions(**options)))
        await jobs.wait(job.id, LONG_S)
        later = utc_now() + timedelta(hours=1)
        make_due(home)
        Keeper(jobs.store, Bounds(), lambda: later).round()
        with pytest.raises(JobExpired):
            await jobs.get(job.id)
        again = await jobs.submit_request(Request(bodies.pid, options=JobOptions(**options)))
        assert again.id != job.id
        await jobs.wait(again.id, LONG_S)


async def test_a_close_ends_a_clean_up_under_way(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(housekeeping, "_FIRST_S", 0.0)
    fill(FileJobStore(home), 30)
    for _ in range(3):
        make_due(home)
        async with manager(keep_days=1e-6) as jobs:
            await jobs.list()
    assert FileJobStore(home).live() == ()
