"""What `doctor` says about the space of a home."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from python_mcp_server.cli import space
from python_mcp_server.cli.checks import _taken  # pyright: ignore[reportPrivateUsage]
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.opening import place_of
from python_mcp_server.store.sqlite import SqliteJobStore

KB = 1000


def put(store: FileJobStore, kb: int, hours: float = 1, items_kb: int = 0) -> str:
    when = utc_now() - timedelta(hours=hours)
    job = Job(new_job_id(when), "x", JobState.COMPLETED, when, completed_at=when)
    store.create(job)
    folder = store.folder(job.id)
    folder.mkdir(parents=True)
    (folder / "stdout").write_bytes(bytes(kb * KB))
    if items_kb:
        (folder / "items").write_bytes(bytes(items_kb * KB))
    return job.id


@pytest.fixture
def store(home: Path) -> Iterator[FileJobStore]:
    made = FileJobStore(home)
    yield made
    made.close()


def test_each_part_and_the_largest_jobs_are_told(store: FileJobStore, home: Path):
    ids = [put(store, 100 * kb) for kb in range(12)]
    emitting = put(store, 0, items_kb=5000)
    (home / "environments" / "e1" / "lib").mkdir(parents=True)
    (home / "environments" / "e1" / "lib" / "a.so").write_bytes(bytes(2000 * KB))
    (home / "logs").mkdir()
    (home / "logs" / "server.log").write_bytes(bytes(300 * KB))
    found = space.survey(Settings.from_environ(), home, home)
    assert found.share == 1
    assert [job_id for _, job_id in found.largest] == [emitting, *ids[:2:-1]]
    assert 6600 * KB <= found.parts["output"] < 7000 * KB
    assert 5000 * KB <= found.parts["items"] < 5100 * KB
    assert 2000 * KB <= found.parts["environments"] < 2100 * KB
    assert 300 * KB <= found.parts["logs"] < 400 * KB
    assert 0 < found.parts["records"] < 1000 * KB
    assert found.parts["scripts"] == 0
    assert space.words(found).startswith("output 6.")


def test_a_look_takes_a_bounded_time_and_estimates_the_rest(store: FileJobStore, home: Path):
    for _ in range(40):
        put(store, 100)
    ticks = count(step=space._OUTPUT_S / 10)  # pyright: ignore[reportPrivateUsage]
    found = space.survey(Settings.from_environ(), home, home, lambda: next(ticks))
    assert found.share < 1
    assert 3000 * KB < found.parts["output"] < 6000 * KB
    assert "(estimated from " in space.words(found)
    assert "(among " in space.largest_words(found)


def test_doctor_says_what_each_bound_removes_next(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch
):
    first = put(store, 10, hours=30)
    put(store, 10, hours=1)
    told = [
        (finding.name, finding.text)
        for finding in _taken(Settings.from_environ(), place_of(Settings.from_environ()))
    ]
    assert [name for name, _ in told] == ["taken"], "10 kB are told as 0.0 MB"
    monkeypatch.setenv("PYTHON_MCP_KEEP_JOBS", "1")
    monkeypatch.setenv("PYTHON_MCP_KEEP_DAYS", "7")
    *_, days, jobs = (
        finding.text for finding in _taken(Settings.from_environ(), place_of(Settings.from_environ()))
    )
    assert days == "PYTHON_MCP_KEEP_DAYS is 7; nothing goes now"
    assert jobs.startswith("PYTHON_MCP_KEEP_JOBS is 1, exceeded by 1; ")
    assert f"the next job to go is {first}, which ended " in jobs


def test_a_database_counts_as_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "jobs.db"
    monkeypatch.setenv("PYTHON_MCP_STORE", f"sqlite://{path}")
    store = SqliteJobStore(path)
    when = utc_now()
    job = Job(new_job_id(), "x", JobState.COMPLETED, when, completed_at=when)
    store.create(job)
    store.folder(job.id).mkdir(parents=True)
    (store.folder(job.id) / "stdout").write_bytes(bytes(100 * KB))
    store.close()
    settings = Settings.from_environ()
    found = space.survey(settings, store.home, path)
    assert found.parts["records"] >= path.stat().st_size
    assert found.parts["output"] >= 100 * KB
    assert [name for name, _ in ((f.name, f.text) for f in _taken(settings, place_of(settings)))] == [
        "taken",
        "largest jobs",
    ]
