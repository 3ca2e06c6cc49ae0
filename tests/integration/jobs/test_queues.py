"""The queues of a home: counted, and their rules changed, by API and on the command line."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore, JobManager
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs.queues import Queues, QueueState
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.submission import count_waiting
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers import bodies
from tests.helpers import framework_bodies as fb
from tests.helpers.command_line import command
from tests.helpers.managers import lines, manager
from tests.helpers.programs import outputs, python
from tests.helpers.records import a_job, records_opened
from tests.helpers.stores import store_of
from tests.integration.jobs.test_queue import ended, heard, submit


def call(*words: str | Path, code: int = 0) -> Any:
    """Return what `queues` answers as JSON; it must say nothing else."""
    told = command("queues", *words, "--json")
    assert (told.returncode, told.stderr) == (code, ""), told
    return json.loads(told.stdout)


FILLER = """
import os, sys
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from tests.helpers.stores import store_of
from pathlib import Path

store, made = store_of(Path(os.environ["PYTHON_MCP_HOME"])), 0
store.list()
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    job = Job(new_job_id(), "x", JobState.PENDING, utc_now(), background=True)
    try:
        write_queued(store, job.evolve(options=JobOptions(queue=f"queue-{number}")))
    except InvalidInput:
        pass
"""


def row(name: str, **facts: Any) -> dict[str, Any]:
    counts = {"ready": 0, "running": 0, "delayed": 0, "limit": None, "bound": None}
    return {"name": name, **counts, "paused": False, "draining": False, **facts}


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_each_queue_tells_its_jobs_and_rules(kind: str, tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        await jobs.queues.limit("images", 1)
        await jobs.queues.resource("gpu", 2)
        await submit(jobs, fb.hold_named, log, "a", gate, queue="images", resources={"gpu": 1})
        await heard(log, "+a")
        for key in ("x", None):
            await submit(jobs, bodies.pid, queue="images", key=key)
        await submit(jobs, bodies.pid, queue="later", run_at=utc_now() + timedelta(hours=1))
        await jobs.queues.drain("old")
        found = await jobs.queues.list()
        gate.touch()
    shown = {queue.name: queue for queue in found.queues}
    assert list(shown) == ["default", "images", "later", "old"]
    assert shown["images"] == QueueState(**row("images", ready=2, running=1, limit=1))
    assert shown["later"] == QueueState(**row("later", delayed=1))
    assert shown["old"] == QueueState(**row("old", draining=True))
    assert found.to_json()["resources"] == [{"name": "gpu", "there": 2, "taken": 1}]


@pytest.mark.parametrize("kind", ["files", "memory", "sqlite"])
async def test_jobs_that_wait_for_a_time_count_for_the_bound(kind: str, home: Path):
    store = {"memory": InMemoryJobStore, "sqlite": lambda: SqliteJobStore(home / "db")}.get(kind)
    async with manager(store() if store else None) as jobs:
        later = utc_now() + timedelta(hours=1)
        await jobs.queues.pause("images")
        await jobs.queues.bound("images", 2)
        await submit(jobs, bodies.pid, queue="images", run_at=later)
        await submit(jobs, bodies.pid, queue="images")
        await submit(jobs, bodies.pid, queue="other", run_at=later)
        for run_at in (None, later):
            with pytest.raises(InvalidInput, match="'images' is full: 2 jobs wait, 2 may"):
                await submit(jobs, bodies.pid, queue="images", run_at=run_at)
        (_, images, other) = (await jobs.queues.list()).queues
        assert (images.ready, images.delayed, other.delayed) == (1, 1, 1)


def test_the_listing_of_queues_counts_all_that_wait_for_a_time(home: Path):
    store, at = FileJobStore(home), utc_now() + timedelta(hours=1)
    for queue, count in (("first", 1001), ("last", 1)):
        facts: dict[str, Any] = {"not_before": at, "options": JobOptions(queue=queue), "background": True}
        for _ in range(count):
            store.create(a_job(JobState.PENDING).evolve(**facts))
    assert [state.delayed for state in Queues(store).list().queues] == [0, 1001, 1]


def test_the_command_line_changes_the_rules_that_servers_keep(tmp_path: Path, home: Path):
    FileJobStore(home).close()
    assert call("pause", "images")["queue"] == row("images", paused=True)
    assert call("drain", "images")["queue"]["draining"]
    assert call("limit", "images", "2")["queue"]["limit"] == 2
    assert call("bound", "images", "3")["queue"]["bound"] == 3
    assert call("resource", "gpu", "1") == {"resource": {"name": "gpu", "there": 1}}
    told = command("queues", "list").stdout
    assert "paused, draining, 2 run at once, 3 may wait" in told
    assert told.splitlines()[-1].split() == ["gpu", "1", "0"]
    assert call("resume", "images")["queue"] == row("images", limit=2, bound=3)
    assert call("limit", "images", "none")["queue"]["limit"] is None
    assert command("queues", "bound", "images", "none").stdout == "images has no bound\n"
    assert call("list")["queues"] == [row("default")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pause", "a b"), "the queue is 'a b'; it must be 1 to 60 of A-Z a-z 0-9 _ -"),
        (("limit", "images", "-1"), "N is '-1'; it must be a whole number, 0 or more, or 'none'"),
        (("bound", "images", "1.5"), "N is '1.5'; it must be"),
        (("resource", "gpu", "9" * 5000), "N is '999"),
        (("resource", "g.pu", "1"), "the resource is 'g.pu'; it must be 1 to 60"),
    ],
)
def test_a_wrong_rule_is_refused_in_one_sentence(words: tuple[str, ...], sentence: str, home: Path):
    FileJobStore(home).close()
    told = command("queues", words[0], "--", *words[1:])
    assert told.returncode == 2
    assert told.stderr.startswith(f"python-mcp-server: {sentence}"), told.stderr
    assert told.stderr.count("\n") == 1
    assert len(told.stderr) < 600


async def test_a_wrong_number_is_refused_by_the_api():
    async with manager() as jobs:
        for wrong in (-1, True, 1.5, "2"):
            with pytest.raises(InvalidInput, match="it must be a whole number, 0 or more"):
                await jobs.queues.limit("images", wrong)  # type: ignore[arg-type]


def test_many_queued_jobs_are_counted_without_reading_one(monkeypatch: pytest.MonkeyPatch):
    jobs = JobManager()
    for number in range(40):
        options = JobOptions(queue="images", priority=number % 3)
        jobs.store.create(
            Job(new_job_id(), "x", JobState.PENDING, utc_now(), background=True, options=options)
        )
    opened = records_opened(monkeypatch)
    (_, images) = jobs.blocking.queues.list().queues
    assert (images.name, images.ready) == ("images", 40)
    assert opened == []


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"paused": 3}',
    b'{"paused": [["a"]]}',
    b'{"paused": ["a b"]}',
    b'{"limits": {"images": -1}}',
    b'{"limits": {"images": "2"}}',
    b'{"resources": ["gpu"]}',
]


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:20]))
def test_damaged_rules_are_a_sentence_that_names_their_file(data: bytes, home: Path):
    FileJobStore(home).close()
    (home / "queues.json").write_bytes(data)
    for words in (("list",), ("pause", "images")):
        told = command("queues", *words)
        assert told.returncode == 1
        assert str(home / "queues.json") in told.stderr
        assert "correct the file, or remove it" in told.stderr
        assert told.stderr.count("\n") == 1
    assert (home / "queues.json").read_bytes() == data


async def test_damaged_rules_lose_no_job_that_runs_or_waits(tmp_path: Path, home: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        running = await submit(jobs, fb.hold_named, log, "a", gate)
        await heard(log, "+a")
        (home / "queues.json").write_text("{")
        with pytest.raises(StoreError, match=r"queues\.json"):
            await submit(jobs, bodies.pid)
        waiting = (await jobs.submit_request(Request(fb.said, (str(log), "b")))).id
        gate.touch()
        assert (await ended(jobs, running)).status is JobState.COMPLETED
        assert "queues.json" in ((await jobs.get(waiting)).message or "")
        told = command("jobs", "show", waiting, "--json")
        assert "queues.json" in json.loads(told.stdout)["job"]["message"]
        os.remove(home / "queues.json")
        assert (await ended(jobs, waiting)).result == "b"
    assert lines(log) == ["+a", "-a", "b"]


def test_submissions_at_one_instant_keep_the_bound_of_a_queue(home: Path):
    store = store_of(home)
    for number in range(20):
        Queues(store).bound(f"queue-{number}", 1)
    outputs(python("-c", FILLER) for _ in range(3))
    assert [count_waiting(store, f"queue-{number}", 9) for number in range(20)] == [1] * 20
    store.close()
