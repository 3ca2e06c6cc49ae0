"""A row of a list says how a job is, or how it ended, in few characters and never with its result."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, get_args

import pytest

from python_mcp_server.jobs.rows import exit_code, listing, row
from python_mcp_server.model import Job, JobProgress, JobState, Usage
from python_mcp_server.questions.model import Question
from python_mcp_server.tools.suite.report import Outcome
from tests.helpers.records import a_job

BAD_OUTCOMES = [outcome for outcome in get_args(Outcome) if outcome != "passed"]


def ended(result: Any = None, **facts: Any) -> Job:
    job = a_job(JobState.COMPLETED)
    end = job.created_at + timedelta(seconds=2.54)
    return job.evolve(result=result, started_at=job.created_at, completed_at=end, **facts)


@pytest.mark.parametrize(
    ("result", "words", "code"),
    [
        ({"exit_code": 0}, None, 0),
        ({"exit_code": 3}, "exit code 3", 3),
        ({"exit_code": -9}, "ended by SIGKILL", 137),
        ({"exit_code": -40}, "exit code -40", 168),
        ({"exit_code": -9, "timed_out": True}, "timed out", 124),
        ({"exit_code": 1, "outcome": "failed"}, "failed", 1),
        ({"exit_code": 0, "outcome": "passed"}, None, 0),
        ({"total": 50, "failed": 2, "failed_indexes": [3, 7]}, "2 of 50 failed", 1),
        ({"total": 50, "failed": 0, "failed_indexes": []}, None, 0),
        ({"exit_code": "odd", "outcome": 3, "timed_out": "no"}, None, 0),
        ({"exit_code": True, "outcome": "\x1b[2Jthe experiment went well"}, None, 0),
        ({"exit_code": 10**5000, "outcome": []}, None, 0),
        ([1], None, 0),
        (None, None, 0),
    ],
)
def test_a_script_that_did_not_end_well_says_how(result: Any, words: str | None, code: int) -> None:
    job = ended(result)
    assert (row(job).get("ended"), exit_code(job)) == (words, code)


def test_every_outcome_of_a_suite_is_known_here() -> None:
    told = {outcome: row(ended({"exit_code": 1, "outcome": outcome}))["ended"] for outcome in BAD_OUTCOMES}
    assert told == {outcome: outcome for outcome in BAD_OUTCOMES}


def test_a_row_has_what_is_known_and_nothing_else() -> None:
    job = ended({"exit_code": 0, "stdout": "x" * 1000}, usage=Usage(peak_rss_bytes=1_260_000), ran="a.py 3")
    assert row(job) == {
        "id": job.id,
        "label": job.label,
        "ran": "a.py 3",
        "status": "completed",
        "created_at": job.created_at.isoformat(timespec="seconds"),
        "seconds": 2.5,
        "peak_rss_mb": 1.3,
    }
    waiting = a_job(JobState.PENDING).evolve(message="it waits for a slot")
    assert row(waiting).keys() == {"id", "label", "status", "created_at", "note"}


def test_the_note_of_a_refused_job_is_the_sentence_alone() -> None:
    failed = a_job(JobState.FAILED)
    errors = ["python_mcp_server.errors.InvalidInput: a is 1; it must be 2\n\nTraceback", "ValueError: no"]
    assert [row(failed.evolve(error=error))["note"] for error in errors] == [
        "a is 1; it must be 2",
        "ValueError: no",
    ]


def test_the_note_has_large_numbers_whole_and_others_short() -> None:
    running = a_job(JobState.RUNNING)
    shown = [(1_500_000, 12_345_678), (0.1 + 0.2, 1), (100 / 3, None), (1e300, None)]
    notes = [row(running.evolve(progress=JobProgress(*numbers)))["note"] for numbers in shown]
    assert notes == ["1500000/12345678", "0.3/1", "33.3333", "1e+300"]


def test_the_note_is_the_error_the_question_the_progress_or_the_message() -> None:
    asks = Question("k", "Which?", {"properties": {}}, "2026-01-01T00:00:00Z")
    failed = a_job(JobState.FAILED).evolve(error="ValueError: no\n\nTraceback ...")
    running = a_job(JobState.RUNNING).evolve(progress=JobProgress(3, 10, "sieving"), message="m")
    jobs = [failed, running.evolve(questions=(asks,)), running, running.evolve(progress=None)]
    assert [row(job)["note"] for job in jobs] == ["ValueError: no", "asks k: Which?", "3/10 sieving", "m"]
    assert exit_code(failed) == 1


def test_no_job_makes_its_row_long() -> None:
    job = ended(label="\x1b" * 200, ran="r" * 300, message="\u202e" * 10**6)
    told = listing([job] * 1000, True, row)
    assert len(json.dumps(told)) < 500_000
    assert all(character.isprintable() for character in told["jobs"][0]["note"])
    assert told["next_before"] == job.id
