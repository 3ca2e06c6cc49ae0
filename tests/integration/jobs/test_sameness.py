"""Repeated submissions: by an idempotency key, and by equal arguments for a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import FunctionJob, InMemoryJobStore
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.sameness import SHARDS, Entries, same_or_new
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from tests.helpers import eventually
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import outputs, python, run_python

SUBMITTER = """
import asyncio, sys
from python_mcp_server import FunctionJob, JobManager
from tests.helpers import framework_bodies as fb
async def main():
    log, field, value = sys.argv[1:]
    options = {field: int(value) if value.isdecimal() else value}
    async with JobManager() as jobs:
        await jobs.list()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        job_id = await jobs.submit(FunctionJob(fb.said, log, "once"), **options)
        await jobs.wait(job_id, 60)
        print(job_id, flush=True)
asyncio.run(main())
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.sameness import same_or_new
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore
store = FileJobStore(Path(sys.argv[1]))
options = JobOptions(idempotency_key="k")
job = Job(new_job_id(), "x", JobState.PENDING, utc_now(), background=True, options=options)
def create():
    if sys.argv[2] == "after":
        store.create(job)
    os.kill(os.getpid(), signal.SIGKILL)
print(job.id, flush=True)
same_or_new(store, job, Request(print, options=options), create)
"""


async def submit(jobs: JobManager, *args: Any, principal: str | None = None, **options: Any) -> str:
    given = JobOptions(**options)
    request = Request(fb.said, tuple(map(str, args)), options=given, principal=principal)
    return (await jobs.submit_request(request)).id


async def ended(jobs: JobManager, job_id: str) -> Job:
    job, timed_out = await jobs.wait(job_id, LONG_S)
    assert not timed_out, job
    return job


def put(store: JobStore, job: Job, call: dict[str, Any] | None = None) -> Job:
    """Submit a job that is as in this record."""
    job = job.evolve(call=call)
    args = () if call is None else tuple(call["args"])
    return same_or_new(store, job, Request(fb.said, args), lambda: store.create(job))


def record(status: JobState = JobState.COMPLETED, ended_s: float = 0.0, **options: Any) -> Job:
    at = utc_now() - timedelta(seconds=ended_s)
    done = at if status.terminal else None
    given = JobOptions(**options)
    return Job(new_job_id(), "x", status, at, completed_at=done, background=True, options=given)


def call_of(*args: Any) -> dict[str, Any]:
    return {"body": "m:said", "file": "m.py", "cwd": "/", "args": list(args), "kwargs": {}}


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_a_repeated_key_gets_the_job_that_ran(kind: str, tmp_path: Path):
    log, store = tmp_path / "log", InMemoryJobStore() if kind == "memory" else None
    async with manager(store) as jobs:
        first = await submit(jobs, log, "a", idempotency_key="order 1")
        assert await submit(jobs, log, "a", idempotency_key="order 1") == first
        assert (await ended(jobs, first)).result == "a"
        assert await submit(jobs, log, "a", idempotency_key="order 1") == first
        other = await submit(jobs, log, "a", idempotency_key="order 2")
        await ended(jobs, other)
    assert lines(log) == ["a", "a"]


async def test_a_key_holds_after_a_restart_until_its_job_is_pruned(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        first = await submit(jobs, log, "a", idempotency_key="k")
        await ended(jobs, first)
    async with manager() as jobs:
        assert await submit(jobs, log, "a", idempotency_key="k") == first
        await jobs.prune(keep_completed=False, max_age_hours=0)
        second = await submit(jobs, log, "a", idempotency_key="k")
        assert second != first
        await ended(jobs, second)
    assert lines(log) == ["a", "a"]


async def test_a_retry_of_a_dead_letter_is_cached(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        args, options = (str(log), "a", str(gate)), JobOptions(cache_seconds=600)
        request = Request(fb.said_if, args, options=options)
        first = (await jobs.submit_request(request)).id
        assert (await ended(jobs, first)).status is JobState.FAILED
        gate.touch()
        again = (await jobs.dead_letters.retry(first)).id
        assert (await ended(jobs, again)).result == "a"
        assert (await jobs.submit_request(request)).id == again
        fresher = await jobs.submit_request(replace(request, principal="client:ada"))
        assert fresher.id != again
        await ended(jobs, fresher.id)
    assert lines(log) == ["a", "a"]


async def test_a_retry_does_not_take_the_place_of_another_job(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        options = JobOptions(cache_seconds=600)
        request = Request(fb.said_if, (str(log), "a", str(gate)), options=options)
        first = (await jobs.submit_request(request)).id
        assert (await ended(jobs, first)).status is JobState.FAILED
        gate.touch()
        other = (await jobs.submit_request(request)).id
        await ended(jobs, other)
        await ended(jobs, (await jobs.dead_letters.retry(first)).id)
        assert (await jobs.submit_request(request)).id == other


async def test_a_retry_with_arguments_that_do_not_fit_is_refused(tmp_path: Path):
    async with manager() as jobs:
        options = JobOptions(cache_seconds=600)
        request = Request(fb.said_if, (str(tmp_path / "log"), "a", "missing"), options=options)
        first = (await jobs.submit_request(request)).id
        assert (await ended(jobs, first)).status is JobState.FAILED
        with pytest.raises(InvalidInput, match="the arguments do not fit"):
            await jobs.dead_letters.retry(first, args=[1, 2, 3, 4, 5])


async def test_a_key_with_other_arguments_is_refused(tmp_path: Path):
    async with manager() as jobs:
        first = await submit(jobs, tmp_path / "log", "a", idempotency_key="k")
        with pytest.raises(InvalidInput, match=f"'k', with which job {first} was submitted for another"):
            await submit(jobs, tmp_path / "log", "b", idempotency_key="k")
        named = {"path": str(tmp_path / "log"), "word": "a"}
        same = Request(fb.said, kwargs=named, options=JobOptions(idempotency_key="k"))
        assert (await jobs.submit_request(same)).id == first
        await ended(jobs, first)


async def test_keys_and_cached_results_are_of_one_principal(tmp_path: Path):
    async with manager() as jobs:
        for options in ({"idempotency_key": "k"}, {"cache_seconds": 60}):
            found = {
                await submit(jobs, tmp_path / "log", "a", principal=one, **options)
                for one in (None, "client:a", "client:b", "client:a", None)
            }
            assert len(found) == 3
            for job_id in found:
                await ended(jobs, job_id)


async def test_a_key_of_a_call_that_is_no_json_is_kept_too(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        options = JobOptions(idempotency_key="k", cache_seconds=60)
        made = [
            await jobs.submit_request(Request(lambda: fb.said(log, "a"), options=options)) for _ in range(2)
        ]
        assert made[0].id == made[1].id
        await ended(jobs, made[0].id)
        options = replace(options, idempotency_key=None)
        made = [
            await jobs.submit_request(Request(lambda: fb.said(log, "b"), options=options)) for _ in range(2)
        ]
        for job in made:
            await ended(jobs, job.id)
    assert sorted(lines(log)) == ["a", "b", "b"]


@pytest.mark.parametrize(("field", "value"), [("idempotency_key", "k"), ("cache_seconds", "60")])
def test_submissions_of_several_processes_at_once_make_one_job(field: str, value: str, tmp_path: Path):
    log = tmp_path / "log"
    told = set(outputs(python("-c", SUBMITTER, str(log), field, value) for _ in range(3)))
    assert len(told) == 1
    assert lines(log) == ["once"]


def test_a_sweep_leaves_what_is_no_entry(home: Path):
    store = FileJobStore(home)
    left = home / "same" / "00" / "12-ab.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    Entries(store).sweep("00")
    assert left.exists()
    store.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_submitter_leaves_one_job_or_a_free_key(when: str, home: Path):
    store = FileJobStore(home)
    killed = run_python("-c", KILLED, str(home), when).stdout.strip()
    assert (store.get(killed) is not None) == (when == "after")
    mine = record(JobState.PENDING, idempotency_key="k")
    made = same_or_new(store, mine, Request(print), lambda: store.create(mine))
    assert made.id == (killed if when == "after" else mine.id)
    assert same_or_new(store, record(idempotency_key="k"), Request(print), store.flush).id == made.id


async def test_a_submitter_that_leaves_finds_its_job_by_its_key(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        await jobs.list()
        leaving = asyncio.create_task(submit(jobs, log, "a", idempotency_key="k"))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        again = await submit(jobs, log, "a", idempotency_key="k")
        assert (await ended(jobs, again)).status is JobState.COMPLETED
    assert lines(log) == ["a"]


async def test_equal_calls_share_a_running_job_and_its_result(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        request = Request(fb.hold_named, (str(log), "a", str(gate)), options=JobOptions(cache_seconds=60))
        first = await jobs.submit_request(request)
        await asyncio.to_thread(eventually, lambda: lines(log) == ["+a"])
        assert (await jobs.submit_request(request)).id == first.id
        gate.touch()
        await ended(jobs, first.id)
        assert (await jobs.submit_request(request)).result == "a"
        assert jobs.cache.drop("another:body") == 0
        assert jobs.cache.drop("tests.helpers.framework_bodies:hold_named") == 1
        second = await jobs.submit_request(request)
        assert second.id != first.id
        await ended(jobs, second.id)
        assert jobs.cache.drop() == 1
    assert lines(log) == ["+a", "-a"] * 2


@pytest.mark.parametrize(
    ("former", "shared"),
    [
        (record(ended_s=600), True),
        (record(ended_s=7200), False),
        (record(ended_s=-3600), False),
        (record(JobState.FAILED), False),
        (record(JobState.CANCELLED), False),
        (record(JobState.PENDING), True),
        (record(JobState.PENDING).evolve(ending="cancelled"), False),
    ],
    ids=["fresh", "old", "of a clock set back", "failed", "cancelled", "queued", "to be ended"],
)
def test_only_a_job_that_has_or_will_have_a_fresh_result_is_shared(former: Job, shared: bool):
    store = InMemoryJobStore()
    former = former.evolve(options=JobOptions(cache_seconds=1))
    assert put(store, former, call_of("p", "w")) is not former
    again = put(store, record(cache_seconds=3600), call_of("p", "w"))
    assert (again.id == former.id) == shared
    assert put(store, record(cache_seconds=3600), call_of("p", "other")).id != former.id


def test_an_entry_goes_when_its_job_is_gone_and_tells_no_argument(home: Path):
    store = FileJobStore(home)
    made = put(store, record(idempotency_key="my key", cache_seconds=60), call_of("p", "hush"))
    kept = put(store, record(cache_seconds=60), call_of("p", "kept"))

    def files() -> list[Path]:
        return [path for path in (home / "same").rglob("*") if path.is_file()]

    texts = [str(path).encode() + path.read_bytes() for path in files()]
    assert len(texts) == 3
    assert not any(word in text for word in (b"my key", b"hush") for text in texts)
    assert {path.stat().st_mode & 0o777 for path in files()} == {0o600}
    store.remove(made.id)
    for shard in SHARDS:
        Entries(store).sweep(shard)
    assert len(files()) == 1
    assert kept.id.encode() in files()[0].read_bytes()


def test_a_key_of_a_job_that_its_client_no_longer_sees_is_free():
    store = InMemoryJobStore()
    options = {"idempotency_key": "k", "cache_seconds": 3600, "token_seconds": 60}
    for ended_s, seen in ((30, True), (90, False)):
        former = put(
            store, record(ended_s=ended_s, **options).evolve(principal="client:a"), call_of("p", ended_s)
        )
        again = record(**options).evolve(principal="client:a")
        if seen:
            assert put(store, again, call_of("p", ended_s)).id == former.id
            store.prune()
        else:
            assert put(store, again, call_of("p", ended_s)).id == again.id


class Shared(FunctionJob):
    cache_seconds = 3600
    keep_seconds = 60


async def test_a_kind_of_job_says_whether_its_results_are_shared(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        first = await jobs.submit(Shared(fb.said, log, "a"))
        await ended(jobs, first)
        assert await jobs.submit(Shared(fb.said, log, "a")) == first
        assert jobs.cache.drop("said") == 1
        second = await jobs.submit(Shared(fb.said, log, "a"))
        assert second != first
        options = (await ended(jobs, second)).options
        assert options is not None
        assert options.keep_seconds == 60
        third = await jobs.submit(Shared(fb.said, log, "a"), cache_seconds=0)
        assert third not in {first, second}
        await ended(jobs, third)
    assert lines(log) == ["a"] * 3


def test_a_damaged_entry_costs_a_start_only(home: Path):
    store = FileJobStore(home)
    put(store, record(idempotency_key="k"))
    for path in (home / "same").rglob("*"):
        if path.is_file():
            path.write_bytes(b"[]")
    second = record(idempotency_key="k")
    assert put(store, second).id == second.id
