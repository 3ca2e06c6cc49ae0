"""What a look at a home names, for each store that processes share, and what it leaves out for others."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import StoreError, WorkerUnavailable
from python_mcp_server.jobs import health, server_health
from python_mcp_server.jobs.dead_letters import DeadLetters
from python_mcp_server.jobs.health import Condition, HomeHealth, Problem
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.schedules import BlockingSchedules
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.redis.job_store import RedisJobStore
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import call, manager
from tests.helpers.programs import environment, python
from tests.helpers.stores import store_of

SPEC: dict[str, Any] = {"body": "tests.helpers.framework_bodies:said", "args": [], "kwargs": {}}
OWNER = "subject:someone"
HOLDER = """
import sys
from pathlib import Path
from tests.helpers.stores import store_of
with store_of(Path(sys.argv[1])).exclusive("queues"):
    print("held", flush=True)
    sys.stdin.read()
"""


WITH_FILES = pytest.mark.parametrize("any_home", ["file", "sqlite"], indirect=True)
"""Locks and events of a Redis store are on the server: a lock is lost in seconds, and events are no files."""


@pytest.fixture
def store(any_home: Path) -> JobStore:
    return store_of(any_home)


def look(store: JobStore, principal: str | None = None, *, served: bool = True, **settings: Any) -> Any:
    found = HomeHealth(store, Settings.from_environ(**settings), served=served).look(principal)
    return {problem.check: problem for problem in found.problems}


def put(store: JobStore, status: JobState = JobState.PENDING, *, ago_s: float = 3600, **facts: Any) -> Job:
    when = utc_now() - timedelta(seconds=ago_s)
    known = {"background": True, "call": SPEC | {"file": None, "cwd": None}, "options": JobOptions()} | facts
    if status.terminal:
        known["completed_at"] = when
    job = Job(new_job_id(when), "secret label", status, when).evolve(**known)
    store.create(job)
    return store.get(job.id) or job


def test_a_home_without_trouble_is_ok(store: JobStore):
    put(store, JobState.COMPLETED)
    put(store, ago_s=0)  # a job that has just been queued
    assert look(store) == {}
    found = HomeHealth(store, Settings.from_environ()).look()
    assert found.to_json() == {"status": "ok", "problems": []}


def test_a_home_that_cannot_be_written_is_named(store: JobStore):
    (store.home / "health").write_text("in the way")
    problem = look(store)["home"]
    assert (problem.status, problem.text) == (Condition.DEGRADED, "nothing can be written into the home")
    assert str(store.home) in problem.detail


def test_a_home_that_is_gone_is_named_and_not_made_again(store: JobStore):
    away = store.home.with_name("away")
    store.home.rename(away)
    assert look(store)["home"].text == "the home is gone"
    assert not store.home.exists()
    away.rename(store.home)


def test_damaged_records_and_schedules_are_counted(any_home: Path, store: JobStore):
    job = put(store, JobState.COMPLETED)
    damage(store, job.id)
    assert store.get(job.id) is None
    (store.home / "schedules").mkdir(exist_ok=True)
    (store.home / "schedules" / "x.json").write_text("{ half")
    found = look(store)
    assert found["records"].detail.startswith("1 in ")
    assert found["damage"].detail == "x.json.damaged"


def damage(store: JobStore, job_id: str) -> None:
    if isinstance(store, SqliteJobStore):
        with sqlite3.connect(store.path) as db:
            db.execute("UPDATE jobs SET record = x'7b' WHERE id = ?", (job_id,))
        db.close()
        return
    if isinstance(store, RedisJobStore):
        store._server.command("damage it", "HSET", f"{store.address.key_prefix}job:{job_id}", "record", b"{")
        return
    (path,) = (store.home / "jobs").rglob(f"{job_id}.json")
    path.write_text("{")


@WITH_FILES
def test_a_lock_that_is_held_for_long_is_named_with_its_holder(
    any_home: Path, store: JobStore, monkeypatch: pytest.MonkeyPatch
):
    with python("-c", HOLDER, str(any_home), env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert store.long_locks(3600) == []
        monkeypatch.setattr(health, "SLOW_S", 0.0)
        problem = look(store)["locks"]
        assert problem.detail.startswith(f"the lock own-queues: process {process.pid} (")
        process.communicate("")
    assert "locks" not in look(store)
    with store.exclusive("queues"):
        pass


def test_a_database_that_another_process_keeps_locked_is_named(home: Path):
    store = SqliteJobStore(home / "jobs.db")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert look(store)["locks"].detail == f"another process keeps {store.path} locked"
    other.execute("ROLLBACK")
    other.close()
    assert look(store) == {}


@WITH_FILES
def test_events_that_cannot_be_read_are_named(store: JobStore):
    put(store, JobState.COMPLETED)
    (path,) = (store.home / "events").glob("*.jsonl")
    path.unlink()
    path.mkdir()
    assert look(store)["journal"].text == "the events of the jobs cannot be read"


def test_a_busy_machine_is_named_where_jobs_wait_for_it(store: JobStore):
    problem = look(store, max_load=1e-9)["pressure"]
    assert problem.detail.startswith("waiting for free cores: the load average is ")


def test_a_bound_that_only_live_jobs_exceed_is_named(store: JobStore, own: ProcessIdentity):
    folder = store.folder(put(store, JobState.RUNNING, owner=own).id)
    folder.mkdir(parents=True)
    (folder / "stdout").write_bytes(bytes(3_000_000))
    Keeper(store, Bounds(mb=1)).round()
    problem = look(store, keep_mb=1)["retention"]
    assert problem.detail == "PYTHON_MCP_KEEP_MB is 1, and the jobs take 3 MB"
    assert "retention" not in look(store, keep_mb=100)


@pytest.mark.parametrize(("change", "state"), [(Queues.pause, "paused"), (Queues.drain, "being drained")])
def test_a_queue_that_is_held_up_is_named_where_jobs_wait(
    store: JobStore, change: Callable[[Queues, str], object], state: str
):
    change(Queues(store), "images")
    assert look(store) == {}
    for _ in range(3):
        put(store, ago_s=1, options=JobOptions(queue="images"))
    problem = look(store)["queues"]
    assert (problem.text, problem.detail) == (f"jobs wait in a queue that is {state}", "images (3 jobs)")
    Queues(store).resume("images")
    assert look(store) == {}


def test_rules_of_queues_that_cannot_be_read_are_named(store: JobStore):
    (store.home / "queues.json").write_text("{ half")
    assert look(store)["rules"].text == "the rules of the queues cannot be read, so no queued job starts"


def test_a_job_that_could_run_and_does_not_is_named_with_its_age(store: JobStore):
    oldest, newer = put(store, ago_s=600), put(store, ago_s=500, options=JobOptions(queue="other"))
    put(store, ago_s=700, options=JobOptions(resources={"gpu": 1}))
    problem = look(store)["queue"]
    assert problem.text == "a job could run, and no server starts it"
    assert [word[:34] for word in problem.detail.split("; ")] == [oldest.id, newer.id]


def test_jobs_without_any_server_are_named_from_outside(store: JobStore):
    job = put(store, not_before=utc_now() - timedelta(minutes=5))
    found = look(store, served=False)
    assert found.keys() == {"server"}
    assert job.id in found["server"].detail
    store.worker_folder(f"{os.getpid()}-ab-1").mkdir(parents=True)
    assert look(store, served=False).keys() == {"queue"}


def test_a_job_whose_processes_are_gone_is_named(
    store: JobStore, gone: ProcessIdentity, own: ProcessIdentity
):
    left = put(store, JobState.RUNNING, owner=gone, worker=gone)
    for owner, worker in ((gone, own), (own, gone), (own, None)):
        put(store, JobState.RUNNING, owner=owner, worker=worker)
    attended = put(store, JobState.RUNNING, owner=gone, worker=None, background=False)
    problem = look(store)["owners"]
    assert {word[:34] for word in problem.detail.split("; ")} == {left.id, attended.id}


def test_dead_letters_are_counted_and_the_newest_is_told(store: JobStore):
    put(store, JobState.FAILED, error="older", ago_s=90_000)
    newest = put(store, JobState.FAILED, error="it broke\nand more", ago_s=60)
    put(store, JobState.FAILED, call=None)  # a failed job that cannot be run again is none
    detail = look(store)["dead_letters"].detail
    assert detail.startswith(f"2 jobs, the newest is {newest.id} (secret label), failed at ")
    assert detail.endswith(": it broke")
    DeadLetters(store).drop_all()
    assert look(store) == {}


def test_schedules_that_fail_or_miss_their_times_are_named(store: JobStore, tmp_path: Path):
    schedules = BlockingSchedules(store)
    schedules.add(Request(fb.said, ("log", "a")), every=3600, name="fails")
    job = schedules.run_now("fails")
    store.update(job.id, lambda job: job.evolve(status=JobState.FAILED, error="no", call=None))
    missed = schedules.add(Request(fb.said, ("log", "b")), every=3600, name="misses")
    late = schedules.add(Request(fb.said, ("log", "c")), every=3600, name="late")
    rest = schedules.add(Request(fb.said, ("log", "d")), every=3600, name="rests", paused=True)
    hour = timedelta(hours=1)
    change(store, missed.id, missed_times={"count": 1, "last": text(utc_now()), "why": "no server was there"})
    for each in (late, rest):
        began = each.made_at - 2 * hour
        timetable = each.timetable.to_json() | {"start": text(began)}
        change(store, each.id, timetable=timetable, spans=[[text(began), text(began)]])
    found = HomeHealth(store, Settings.from_environ(), served=True).look()
    told = {problem.text: problem.detail for problem in found.problems}
    assert told["the last job of a schedule failed"] == f"fails ({job.id}: no)"
    assert told["the last time of a schedule started no job"].startswith("misses (")
    assert told["a time of a schedule has passed, and no server has started its job"].startswith("late (")


def change(store: JobStore, schedule_id: str, **facts: Any) -> None:
    path = store.home / "schedules" / f"{schedule_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def text(when: Any) -> str:
    return when.isoformat()


@pytest.mark.parametrize("what", ["file", "cwd", "body"])
def test_a_schedule_whose_body_is_gone_is_named(store: JobStore, tmp_path: Path, what: str):
    gone = "python_mcp_server.tools.scripts:no_longer" if what == "body" else str(tmp_path / "gone")
    made = BlockingSchedules(store).add(Request(fb.said, ("log", "a")), every=3600, name="nightly")
    assert look(store) == {}
    call = made.job["call"] | ({"file": None, "cwd": None} if what == "body" else {}) | {what: gone}
    change(store, made.id, job=made.job | {"call": call})
    problem = look(store)["schedules"]
    assert (problem.text, problem.detail) == ("what a schedule runs is gone", f"nightly ({gone})")


def test_a_client_learns_nothing_of_the_jobs_of_others(store: JobStore, gone: ProcessIdentity):
    put(store, ago_s=600, principal="client:other")
    put(store, JobState.FAILED, error="their secret", principal="client:other")
    put(store, JobState.RUNNING, owner=gone, worker=gone, principal="client:other")
    put(store, options=JobOptions(queue="theirs"), principal="client:other")
    Queues(store).pause("theirs")
    assert look(store, OWNER) == {}
    own = put(store, JobState.FAILED, error="my own", principal=OWNER)
    told = look(store, OWNER)
    assert told.keys() == {"dead_letters"}
    assert told["dead_letters"].detail.startswith(f"1 job, the newest is {own.id}")
    (store.home / "schedules").mkdir(exist_ok=True)
    (store.home / "schedules" / "their-id.json.damaged").touch()
    (store.home / "queues.json").write_text("their { rules")
    assert not any("their" in each.detail for each in look(store, OWNER).values())
    public = HomeHealth(store, Settings.from_environ()).look().to_json(details=False)
    assert public["status"] == "degraded"
    for secret in ("secret", "theirs", str(store.home), own.id):
        assert secret not in json.dumps(public)


def test_a_look_reads_no_record_of_a_job_that_has_ended(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    for _ in range(50):
        put(store, JobState.COMPLETED)
    monkeypatch.setattr(type(store), "list", forbidden)
    monkeypatch.setattr(type(store), "prune", forbidden)
    monkeypatch.setattr(type(store), "survey", forbidden)
    assert look(store, keep_mb=1000) == {}


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("all records would be read")


def test_a_store_that_cannot_be_read_fails(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    def unreadable(*_: Any) -> Any:
        raise StoreError("no")

    monkeypatch.setattr(type(store), "index_names", unreadable)
    assert look(store)["store"].failing


# ---- what a server knows of itself


async def test_a_server_names_ends_that_could_not_be_written(home: Path):
    async with manager() as jobs:
        assert (await jobs.health()).status is Condition.OK
        refresher = (await jobs._engine()).services.refresher  # pyright: ignore[reportPrivateUsage]

        def fails() -> None:
            raise StoreError("no room")

        refresher.retry_write("the-job", fails)
        (problem,) = (await jobs.health()).problems
        assert (problem.check, problem.detail) == ("writes", "1: the-job")
        assert (await jobs.health(OWNER)).problems[0].detail == ""
        refresher.retry_write("the-job", lambda: None)
        await jobs.close()


async def test_a_server_that_can_start_no_worker_fails_until_it_can(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    async def no_process(*_: Any) -> None:
        raise OSError("no process")

    start = WorkerHandle.start
    monkeypatch.setattr(WorkerHandle, "start", no_process)
    async with manager() as jobs:
        with pytest.raises(WorkerUnavailable):
            await call(jobs, os.getpid)
        found = await jobs.health()
        assert (found.status, found.problems[0].check) == (Condition.FAILING, "workers")
        assert found.problems[0].detail == "no process"
        monkeypatch.setattr(WorkerHandle, "start", start)
        while (await jobs.health()).status is not Condition.OK:  # no call is made: the look tries again
            await asyncio.sleep(0.01)


async def test_a_server_names_the_disk_space_that_its_jobs_have_used_up(home: Path):
    async with manager(max_disk_mb=1) as jobs:
        assert await call(jobs, os.getpid) != os.getpid()
        job = put(jobs.store, JobState.COMPLETED, call=None)
        jobs.store.folder(job.id).mkdir(parents=True)
        (jobs.store.folder(job.id) / "stdout").write_bytes(bytes(2_000_000))
        (await jobs._engine())._home_disk.forget()  # type: ignore[union-attr]  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(StoreError, match="PYTHON_MCP_MAX_DISK_MB"):
            await call(jobs, os.getpid)
        assert (await jobs.health()).problems[0].check == "disk"
        jobs.store.remove(job.id)
        while (await jobs.health()).problems:
            await asyncio.sleep(0.01)


async def test_a_store_in_memory_has_a_health_too(home: Path):
    async with manager(InMemoryJobStore()) as jobs:
        assert (await jobs.health()).to_json() == {"status": "ok", "problems": []}
        await jobs.queues.pause("default")
        await jobs.submit_request(Request(fb.said, (str(home), "x")))
        assert [problem.check for problem in (await jobs.health()).problems] == ["queues"]


def test_a_part_of_the_home_that_cannot_be_read_does_not_stop_a_server(store: JobStore):
    (store.home / "schedules").write_text("in the way")
    problem = look(store)["store"]
    assert (problem.failing, problem.text) == (False, "a part of the home cannot be read")


async def test_a_glance_does_not_wait_for_a_disk_that_hangs(home: Path, monkeypatch: pytest.MonkeyPatch):
    gate, looked = threading.Event(), threading.Event()
    real = HomeHealth.look

    def hangs(self: HomeHealth, principal: str | None = None) -> Any:
        looked.set()
        gate.wait(60)
        return real(self, principal)

    async with manager() as jobs:
        assert (await jobs.health(glance=True)).status is Condition.OK
        monkeypatch.setattr(HomeHealth, "look", hangs)
        monkeypatch.setattr(server_health, "SLOW_S", 0.0)
        monkeypatch.setattr(server_health, "_FRESH_S", 0.0)
        monkeypatch.setattr(server_health, "_PATIENCE_S", 0.01)
        found = await jobs.health(glance=True)
        assert [problem.text for problem in found.problems] == ["the disk of the home answers slowly"]
        assert await asyncio.to_thread(looked.wait, 60)
        gate.set()
        while (await jobs.health(glance=True)).problems:
            pass


def test_the_worst_problem_decides_the_status():
    bad, worse = Problem("a", "b", "c"), Problem("a", "b", "c", failing=True)
    assert health.Health((bad, worse)).status is Condition.FAILING
    assert health.Health((bad,)).to_json()["problems"] == [
        {"check": "a", "status": "degraded", "text": "b", "advice": "c"}
    ]
