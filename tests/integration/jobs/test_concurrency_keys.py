"""Jobs that wait behind others of their key: who is ready, in which order, and what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.jobs import queue
from python_mcp_server.jobs.capacity import SlotLimits, capacity_of
from python_mcp_server.jobs.concurrency_keys import (
    KeyedSubmissions,
    put_behind_key,
    release_key,
    sweep_keys,
)
from python_mcp_server.jobs.queue import Chooser, Look
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.settle import settle
from python_mcp_server.jobs.submission import count_waiting
from python_mcp_server.model import Failure, Job, JobState, Outcome, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.processes import identify
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.keys import KEY, READY
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import environment, run_python
from tests.helpers.records import a_job
from tests.helpers.stores import store_of, url_in

RULES = QueueRules()


@pytest.fixture(params=["files", "sqlite", "memory"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[JobStore]:
    kinds: dict[str, Any] = {
        "files": lambda: FileJobStore(home),
        "sqlite": lambda: SqliteJobStore(home / "jobs.db"),
        "memory": InMemoryJobStore,
    }
    made = kinds[request.param]()
    yield made
    made.close()


def queued(number: int, key: str | None = "k", **options: Any) -> Job:
    """Return a job that is queued later than one of a lower number."""
    made = a_job(JobState.PENDING).evolve(background=True, call={"body": "a:b"}, label=str(number))
    at = utc_now() + timedelta(seconds=number)
    return made.evolve(created_at=at, options=JobOptions(key=key, **options))


def create(store: JobStore, *jobs: Job) -> None:
    keyed = KeyedSubmissions(store)
    for job in jobs:
        keyed.create(job)


def labels(store: JobStore, prefix: str) -> list[str]:
    return [job.label for name in store.index_names(prefix) for job in store.indexed(name)]


def look(store: JobStore, slots: int = 10) -> Look:
    return Chooser(store, SlotLimits(slots), None, lambda _: True).look(RULES)


def start(store: JobStore, *jobs: Job) -> None:
    for job in jobs:
        facts = {"status": JobState.RUNNING, "worker": identify(os.getpid()), "behind_key": False}
        store.update(job.id, lambda job, facts=facts: job.evolve(**facts))


def test_jobs_with_a_key_each_are_ready_in_one_list(store: JobStore):
    create(store, *(queued(n, f"key {n}") for n in range(20)))
    assert len(store.index_names(READY)) == 1
    assert len(look(store, 30).chosen) == 20


def test_only_the_first_of_a_key_is_ready(store: JobStore):
    create(store, *(queued(n) for n in range(5)))
    assert labels(store, READY) == ["0"]
    assert labels(store, KEY) == ["1", "2", "3", "4"]


def test_as_many_of_a_key_are_ready_as_may_run(store: JobStore):
    create(store, *(queued(n, key_concurrency=3) for n in range(5)))
    assert labels(store, READY) == ["0", "1", "2"]


def test_the_end_of_a_job_makes_the_next_of_its_key_ready(store: JobStore):
    jobs = [queued(0), queued(1), queued(2, priority=1), queued(3)]
    create(store, *jobs)
    order = list[str]()
    while chosen := look(store).chosen:
        order += [job.label for job in chosen]
        start(store, *chosen)
        for job in chosen:
            settle(store, job.id, Outcome(value=1))
    assert order == ["2", "0", "1", "3"]
    assert store.index_names(KEY) == ()


def test_a_job_of_a_higher_priority_does_not_go_behind_its_key(store: JobStore):
    create(store, queued(0), queued(1), queued(2, priority=5))
    assert labels(store, READY) == ["2", "0"]
    assert [job.label for job in look(store).chosen] == ["2"]


def test_a_look_puts_jobs_behind_a_key_that_is_taken(store: JobStore):
    jobs = [*(queued(n) for n in range(30)), queued(30, "other"), queued(31, None)]
    for job in jobs:
        store.create(job)
    start(store, jobs[0])
    assert [job.label for job in look(store, 4).chosen] == ["30", "31"]
    assert labels(store, KEY) == [str(n) for n in range(1, 30)]


def test_many_jobs_of_a_taken_key_do_not_hold_up_a_look_for_long(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue, "_RELEASED_AT_ONCE", 10)
    jobs = [*(queued(n) for n in range(15)), queued(16, "other"), queued(17, None, queue="q")]
    for job in jobs:
        store.create(job)
    start(store, jobs[0])
    first = look(store)
    assert [job.label for job in first.chosen] == ["17"]
    assert first.due_s == 0.0
    assert "16" in [job.label for job in look(store).chosen]


def test_the_same_key_in_a_paused_queue_holds_up_none_elsewhere(store: JobStore):
    create(store, *(queued(n, queue="slow") for n in range(2)), queued(2))
    rules = QueueRules(paused=("slow",))
    chosen = Chooser(store, SlotLimits(5), None, lambda _: True).look(rules).chosen
    assert [job.label for job in chosen] == ["2"]


def test_a_key_that_is_left_free_during_a_look_is_seen(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    jobs = [queued(n) for n in range(3)]
    for job in jobs:
        store.create(job)
    start(store, jobs[0])

    def late(store: JobStore, job: Job) -> bool:
        settle(store, jobs[0].id, Outcome(value=1))
        return put_behind_key(store, job)

    monkeypatch.setattr(queue, "put_behind_key", late)
    assert look(store).chosen == []
    monkeypatch.undo()
    assert [job.label for job in look(store).chosen] == ["1"]


def test_a_job_that_finds_the_last_one_gone_is_ready(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    jobs = [queued(n) for n in range(3)]
    create(store, *jobs[:2])
    write = store.create

    def late(job: Job) -> None:
        for other in jobs[:2]:
            settle(store, other.id, Outcome(cancelled=True))
        write(job)

    monkeypatch.setattr(store, "create", late)
    create(store, jobs[2])
    assert labels(store, READY) == ["2"]


@pytest.mark.parametrize("end", ["cancelled", "retried"])
def test_a_job_that_leaves_its_key_lets_the_next_one_move_up(store: JobStore, end: str):
    jobs = [queued(n, retry=Retry(2, wait=600)) for n in range(2)]
    create(store, *jobs)
    if end == "cancelled":
        settle(store, jobs[0].id, Outcome(cancelled=True))
    else:
        start(store, jobs[0])
        failed = Outcome(failure=Failure("ValueError", "once"))
        assert settle(store, jobs[0].id, failed).status is JobState.PENDING
    assert labels(store, READY) == ["1"]


def test_a_job_that_is_cancelled_behind_its_key_frees_no_other(store: JobStore):
    jobs = [queued(n) for n in range(3)]
    create(store, *jobs)
    settle(store, jobs[1].id, Outcome(cancelled=True))
    assert labels(store, READY) == ["0"]
    release_key(store, "k")
    assert labels(store, READY) == ["0", "2"]


def test_jobs_behind_their_keys_count_as_waiting(store: JobStore):
    create(store, *(queued(n) for n in range(3)), queued(4, queue="q"))
    assert count_waiting(store, "default", 10) == 3
    assert [state.ready for state in Queues(store).list().queues] == [3, 1]


def test_a_round_finds_a_key_that_a_killed_process_left_free(store: JobStore):
    jobs = [queued(n) for n in range(3)]
    for job in jobs:
        store.create(job.evolve(behind_key=True))
    start(store, jobs[0])

    def sweep(slots: int = 5) -> str:
        return sweep_keys(store, lambda: capacity_of(store, SlotLimits(slots), RULES)[0], "")

    sweep()
    assert labels(store, READY) == []
    store.update(jobs[0].id, lambda job: job.evolve(status=JobState.COMPLETED, completed_at=utc_now()))
    sweep(slots=0)
    assert labels(store, READY) == []
    sweep()
    assert labels(store, READY) == ["1"]


KILLED = """
import os, signal, sys
from tests.helpers import framework_bodies as fb
from tests.helpers.stores import store_of
from tests.integration.jobs import test_concurrency_keys as own
from python_mcp_server.jobs import concurrency_keys, queue, settle
from python_mcp_server.model import Outcome
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
where, home, *ids = sys.argv[1:]
store = store_of(home)
first, second = map(store.get, ids)
if where == "before the release":
    own.start(store, first)
    concurrency_keys.put_behind_key(store, second)
    settle.release_key = kill
    settle.settle(store, first.id, Outcome(value=1))
