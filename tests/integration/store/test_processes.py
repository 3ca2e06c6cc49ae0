"""One home, several processes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreLocked
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.helpers.programs import outputs, python, run_python
from tests.helpers.store_kills import entries
from tests.helpers.waiting import eventually

DEADLINE_S = 120
PRELUDE = """
import os, sys, time
from pathlib import Path
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
home = Path(sys.argv[1])
"""


def program(code: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    return python("-c", PRELUDE + code, home, *arguments)


READY = "store = FileJobStore(home); print('ready', flush=True); sys.stdin.readline()\n"


def test_three_processes_create_a_hundred_jobs_each_and_all_are_listed(home: Path):
    create = """
for number in range(100):
    job = Job(new_job_id(), "label", JobState.PENDING, utc_now())
    store.create(job)
    print(job.id, flush=True)
"""
    made = outputs([program(READY + create, home) for _ in range(3)])
    store = FileJobStore(home)
    listed, more = store.list(limit=1000)
    assert sorted(job.id for job in listed) == sorted("".join(made).split())
    assert (len(listed), more) == (300, False)
    store.close()


def test_readers_find_a_whole_job_while_eight_processes_update_it(home: Path):
    store, job = FileJobStore(home), Job(new_job_id(), "label", JobState.RUNNING, utc_now())
    store.create(job.evolve(extra={"count": 0}))
    update = """
for number in range(60):
    store.update(sys.argv[2], lambda job: job.evolve(extra={"count": job.extra["count"] + 1}))
"""
    read = """
import json
last, path = 0, home / "jobs" / "live" / f"{sys.argv[2]}.json"
for number in range(1000):
    count = json.loads(path.read_bytes())["count"]
    job = store.get(sys.argv[2])
    assert job is not None and job.extra["count"] >= count >= last, (job, count, last)
    last = job.extra["count"]
    if number % 20 == 0:
        assert [job.id for job in store.list(JobState.RUNNING)[0]] == [sys.argv[2]]
        time.sleep(0.02)  # so that the reads are spread over the writing
print(last)
"""
    writers = [program(READY + update, home, job.id) for _ in range(8)]
    seen = outputs([*writers, program(READY + read, home, job.id)])[-1]
    final = store.get(job.id)
    assert final is not None
    assert final.extra["count"] == 8 * 60 >= int(seen) > 0
    assert store.damaged() == []
    store.close()


def test_of_settlers_in_two_processes_all_are_told_the_same(home: Path):
    store = FileJobStore(home)
    jobs = [Job(new_job_id(), "label", JobState.RUNNING, utc_now()) for _ in range(50)]
    for job in jobs:
        store.create(job)
    settle = """
for job_id in sys.argv[3].split():
    print(store.update(job_id, lambda job: job.evolve(status=JobState(sys.argv[2]))).status)
"""
    ids = " ".join(job.id for job in jobs)
    told = outputs(
        [program(READY + settle, home, state, ids) for state in ("completed", "cancelled", "failed")]
    )
    assert told[0] == told[1] == told[2]
    assert told[0].split() == [str(found.status) for job in jobs if (found := store.get(job.id))]
    assert store.list(JobState.RUNNING) == ([], False)
    assert len(store.list(limit=100)[0]) == 50
    store.close()


def test_processes_that_prune_at_once_remove_each_job_once(home: Path):
    store = FileJobStore(home)
    for number in range(100):
        state = JobState.COMPLETED if number % 2 else JobState.RUNNING
        store.create(Job(new_job_id(), "label", state, utc_now()))
    prune = "print(store.prune(lambda job: True).removed)"
    removed = outputs([program(READY + prune, home) for _ in range(3)])
    assert sum(map(int, removed)) == 50
    listed, _ = store.list(limit=1000)
    assert [job.status for job in listed] == [JobState.RUNNING] * 50
    assert list((home / "jobs" / "trash").iterdir()) == []
    store.close()


def test_clients_that_create_list_and_prune_at_once_see_each_own_job(home: Path):
    FileJobStore(home).close()
    work = """
