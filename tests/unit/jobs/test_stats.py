"""Statistics of a known set of jobs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import regular
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs.stats import latencies, read_since, stats
from python_mcp_server.model import Job, JobState, Usage, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store import journal as journals
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, home: Path):
    made = InMemoryJobStore() if request.param == "memory" else FileJobStore(home)
    yield made
    made.close()


def submit(store: JobStore, tool: str = "add", **fields: Any) -> Job:
    job = Job(new_job_id(), f"label of {tool}", JobState.PENDING, utc_now(), tool=tool, background=True)
    job = replace(job, **fields)
    store.create(job)
    return job


def run(store: JobStore, waited_s: float, ran_s: float, status: str = "completed", **fields: Any) -> str:
    """Do what a job does that waited and ran so long, with 2 CPU seconds for each second."""
    job = submit(store, **{name: fields.pop(name) for name in ("tool", "client") if name in fields}, **fields)
    begun = job.created_at + timedelta(seconds=waited_s)
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING, started_at=begun))
    ended = {"completed_at": begun + timedelta(seconds=ran_s), "status": JobState(status)}
    kind = "time_limit" if status == "failed" else None
    usage = Usage(peak_rss_bytes=int(ran_s * 1_000_000), cpu_seconds=2 * ran_s)
    store.update(job.id, lambda job: job.evolve(**ended, usage=usage, error_kind=kind))
    return job.id


def test_a_known_set_of_jobs_comes_to_its_numbers(store: JobStore):
    for number in range(1, 11):
        run(store, waited_s=number, ran_s=10 * number)
    run(store, 0, 4, "failed", tool="sort", client="editor")
    run(store, 0, 6, "cancelled", tool="sort", options=JobOptions(queue="images"))
    submit(store, tool="sort")
    found = stats(store, 600)
    assert found["complete"]
    assert found["queue"] == {"ready": 1, "delayed": 0, "waiting": 0, "running": 0}
    assert [group["name"] for group in found["groups"]] == ["add", "sort"]
    add, sort = found["groups"]
    assert (add["created"], add["started"], add["completed"], add["failed"]) == (10, 10, 10, 0)
    assert add["ended_per_minute"] == 1
    assert add["waiting_seconds"] == {"count": 10, "p50": 5, "p90": 9, "p99": 10, "max": 10}
    assert add["running_seconds"] == {"count": 10, "p50": 50, "p90": 90, "p99": 100, "max": 100}
    assert (add["cpu_seconds"], add["wall_seconds"], add["peak_rss_mb"]) == (1100, 550, 100)
    assert (sort["created"], sort["failed"], sort["cancelled"]) == (3, 1, 1)
    assert sort["failures"] == {"time_limit": 1}
    assert found["total"]["created"] == 13
    assert found["total"]["wall_seconds"] == 560


@pytest.mark.parametrize(
    ("by", "names"),
    [("queue", ["default", "images"]), ("client", ["", "editor"]), ("label", ["label of add"])],
)
def test_groups_are_made_by_what_is_asked_for(store: JobStore, by: str, names: list[str]):
    run(store, 0, 1)
    run(store, 0, 1, client="editor")
    run(store, 0, 1, options=JobOptions(queue="images"))
    assert sorted(group["name"] for group in stats(store, 60, by)["groups"]) == names


def test_a_principal_sees_only_their_own(store: JobStore):
    run(store, 0, 1, principal="client:ada")
    run(store, 0, 1, principal="client:bob", tool="secret")
    submit(store, principal="client:bob", tool="secret")
    found = stats(store, 60, principal="client:ada")
    assert found["total"]["created"] == 1
    assert [group["name"] for group in found["groups"]] == ["add"]
    assert sum(found["queue"].values()) == 0
    assert "memory" not in found


def test_groups_beyond_the_most_are_left_out_and_counted(store: JobStore):
    for number in range(52):
        submit(store, tool=f"tool {number}")
    found = stats(store, 60)
    assert (len(found["groups"]), found["groups_left_out"]) == (50, 2)
    assert found["total"]["created"] == 52


def test_only_the_window_counts(home: Path, monkeypatch: pytest.MonkeyPatch):
    store = FileJobStore(home)
    monkeypatch.setattr(journals, "utc_now", lambda: utc_now() - timedelta(hours=2))
    submit(store)
    monkeypatch.undo()
    submit(store)
    assert stats(store, 3600)["total"]["created"] == 1
    assert stats(store, 10_000)["total"]["created"] == 2


def test_files_from_before_the_window_are_not_read(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "FILE_BYTES", 1)
    store = FileJobStore(home)
    for _ in range(3):
        submit(store)
    old = home / "events" / "000000001.jsonl"
    os.utime(old, (0, time.time() - 7200))
    old.chmod(0)
    monkeypatch.setattr(journals, "open_regular", _refusing(str(old), regular.open_regular))
    assert stats(store, 3600)["total"]["created"] == 2
    with pytest.raises(StoreError, match="read the events of the jobs"):
        stats(store, 10_000)


def _refusing(path: str, real: Any) -> Any:
    def opened(name: str, **how: Any) -> int:
        if name == path:
            raise PermissionError(13, "Permission denied", name)
        return real(name, **how)

    return opened


def test_a_journal_that_lost_its_beginning_is_not_complete(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "FILE_BYTES", 1)
    store = FileJobStore(home)
    for _ in range(12):
        submit(store)
    assert not stats(store, 3600)["complete"]


def test_an_end_that_a_killed_writer_did_not_append_counts(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    job = submit(store)
    monkeypatch.setattr(store.journal, "_append", lambda _: None)
    store.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED))
    monkeypatch.undo()
    assert stats(store, 60)["total"]["cancelled"] == 1
    assert [event.number for event in read_since(store, utc_now() - timedelta(60))[0]] == [1, 2]


def test_an_empty_home_has_statistics(store: JobStore):
    found = stats(store)
    assert (found["total"]["created"], found["groups"], found["complete"]) == (0, [], True)
    assert found["total"]["waiting_seconds"] == {"count": 0}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9, True])
def test_a_window_without_meaning_is_refused(store: JobStore, seconds: float):
    with pytest.raises(InvalidInput, match="window_seconds is"):
        stats(store, seconds)


def test_groups_without_meaning_are_refused(store: JobStore):
    with pytest.raises(InvalidInput, match="by is 'tool'; it must be one of kind, client, label, queue"):
        stats(store, by="tool")


def test_percentiles_are_values_that_were_measured():
    assert latencies([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}