elif where == "after a look":
    own.start(store, first)
    def late(store, job):
        ended = {"status": own.JobState.COMPLETED, "completed_at": own.utc_now()}
        store.update(first.id, lambda job: job.evolve(**ended))
        concurrency_keys.put_behind_key(store, job)
        kill()
    queue.put_behind_key = late
    own.look(store)
else:
    concurrency_keys.put_behind_key(store, second)
    concurrency_keys._move_up = kill
    settle.settle(store, first.id, Outcome(cancelled=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("where", ["before the release", "after a look", "in the release"])
@pytest.mark.parametrize("kind", ["files", "sqlite"])
async def test_a_kill_between_two_of_a_key_leaves_none_behind(
    kind: str, where: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    log = tmp_path / "log"
    async with manager() as jobs:
        engine = await jobs._engine()
        await engine.slots.close()
        request = Request(fb.said, (str(log), "second"), options=JobOptions(key="k"))
        made = [await jobs.submit_request(request) for _ in range(2)]
        for job in made:
            jobs.store.update(job.id, lambda job: job.evolve(owner=None, behind_key=False))
    ids = [job.id for job in made]
    killed = await asyncio.to_thread(run_python, "-c", KILLED, where, str(home), *ids, env=environment())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = store_of(home).get(ids[1])
    assert left is not None
    assert left.behind_key
    async with manager() as jobs:
        done, timed_out = await jobs.wait(ids[1], LONG_S)
        assert not timed_out
        assert done.status is JobState.COMPLETED
    assert lines(log) == ["second"]


@pytest.mark.parametrize("kind", ["files", "sqlite"])
async def test_servers_run_the_jobs_of_many_keys_one_at_a_time_each(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    log = tmp_path / "log"
    async with manager(max_background_jobs=3) as one, manager(max_background_jobs=3) as other:
        made = list[Job]()
        for number in range(12):
            options = JobOptions(key=f"key {number % 3}")
            request = Request(fb.said_twice, (str(log), str(number % 3)), options=options)
            made.append(await (one, other)[number % 2].submit_request(request))
        for job in made:
            done, timed_out = await one.wait(job.id, LONG_S)
            assert not timed_out, done
            assert done.status is JobState.COMPLETED, done
    for key in "012":
        own = [line[0] for line in lines(log) if line[1:] == key]
        assert own == ["+", "-"] * 4
