"""Ids of removed jobs are told apart from unknown ones, for a day, and for those who could see the job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import JobExpired, JobNotFound
from python_mcp_server.jobs import expired
from python_mcp_server.jobs.expired import Tombstones, not_found, remove_job
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def at(when: datetime) -> Callable[[], datetime]:
    return lambda: when


def ended(hours: float = 3, principal: str | None = None) -> Job:
    when = NOON - timedelta(hours=hours)
    return Job(new_job_id(when), "x", JobState.COMPLETED, when, completed_at=when, principal=principal)


@pytest.mark.parametrize(
    ("hours", "kept"),
    [(0, "0 seconds"), (1 / 3600, "1 second"), (0.5, "30 minutes"), (1, "1 hour"), (75, "3 days")],
)
def test_the_error_says_when_the_job_ended_and_how_long_it_was_kept(hours: float, kept: str, home: Path):
    store = FileJobStore(home)
    job = ended(hours)
    store.create(job)
    assert remove_job(store, job, at(NOON))
    found = Tombstones(store, at(NOON)).find(job.id)
    when = f"{job.completed_at:%Y-%m-%d %H:%M}"
    assert str(found) == f"Job {job.id} has expired (it ended {when} UTC; it was kept for {kept})"
    assert isinstance(found, JobNotFound)
    assert found.job_id == job.id


def test_an_id_is_expired_until_the_next_day_ends_and_unknown_then(home: Path):
    store, job = FileJobStore(home), ended()
    Tombstones(store, at(NOON)).add(job)
    for days, known in ((0, True), (1, True), (2, False)):
        assert (Tombstones(store, at(NOON + timedelta(days=days))).find(job.id) is not None) == known
    Tombstones(store, at(NOON + timedelta(days=1))).sweep()
    assert (home / "expired" / "2026-11-30").is_dir()
    Tombstones(store, at(NOON + timedelta(days=2))).sweep()
    assert list((home / "expired").iterdir()) == []


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_pruned_job_has_expired_for_plain_code(kind: str):
    jobs = JobManager(InMemoryJobStore() if kind == "memory" else None)
    job = ended(-(utc_now() - NOON) / timedelta(hours=1))
    jobs.store.create(job)
    assert jobs.blocking.prune(keep_completed=False, max_age_hours=0).removed == 1
    for look in (jobs.blocking.get, jobs.blocking.cancel, jobs.blocking.output):
        with pytest.raises(JobExpired):
            look(job.id)
    with pytest.raises(JobNotFound) as caught:
        jobs.blocking.get(new_job_id())
    assert type(caught.value) is JobNotFound
    jobs.store.close()


def test_a_line_that_a_kill_has_cut_is_left_out(home: Path):
    store, job = FileJobStore(home), ended()
    Tombstones(store, at(NOON)).add(job)
    (file,) = (path for path in (home / "expired").rglob("*") if path.is_file())
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    assert Tombstones(store, at(NOON)).find(job.id) is None
    file.write_bytes(b"[]\n" + whole)
    assert Tombstones(store, at(NOON)).find(job.id) is not None


def test_the_file_of_a_day_has_a_bound(home: Path, monkeypatch: pytest.MonkeyPatch):
    store, job = FileJobStore(home), ended()
    monkeypatch.setattr(expired, "_MOST_BYTES", 1)
    for each in (job, ended().evolve(id=job.id[:-1] + "0"), job):
        Tombstones(store, at(NOON)).add(each)
    files = [path for path in (home / "expired").rglob("*") if path.is_file()]
    assert all(path.read_bytes().count(b"\n") == 1 for path in files)


def test_a_disk_that_takes_no_note_keeps_no_job_from_being_removed(home: Path):
    store, job = FileJobStore(home), ended()
    store.create(job)
    (home / "expired").write_text("in the way")
    assert remove_job(store, job)
    assert type(not_found(store, job.id)) is JobNotFound


def test_what_is_no_id_is_unknown_at_no_cost(home: Path):
    store = FileJobStore(home)
    assert str(not_found(store, "../../etc")) == "Job ../../etc not found"