who, mine = sys.argv[2], set()
for number in range(60):
    state = JobState.COMPLETED if number % 3 else JobState.RUNNING
    job = Job(new_job_id(), "label", state, utc_now(), principal=who)
    store.create(job)
    mine.add(job.id)
    listed = store.list(limit=1000, principal=who)[0]
    assert mine <= {job.id for job in listed}
    assert {job.principal for job in listed} == {who}
    if number % 10 == 9:
        running = {job.id for job in store.list(JobState.RUNNING, 1000, who)[0]}
        store.prune(lambda job: job.id in mine, principal=who)
        mine &= running
        assert len(mine) == number // 3 + 1
print(*mine)
"""
    clients = ("client:ada", "client:ada", "client:bob")
    left = [out.split() for out in outputs([program(READY + work, home, who) for who in clients])]
    store = FileJobStore(home)
    for who, own in (("client:ada", left[0] + left[1]), ("client:bob", left[2])):
        assert sorted(job.id for job in store.list(limit=1000, principal=who)[0]) == sorted(own)
        assert store.prune(among=[], principal=who).remaining == len(own)
    assert entries(home) == {job_id for own in left for job_id in own}
    store.close()


HOLD = """
store = FileJobStore(home)
def hold(job):
    print("holding", flush=True)
    sys.stdin.readline()
    return job.evolve(status=JobState.COMPLETED)
store.update(sys.argv[2], hold)
"""


def test_a_lock_is_waited_for_and_its_holder_is_named(home: Path):
    job = Job(new_job_id(), "label", JobState.RUNNING, utc_now())
    store = FileJobStore(home, lock_s=0.1)
    store.create(job)
    with program(HOLD, home, job.id) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(StoreLocked, match=rf"process {holder.pid} \({sys.executable}") as caught:
            store.update(job.id, lambda old: old)
        assert isinstance(caught.value, TimeoutError)
        assert store.get(job.id) == job
        holder.communicate("\n", timeout=DEADLINE_S)
    assert store.update(job.id, lambda old: old).status is JobState.COMPLETED
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_holder_frees_its_lock_even_while_its_forked_child_lives(home: Path):
    job = Job(new_job_id(), "label", JobState.RUNNING, utc_now())
    store = FileJobStore(home, lock_s=DEADLINE_S)
    store.create(job)
    fork = """
store = FileJobStore(home)
def hold(job):
    child = os.fork()
    if child == 0:
        print("forked", os.getpid(), flush=True)
        sys.stdin.readline()
        os._exit(0)
    while True:
        time.sleep(1)
store.update(sys.argv[2], hold)
"""
    with program(fork, home, job.id) as holder:
        assert holder.stdout is not None
        word, child = holder.stdout.readline().split()
        assert word == "forked"
        holder.kill()
        holder.wait()
        os.kill(int(child), 0)
        done = store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED))
        assert store.get(job.id) == done
    store.close()


def test_a_home_deleted_while_running_is_made_again_at_the_next_write(home: Path):
    store = FileJobStore(home)
    store.create(Job(new_job_id(), "label", JobState.RUNNING, utc_now()))
    eventually((home / "meta" / "jobs.json").exists)
    run_python("-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", home)
    assert store.list() == ([], False)
    job = Job(new_job_id(), "label", JobState.RUNNING, utc_now())
    assert store.get(job.id) is None
    store.create(job)
    done = store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED, result="x" * 100_000))
    store.close()
    again = FileJobStore(home)
    assert again.get(job.id) == done
    assert [entry["id"] for entry in json.loads((home / "meta" / "jobs.json").read_text())] == [job.id]
    again.close()


def test_a_stopped_process_without_a_lock_stops_no_other(home: Path):
    idle = "store = FileJobStore(home); print('ready', flush=True); sys.stdin.readline()"
    store = FileJobStore(home)
    with program(idle, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(getattr(signal, "SIGSTOP", signal.SIGTERM))
        store.create(Job(new_job_id(), "label", JobState.RUNNING, utc_now()))
        process.kill()
    store.close()


def test_a_worker_that_imports_the_store_loads_nothing_heavy(home: Path):
    code = """
store = FileJobStore(home)
store.create(Job(new_job_id(), "label", JobState.PENDING, utc_now()))
heavy = {"asyncio", "mcp", "pydantic", "starlette", "psutil", "sqlite3", "shutil", "tempfile", "subprocess"}
print(sorted(heavy & set(sys.modules)))
"""
    done = run_python("-c", PRELUDE + code, home)
    assert (done.stdout, done.stderr) == ("[]\n", "")
