"""One database, several processes at once, and SIGKILL at any instant."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.opening import StorePlace, open_place
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers.programs import python, run_python
from tests.helpers.store_kills import AFTER

DEADLINE_S = 120
PRELUDE = """
import sys
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.sqlite import SqliteJobStore
path = sys.argv[1]
"""
READY = "print('ready', flush=True); sys.stdin.readline(); store = SqliteJobStore(path)\n"
LIVES = """
def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

store = SqliteJobStore(path)
while True:
    job = Job(new_job_id(), "label", JobState.PENDING, utc_now(), background=True, principal="client:ada")
    say(job.id, "creating")
    store.create(job)
    say(job.id, "pending")
    say(job.id, "starting")
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING))
    say(job.id, "running")
    say(job.id, "ending")
    end = {"status": JobState.COMPLETED, "completed_at": utc_now(), "result": "x" * 100_000}
    store.update(job.id, lambda job: job.evolve(**end))
    say(job.id, "completed")
    if job.id[-1] in "0123456789":
        say(job.id, "pruning")
        store.remove(job.id)
        say(job.id, "gone")
"""


@pytest.fixture
def path(home: Path) -> Path:
    return home / "jobs.db"


def program(code: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    return python("-c", PRELUDE + code, path, *arguments)


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let them all begin at once, and return what each printed."""
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=DEADLINE_S) for process in processes]
        ends = [(process.returncode, told[1]) for process, told in zip(processes, answers, strict=True)]
        assert ends == [(0, "")] * len(processes)
        return [out for out, _ in answers]


def a_job(status: JobState = JobState.RUNNING) -> Job:
    return Job(new_job_id(), "label", status, utc_now())


def test_processes_that_make_one_database_at_once_share_it(path: Path):
    create = "job = Job(new_job_id(), 'label', JobState.PENDING, utc_now()); store.create(job); print(job.id)"
    made = outputs([program(READY + create, path) for _ in range(6)])
    store = SqliteJobStore(path)
    assert {job.id for job in store.list()[0]} == set("".join(made).split())
    store.close()


def test_no_update_of_several_processes_is_lost(path: Path):
    store, job = SqliteJobStore(path), a_job()
    store.create(job.evolve(extra={"count": 0}))
    update = """
for number in range(100):
    store.update(sys.argv[2], lambda job: job.evolve(extra={"count": job.extra["count"] + 1}))
"""
    outputs([program(READY + update, path, job.id) for _ in range(5)])
    found = store.get(job.id)
    assert found is not None
    assert found.extra["count"] == 500
    store.close()


def test_of_settlers_in_several_processes_the_first_wins(path: Path):
    store, jobs = SqliteJobStore(path), [a_job() for _ in range(50)]
    for job in jobs:
        store.create(job)
    settle = """
for job_id in sys.argv[3].split():
    print(store.update(job_id, lambda job: job.evolve(status=JobState(sys.argv[2]))).status)
"""
    ids = " ".join(job.id for job in jobs)
    states = ("completed", "cancelled", "failed")
    told = outputs([program(READY + settle, path, state, ids) for state in states])
    assert told[0] == told[1] == told[2]
    assert told[0].split() == [str(found.status) for job in jobs if (found := store.get(job.id))]
    store.close()


def test_processes_that_prune_one_database_remove_each_job_once(path: Path):
    store = SqliteJobStore(path)
    for number in range(100):
        store.create(a_job(JobState.COMPLETED if number % 2 else JobState.RUNNING))
    removed = outputs([program(READY + "print(store.prune().removed)", path) for _ in range(3)])
    assert sum(map(int, removed)) == 50
    assert [job.status for job in store.list(limit=1000)[0]] == [JobState.RUNNING] * 50
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_writer_killed_at_any_instant_loses_no_acknowledged_row(path: Path):
    acknowledged: dict[str, str] = {}
    for wanted_lines in (1, 7, 13, 40, 90, 150):
        with ExitStack() as stack:
            processes = [stack.enter_context(program(LIVES, path)) for _ in range(2)]
            lines: list[str] = []
            for process in processes:
                assert process.stdout is not None
                lines += [process.stdout.readline() for _ in range(wanted_lines)]
            for process in processes:
                process.kill()
                assert process.stdout is not None
                lines += process.stdout.readlines()
        acknowledged |= dict(line.split() for line in lines if line.endswith("\n"))
    store = SqliteJobStore(path)
    found = {job.id: job for job in store.list(limit=10_000)[0]}
    for job_id, word in acknowledged.items():
        job = found.get(job_id)
        assert (None if job is None else job.status) in AFTER[word], (job_id, word)
        if job is not None and job.status is JobState.COMPLETED:
            assert len((store.get(job_id) or job).result) == 100_000
    survey = store.survey()
    assert (survey.readable, survey.damaged, survey.left) == (len(found), [], [])
    assert {job.id for job in store.live()} == {id_ for id_, job in found.items() if not job.status.terminal}
    store.close()


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
names = ("sqlite3", "python_mcp_server.store.sqlite", "python_mcp_server.store.files")
print([name for name in names if name in sys.modules])
"""


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_worker_without_a_server_loads_its_own_store_only(home: Path, kind: str):
    store, job = open_place(StorePlace(kind, home / "place")), a_job()
    store.create(job)
    store.close()
    locator = json.dumps((store.locator() or {}) | {"grace_s": 1.0})
    done = run_python("-c", ORPHAN, job.id, locator)
    database = ["sqlite3", "python_mcp_server.store.sqlite"]
    own = database if kind == "sqlite" else ["python_mcp_server.store.files"]
    assert (done.stdout, done.stderr) == (f"{own}\n", "")


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
