"""`jobs move`: every job of one store is in another, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from click.testing import CliRunner

from python_mcp_server import CommandJob, JobOptions
from python_mcp_server.cli.move import move
from python_mcp_server.errors import JobExpired
from python_mcp_server.jobs.dead_letters import DeadLetters
from python_mcp_server.jobs.expired import Tombstones, not_found
from python_mcp_server.jobs.queue_rules import read_rules
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.quotas import Quotas
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.schedules import BlockingSchedules
from python_mcp_server.jobs.spec import to_spec
from python_mcp_server.jobs.submission import create_queued
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.pool.references import refer
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.opening import open_place, parse_place
from python_mcp_server.store.principals import PrincipalNames
from tests.helpers import bodies
from tests.helpers.programs import environment, python
from tests.helpers.stores import SHARED, lists_with_jobs, url_in

URLS = {"file": "file://{}/home", "sqlite": "sqlite://{}/db/jobs.db"}
PAIRS = list(permutations(SHARED, 2))


def a_job(status: JobState, **fields: object) -> Job:
    return replace(Job(new_job_id(), "label", status, utc_now()), **fields)  # type: ignore[arg-type]


def opened(tmp_path: Path, kind: str) -> tuple[str, JobStore]:
    url = url_in(tmp_path, kind) if kind == "redis" else URLS[kind].format(tmp_path)
    return url, open_place(parse_place(url, "it"))


def moved(source: str, target: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(move, [source, target, "--json"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    told = json.loads(done.stdout)
    assert (told.pop("schedules"), told.pop("differing")) == (0, [])
    return done.return_value or 0, told


def filled(store: JobStore) -> list[Job]:
    states = [state for state in JobState if state.terminal]
    found = [a_job(state, principal=f"client:{number}") for number in range(5) for state in states]
    found.append(a_job(JobState.COMPLETED, result="x" * 700_000))
    for job in found:
        store.create(job)
        folder = store.folder(job.id)
        (folder / "items").mkdir(parents=True)
        (folder / "stdout").write_text(f"of {job.id}")
    return found


@pytest.mark.parametrize(("kind", "other"), PAIRS)
def test_every_job_is_in_the_other_store_with_its_files(tmp_path: Path, kind: str, other: str):
    (from_url, source), (to_url, target) = opened(tmp_path, kind), opened(tmp_path, other)
    found = filled(source)
    assert moved(from_url, to_url) == (0, {"copied": len(found), "present": 0, "live": []})
    for store in (source, target):
        assert [store.get(job.id) for job in found] == found
        assert all((store.folder(job.id) / "stdout").read_text() == f"of {job.id}" for job in found)
    assert moved(from_url, to_url) == (0, {"copied": 0, "present": len(found), "live": []})
    assert target.list(principal="client:3") == source.list(principal="client:3")


@pytest.mark.parametrize(("kind", "other"), PAIRS)
def test_a_queued_job_whose_server_is_gone_goes_on_in_the_other_store(
    kind: str, other: str, tmp_path: Path, gone: ProcessIdentity
):
    (from_url, source), (to_url, target) = opened(tmp_path, kind), opened(tmp_path, other)
    job = a_job(JobState.PENDING, owner=gone, background=True, call={"body": "a:b"})
    source.create(job)
    assert moved(from_url, to_url) == (0, {"copied": 1, "present": 0, "live": []})
    assert target.get(job.id) == job
    left = source.get(job.id)
    assert left is not None
    assert (left.status, left.error_kind) == (JobState.FAILED, "moved")
    assert str(target.home) in (left.error or "")
    assert lists_with_jobs(source) == ()
    assert moved(from_url, to_url) == (0, {"copied": 0, "present": 1, "live": []})


@pytest.mark.parametrize(("kind", "other"), PAIRS)
def test_what_belongs_to_the_home_is_moved_too(tmp_path: Path, kind: str, other: str):
    (from_url, source), (to_url, target) = opened(tmp_path, kind), opened(tmp_path, other)
    options = JobOptions(idempotency_key="once", keep_seconds=3600)
    request = Request(bodies.add, (1, 2), options=options, principal="http-token:x")
    call = to_spec(request, refer(bodies.add))
    job = a_job(JobState.PENDING, background=True, call=call, options=options, principal="http-token:x")
    create_queued(source, job, request)
    dead = a_job(JobState.FAILED, background=True, call=call, options=JobOptions(queue="q"))
    source.create(dead)
    Queues(source).pause("default")
    Quotas(source).set("*", jobs=5)
    made = BlockingSchedules(source).add(CommandJob(["true"]), every=3600, name="s")
    Tombstones(source).add(gone := a_job(JobState.COMPLETED))
    done = CliRunner().invoke(move, [from_url, to_url, "--json"], standalone_mode=False)
    assert json.loads(done.stdout) == {
        "copied": 2, "present": 0, "live": [], "schedules": 1, "differing": [],
    }  # fmt: skip
    again = replace(job, id=new_job_id())
    assert create_queued(target, again, request).id == job.id
    assert read_rules(target) == read_rules(source)
    assert read_rules(target).paused == ("default",)
    assert BlockingSchedules(target).list() == [made]
    assert BlockingSchedules(source).list() == []
    assert [each.id for each in DeadLetters(target).list()[0]] == [dead.id]
    assert isinstance(not_found(target, gone.id), JobExpired)
    assert PrincipalNames(str(target.home)).key_id() == PrincipalNames(str(source.home)).key_id()
    assert os.listdir(target.home / "keeping" / "due") == os.listdir(source.home / "keeping" / "due")


def test_rules_of_the_other_home_stay_and_are_told_by_name(tmp_path: Path):
    (from_url, source), (to_url, target) = opened(tmp_path, "file"), opened(tmp_path, "sqlite")
    Queues(source).pause("a")
    Queues(target).pause("b")
    done = CliRunner().invoke(move, [from_url, to_url], standalone_mode=False)
    assert "queues.json differs from that of sqlite://" in done.stderr
    assert read_rules(target).paused == ("b",)


def test_schedules_stay_with_the_jobs_that_run(tmp_path: Path, own: ProcessIdentity):
    (from_url, source), (to_url, target) = opened(tmp_path, "sqlite"), opened(tmp_path, "file")
    source.create(a_job(JobState.RUNNING, owner=own))
    BlockingSchedules(source).add(CommandJob(["true"]), every=3600, name="s")
    assert moved(from_url, to_url)[0] == 1
    assert len(BlockingSchedules(source).list()) == 1
    assert BlockingSchedules(target).list() == []


def test_a_job_whose_processes_live_stays(tmp_path: Path, own: ProcessIdentity):
    (from_url, source), (to_url, target) = opened(tmp_path, "sqlite"), opened(tmp_path, "file")
    source.create(job := a_job(JobState.RUNNING, owner=own))
    assert moved(from_url, to_url) == (1, {"copied": 0, "present": 0, "live": [job.id]})
    assert (source.get(job.id), target.get(job.id)) == (job, None)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_move_that_was_killed_goes_on_with_the_next(tmp_path: Path, home: Path, gone: ProcessIdentity):
    (from_url, source), (to_url, target) = opened(tmp_path, "file"), opened(tmp_path, "sqlite")
    found = filled(source)
    queued = a_job(JobState.PENDING, owner=gone, background=True, call={"body": "a:b"})
    source.create(queued)
    dies = """
