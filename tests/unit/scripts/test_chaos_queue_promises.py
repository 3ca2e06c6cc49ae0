"""The checks of `scripts/chaos` on queued jobs find each broken promise."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos_testing.final_state import FinalState, index_differences
from chaos_testing.history import History
from chaos_testing.notes import Notes, Run, read_notes
from chaos_testing.queue_promises import queue_breaches
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.store.files import FileJobStore
from tests.helpers.records import a_job

FIRST, SECOND = new_job_id(), new_job_id()
PID = os.getpid()


def record(job_id: str = FIRST, status: JobState = JobState.COMPLETED, **facts: Any) -> dict[str, Any]:
    options = JobOptions(**facts.pop("options", {}))
    job = Job(job_id, "q-quick 1", status, utc_now(), completed_at=utc_now(), options=options)
    return job.evolve(**facts).to_record()


def ran(
    began_at: float, ended_at: float | None, how: str = "returned", attempt: int = 1, **facts: Any
) -> Run:
    job_id = facts.get("job_id", FIRST)
    return Run(job_id, attempt, facts.get("pid", PID), began_at, facts.get("began_s", 0.0), ended_at, how)


def found(records: list[dict[str, Any]], *runs: Run, history: History | None = None) -> list[str]:
    final_state = FinalState(jobs={one["id"]: one for one in records}, notes=Notes([*runs], []))
    return list(queue_breaches(history or History(), final_state))


def only(records: list[dict[str, Any]], *runs: Run, history: History | None = None) -> str:
    (line,) = found(records, *runs, history=history)
    return line


def retried(status: JobState = JobState.COMPLETED, **facts: Any) -> dict[str, Any]:
    return record(status=status, options={"retry": Retry(2, wait=1, **facts)}, attempt=2)


def test_attempts_as_they_should_be_break_no_promise():
    assert found([record()], ran(1, 2)) == []
    assert found([retried()], ran(1, 2, "raised"), ran(3, 4, attempt=2)) == []
    assert found([retried(lost_workers=True)], ran(1, None, ""), ran(3, 4, attempt=2)) == []
    assert found([record()], ran(1, 2, "snoozed"), ran(3, 4)) == []


def test_more_attempts_than_allowed_are_a_breach():
    runs = ran(1, 2, "raised"), ran(3, 4, "raised", 2), ran(5, 6, attempt=3)
    assert "was started 3 times" in only([retried()], *runs)


def test_a_start_after_a_lost_worker_is_a_breach_unless_it_is_allowed():
    runs = ran(1, None, ""), ran(3, 4, attempt=2)
    assert found([retried(lost_workers=True)], *runs) == []
    assert "its retry forbids that" in only([retried()], *runs)


def test_an_attempt_that_starts_twice_is_a_breach():
    lines = found([retried(lost_workers=True)], ran(1, None, ""), ran(3, 4))
    assert "attempt 1 was killed, and attempt 1 followed" in lines[0]


def test_two_starts_at_once_are_a_breach():
    lines = found([retried()], ran(1, 4, "raised"), ran(3, 5, attempt=2))
    assert any("ran twice at once" in line for line in lines)


def test_an_attempt_without_its_delay_is_a_breach():
    assert "instead of 1 s" in only([retried()], ran(1, 2, "raised"), ran(2.5, 4, attempt=2))


def test_a_start_before_its_time_is_a_breach():
    at = datetime.fromtimestamp(1000, UTC)
    early = record(options={"run_at": at})
    assert "before its time" in only([early], ran(1, 2, began_s=(at - timedelta(seconds=1)).timestamp()))


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"options": {"resources": {"gpu": 1}}}, "the resource gpu"),
        ({"options": {"queue": "thin"}}, "the queue thin"),
        ({"options": {"key": "key 0"}}, "the key 0"),
        ({"tool": "narrow"}, "the kind"),
        ({"schedule": {"id": "s", "name": "skip", "time": None}}, "the schedule skip"),
    ],
)
def test_more_at_once_than_there_may_be_are_a_breach(facts: dict[str, Any], what: str):
    ids = [new_job_id() for _ in range(3)]
    records = [record(job_id, **facts) for job_id in ids]
    runs = [ran(1 + n / 10, 5, job_id=job_id, pid=PID + n) for n, job_id in enumerate(ids)]
    assert any(what in line for line in found(records, *runs))
    one_by_one = [ran(1 + 10 * n, 5 + 10 * n, job_id=job_id) for n, job_id in enumerate(ids)]
    assert not [line for line in found(records, *one_by_one) if "are in use" in line]


def test_a_killed_body_counts_until_it_was_killed():
    gpu: dict[str, Any] = {"options": {"resources": {"gpu": 1}, "retry": Retry(2, wait=0, lost_workers=True)}}
    records = [record(FIRST, JobState.FAILED, **gpu), record(SECOND, **gpu)]
    runs = ran(1, None, "", pid=7), ran(3, 4, job_id=SECOND)
    assert found(records, *runs) == []
    history = History()
    history.kill_begun_at[7] = 3.5
    assert "the resource gpu" in only(records, *runs, history=history)


def test_a_start_after_the_failure_of_a_predecessor_is_a_breach():
    failed = record(FIRST, JobState.FAILED)
    after = record(SECOND, options={"after": (FIRST,)})
    start = ran(1, 2, job_id=SECOND)
    assert f"although job {FIRST} is failed" in only([failed, after], start)
    anyway = record(SECOND, options={"after": (FIRST,), "run_after_failure": True})
    assert found([failed, anyway], start) == []


def test_a_skipped_job_that_was_started_or_had_no_reason_is_a_breach():
    after = {"options": {"after": (FIRST,)}, "error": "skipped", "error_kind": "skipped"}
    skipped = record(SECOND, JobState.FAILED, **after)
    assert "no job that it waits for has failed" in only([record(), skipped], ran(1, 2))
    lines = found([record(FIRST, JobState.FAILED), skipped], ran(1, 2, job_id=SECOND))
    assert any("is skipped, and was started" in line for line in lines)


def test_a_cancel_that_no_predecessor_explains_is_a_breach():
    after = record(SECOND, JobState.CANCELLED, options={"after": (FIRST,)})
    assert "is cancelled, and no cancel" in only([record(), after], ran(1, 2))
    assert found([record(FIRST, JobState.CANCELLED), after]) == []


def test_a_schedule_that_fires_twice_for_a_time_is_a_breach():
    fired = {"schedule": {"id": "s", "name": "start", "time": "2026-01-01T00:00:00+00:00"}}
    records = [record(one, JobState.CANCELLED, **fired) for one in (FIRST, SECOND)]
    assert "made 2 jobs for" in only(records)


def test_notes_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / "notes"
    path.write_text(
        "start a 1 7 1.5 9.5 \nwrong a 1 7 1.5 9.5 it is odd\nraised a 1 7 2.5 9.9 \nstart a 2 8 3 9 \n"
    )
    notes = read_notes(path)
    assert notes.runs == [Run("a", 1, 7, 1.5, 9.5, 2.5, "raised"), Run("a", 2, 8, 3.0, 9.0)]
    assert notes.wrong == ["job a, attempt 1: it is odd"]


def test_a_job_that_its_list_lacks_is_found(home: Path):
    store = FileJobStore(home)
    job = a_job(JobState.PENDING).evolve(background=True)
    store.create(job)
    assert index_differences(store) == []
    for path in (home / "jobs" / "queue").rglob("*"):
        if path.is_file():
            path.unlink()
    assert index_differences(store) == [f"job {job.id} is missing in the list ready.default"]
    store.close()
