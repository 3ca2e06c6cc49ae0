"""What only the store in a database does with its disk, and what its processes load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.opening import StorePlace, open_place, parse_place
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers.programs import run_python
from tests.helpers.stores import SHARED, url_in

PRELUDE = """
import sys
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.sqlite import SqliteJobStore
path = sys.argv[1]
"""


@pytest.fixture
def path(home: Path) -> Path:
    return home / "jobs.db"


def a_job(status: JobState = JobState.RUNNING) -> Job:
    return Job(new_job_id(), "label", status, utc_now())


def test_a_full_disk_is_named_and_costs_no_row(small_disk: Path):
    store, job = SqliteJobStore(small_disk / "jobs.db"), a_job()
    store.create(job)
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        filler.write(b"x" * 2_000_000)
    large = "x" * 60_000  # and as many rows as find no room in what the log has left
    with pytest.raises(StoreError, match="free space"):
        any(store.create(a_job().evolve(message=large)) for _ in range(100))
    assert store.get(job.id) == job
    (small_disk / "filler").unlink()
    done = store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED))
    assert store.get(job.id) == done
    store.close()


ORPHAN = """
import json, sys
from python_mcp_server.jobs.record import WorkerRecord
WorkerRecord(sys.argv[1], json.loads(sys.argv[2])).refresh(None, None)
print([name for name in sys.argv[3].split() if name in sys.modules])
"""
OWN = {
    "file": ["python_mcp_server.store.files"],
    "sqlite": ["sqlite3", "python_mcp_server.store.sqlite"],
    "redis": ["redis", "python_mcp_server.store.redis.job_store"],
}


@pytest.mark.parametrize("kind", SHARED)
def test_a_worker_without_a_server_loads_its_own_store_only(home: Path, kind: str):
    url = url_in(home, kind)
    store, job = open_place(parse_place(url, "it") if url else StorePlace("file", home)), a_job()
    store.create(job)
    store.close()
    locator = json.dumps((store.locator() or {}) | {"grace_s": 1.0})
    done = run_python(
        "-c", ORPHAN, job.id, locator, " ".join(name for names in OWN.values() for name in names)
    )
    assert (done.stdout, done.stderr) == (f"{OWN[kind]}\n", "")


def test_a_worker_that_imports_the_store_in_a_database_loads_no_other(path: Path):
    code = """
store = SqliteJobStore(path)
store.create(Job(new_job_id(), "label", JobState.PENDING, utc_now()))
others = {"asyncio", "psutil", "filelock", "python_mcp_server.store.files", "python_mcp_server.store.records"}
print(sorted(others & set(sys.modules)))
"""
    done = run_python("-c", PRELUDE + code, path)
    assert (done.stdout, done.stderr) == ("['filelock']\n", "")
    done = run_python("-c", PRELUDE + code, path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
