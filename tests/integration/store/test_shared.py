"""One database or server, several processes at once, and SIGKILL of them at any instant."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.opening import open_place, parse_place
from tests.helpers.programs import outputs, python
from tests.helpers.store_kills import AFTER
from tests.helpers.stores import SHARED, url_in

PRELUDE = """
import sys
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.opening import open_place, parse_place

def opened():
    return open_place(parse_place(sys.argv[1], "it"))
"""
READY = "print('ready', flush=True); sys.stdin.readline(); store = opened()\n"
LIVES = """
def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

store = opened()
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


@pytest.fixture(params=[kind for kind in SHARED if kind != "file"])
def url(request: pytest.FixtureRequest, home: Path) -> str:
    return url_in(home, request.param)


def opened(url: str) -> JobStore:
    return open_place(parse_place(url, "it"))


def program(code: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    return python("-c", PRELUDE + code, url, *arguments)


def a_job(status: JobState = JobState.RUNNING) -> Job:
    return Job(new_job_id(), "label", status, utc_now())


def test_processes_that_make_one_store_at_once_share_it(url: str):
    create = "job = Job(new_job_id(), 'label', JobState.PENDING, utc_now()); store.create(job); print(job.id)"
    made = outputs([program(READY + create, url) for _ in range(6)])
    store = opened(url)
    assert {job.id for job in store.list()[0]} == set("".join(made).split())
    store.close()


def test_no_update_of_several_processes_is_lost(url: str):
    store, job = opened(url), a_job()
    store.create(job.evolve(extra={"count": 0}))
    update = """
for number in range(100):
    store.update(sys.argv[2], lambda job: job.evolve(extra={"count": job.extra["count"] + 1}))
"""
    outputs([program(READY + update, url, job.id) for _ in range(5)])
    found = store.get(job.id)
    assert found is not None
    assert found.extra["count"] == 500
    store.close()


def test_of_settlers_in_several_processes_the_first_wins(url: str):
    store, jobs = opened(url), [a_job() for _ in range(50)]
    for job in jobs:
        store.create(job)
    settle = """
for job_id in sys.argv[3].split():
    print(store.update(job_id, lambda job: job.evolve(status=JobState(sys.argv[2]))).status)
"""
    ids = " ".join(job.id for job in jobs)
    states = ("completed", "cancelled", "failed")
    told = outputs([program(READY + settle, url, state, ids) for state in states])
    assert told[0] == told[1] == told[2]
    assert told[0].split() == [str(found.status) for job in jobs if (found := store.get(job.id))]
    store.close()


def test_processes_that_prune_one_store_remove_each_job_once(url: str):
    store = opened(url)
    for number in range(100):
        store.create(a_job(JobState.COMPLETED if number % 2 else JobState.RUNNING))
    removed = outputs([program(READY + "print(store.prune().removed)", url) for _ in range(3)])
    assert sum(map(int, removed)) == 50
    assert [job.status for job in store.list(limit=1000)[0]] == [JobState.RUNNING] * 50
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_writer_killed_at_any_instant_loses_no_acknowledged_record(url: str):
    acknowledged: dict[str, str] = {}
    for wanted_lines in (1, 7, 13, 40, 90, 150):
        with ExitStack() as stack:
            processes = [stack.enter_context(program(LIVES, url)) for _ in range(2)]
            lines: list[str] = []
            for process in processes:
                assert process.stdout is not None
                lines += [process.stdout.readline() for _ in range(wanted_lines)]
            for process in processes:
                process.kill()
                assert process.stdout is not None
                lines += process.stdout.readlines()
        acknowledged |= dict(line.split() for line in lines if line.endswith("\n"))
    store = opened(url)
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