import os, signal, sys
from python_mcp_server import cli
from python_mcp_server.store.sqlite import SqliteJobStore
create, left = SqliteJobStore.create, int(sys.argv.pop(1))

def dying(self, job):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    create(self, job)

SqliteJobStore.create = dying
cli.main()
"""
    for steps in (1, 2, 5):
        with python("-c", dies, str(steps), "jobs", "move", from_url, to_url, env=environment()) as process:
            assert process.wait(60) == -9
    code, told = moved(from_url, to_url)
    assert (code, told["live"]) == (0, [])
    assert [target.get(job.id) for job in found] == found
    assert target.get(queued.id) == queued
    assert (source.get(queued.id) or queued).error_kind == "moved"


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("memory://", "file:///tmp", "two stores that last"),
        ("file:///tmp", "file:///tmp", "two stores that last"),
        ("file:///no/such/place", "sqlite:///tmp/x.db", "where no store is"),
        ("here", "file:///tmp", "FROM is 'here'; it must be file:///directory"),
        ("file:///tmp", "mysql://x", "TO begins with 'mysql://'; it must be"),
        (
            "redis://:sesame@h:1/0",
            "redis://:sesame@h/1",
            r"redis://h:1/0 and TO is redis://h:6379/1; they must",
        ),
    ],
)
def test_a_move_between_what_are_no_two_stores_is_refused(source: str, target: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        moved(source, target)
