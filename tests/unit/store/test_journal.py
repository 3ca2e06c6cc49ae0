"""The events of a store: one for each transition of a record, with what it tells."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import Job, JobProgress, JobState, Usage, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store import journal as journals
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.events import JobEvent
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.journal import FILES, JournalReader, Position
from tests.helpers.stores import EVERY, made_in

START = Position(1, 0)


@pytest.fixture(params=EVERY)
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[JobStore]:
    made = made_in(home, request.param)
    yield made
    made.close()


def a_job(status: JobState = JobState.PENDING, **fields: Any) -> Job:
    return replace(Job(new_job_id(), "a label", status, utc_now(), tool="add"), **fields)


def told(store: JobStore) -> list[JobEvent]:
    return JournalReader(store.journal, START).read_all()


def kinds(store: JobStore) -> list[str]:
    return [event.kind.value for event in told(store)]


def change(store: JobStore, job_id: str, **fields: Any) -> Job:
    return store.update(job_id, lambda job: job.evolve(**fields))


def test_each_transition_is_one_event_and_a_refresh_is_none(store: JobStore):
    job = a_job()
    store.create(job)
    change(store, job.id, status=JobState.RUNNING, started_at=utc_now())
    change(store, job.id, progress=JobProgress(1))
    change(store, job.id, status=JobState.INPUT_REQUIRED)
    change(store, job.id, status=JobState.RUNNING)
    change(store, job.id, status=JobState.COMPLETED, completed_at=utc_now())
    change(store, job.id, status=JobState.FAILED)
    events = told(store)
    assert [(event.kind, event.before, event.after) for event in events] == [
        ("created", None, "pending"),
        ("started", "pending", "running"),
        ("input_required", "running", "input_required"),
        ("resumed", "input_required", "running"),
        ("completed", "running", "completed"),
    ]
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert {(event.job_id, event.tool, event.label, event.queue) for event in events} == {
        (job.id, "add", "a label", "default")
    }


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"attempt": 2, "not_before": utc_now()}, "retried"),
        ({"not_before": utc_now()}, "snoozed"),
        ({}, "requeued"),
    ],
)
def test_a_way_back_to_pending_says_why(store: JobStore, fields: dict[str, Any], kind: str):
    job = a_job(JobState.RUNNING)
    store.create(job)
    change(store, job.id, status=JobState.PENDING, **fields)
    assert kinds(store) == ["created", kind]


def test_a_job_whose_dependency_failed_is_skipped(store: JobStore):
    job = a_job(waits_for=(new_job_id(),), options=JobOptions(queue="images"))
    store.create(job)
    change(store, job.id, status=JobState.CANCELLED, waits_for=(), error="skipped: job x was cancelled")
    assert kinds(store) == ["created", "skipped"]
    assert told(store)[-1].queue == "images"


def test_the_event_of_an_end_tells_what_the_job_took(store: JobStore):
    begun = utc_now()
    job = a_job(created_at=begun - timedelta(seconds=3))
    store.create(job)
    change(store, job.id, status=JobState.RUNNING, started_at=begun)
    usage = Usage(peak_rss_bytes=5_000_000, cpu_seconds=1.5)
    ended = begun + timedelta(seconds=2)
    facts: dict[str, Any] = {"completed_at": ended, "usage": usage, "error_kind": "memory_limit"}
    change(store, job.id, status=JobState.FAILED, **facts)
    _, started, failed = told(store)
    assert started.waited_s == 3
    assert (failed.ran_s, failed.cpu_seconds, failed.peak_rss_mb) == (2, 1.5, 5)
    assert failed.error_kind == "memory_limit"


def test_a_job_that_ends_before_its_start_took_nothing(store: JobStore):
    job = a_job()
    store.create(job)
    change(store, job.id, status=JobState.CANCELLED, completed_at=utc_now())
    assert (told(store)[-1].ran_s, told(store)[-1].cpu_seconds) == (None, None)


def test_a_change_that_fails_is_no_event(store: JobStore):
    job = a_job()
    store.create(job)
    with pytest.raises(InvalidInput):
        change(store, job.id, status=JobState.COMPLETED, result=object())
    with pytest.raises(InvalidInput):
        store.create(job)
    assert kinds(store) == ["created"]


def test_a_record_written_anew_keeps_its_count(store: JobStore):
    job = a_job()
    store.create(job)
    store.update(job.id, lambda _: job.evolve(status=JobState.RUNNING))
    assert [event.number for event in told(store)] == [1, 2]


def test_an_id_that_is_given_again_begins_anew(store: JobStore):
    job = a_job()
    for _ in range(2):
        store.create(job)
        change(store, job.id, status=JobState.CANCELLED, completed_at=utc_now())
        assert store.remove(job.id)
    assert [event.number for event in told(store)] == [1, 2, 1, 2]


def without_events(store: JobStore, *changes: Any) -> None:
    """Do what a process does that is killed before it appends the event of its last change."""
    append = store.journal._append
    store.journal._append = lambda _: None  # type: ignore[method-assign]
    try:
        for each in changes:
            each()
    finally:
        store.journal._append = append  # type: ignore[method-assign]


def test_the_next_writer_appends_what_a_killed_one_could_not(home: Path):
    job, store = a_job(), FileJobStore(home)
    without_events(store, lambda: store.create(job))
    assert kinds(store) == []
    change(FileJobStore(home), job.id, status=JobState.RUNNING)
    assert kinds(store) == ["created", "started"]


def test_a_reader_appends_the_end_that_a_killed_writer_could_not(home: Path):
    job, store = a_job(), FileJobStore(home)
    store.create(job)
    without_events(store, lambda: change(store, job.id, status=JobState.COMPLETED))
    ended = store.get(job.id)
    assert ended is not None
    for _ in range(2):
        store.journal.mend(ended, 1)
    assert kinds(store) == ["created", "completed"]


def test_a_line_that_was_cut_off_costs_only_itself(home: Path):
    jobs, store = [a_job(), a_job(), a_job()], FileJobStore(home)
    store.create(jobs[0])
    file = home / "events" / "000000001.jsonl"
    whole = file.stat().st_size
    store.create(jobs[1])
    with file.open("r+b") as cut:
        cut.truncate(whole + 50)
    store.create(jobs[2])
    assert [event.job_id for event in told(store)] == [jobs[0].id, jobs[2].id]


def test_what_is_no_event_is_left_out(home: Path):
    store = FileJobStore(home)
    store.create(a_job())
    with (home / "events" / "000000001.jsonl").open("ab") as file:
        file.write(b'nothing\n[]\n{"kind": "unheard-of"}\n\xff\n')
    store.create(a_job())
    assert kinds(store) == ["created", "created"]


def test_files_are_private_and_bounded(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "FILE_BYTES", 2_000)
    store = FileJobStore(home)
    for _ in range(120):
        store.create(a_job())
    files = sorted((home / "events").iterdir())
    assert len(files) == FILES
    assert files[-1].name > f"{FILES:09}"
    assert all(file.stat().st_size < 3_000 for file in files)
    if os.name == "posix":
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((home / "events").stat().st_mode) == 0o700
    numbers = store.journal.numbers()
    assert len(told(store)) < 120  # a reader from the start passes over the files that were dropped
    assert JournalReader(store.journal, Position(numbers[0], 0)).read_all() == told(store)


def test_a_follower_misses_nothing_where_files_change(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "FILE_BYTES", 1_000)
    store, other = FileJobStore(home), FileJobStore(home)
    reader, jobs = JournalReader(store.journal, store.journal.end()), [a_job() for _ in range(20)]
    heard = list[str]()
    for number, job in enumerate(jobs):
        (store, other)[number % 2].create(job)
        heard += [event.job_id for event in reader.read_all()]
    assert heard == [job.id for job in jobs]


def test_a_line_in_a_file_that_readers_have_left_is_appended_again(home: Path):
    store = FileJobStore(home)
    store.create(a_job())
    reader = JournalReader(store.journal, START)
    assert len(reader.read_all()) == 1
    (home / "events" / "000000002.jsonl").write_bytes(b"")  # another process has begun a file
    assert reader.read_all() == []
    assert reader.position == Position(2, 0)
    job = a_job()
    store.create(job)
    assert [event.job_id for event in reader.read_all()] == [job.id]


def test_reading_goes_on_after_the_cursor_of_an_event(store: JobStore):
    jobs = [a_job() for _ in range(3)]
    for job in jobs:
        store.create(job)
    cursor = Position.parse(told(store)[0].cursor)
    assert [event.job_id for event in JournalReader(store.journal, cursor).read_all()] == [
        job.id for job in jobs[1:]
    ]


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:-2", "1:2:3", "9" * 50 + ":1"])
def test_what_is_no_cursor_is_refused(text: str):
    with pytest.raises(InvalidInput, match="the cursor is"):
        Position.parse(text)


def test_a_journal_that_cannot_be_written_costs_no_job(home: Path, caplog: pytest.LogCaptureFixture):
    store, job = FileJobStore(home), a_job()
    (home / "events").write_text("in the way")
    store.create(job)
    assert store.get(job.id) == job
    assert "is written later" in caplog.text
    (home / "events").unlink()
    change(store, job.id, status=JobState.RUNNING)
    assert kinds(store) == ["created", "started"]
