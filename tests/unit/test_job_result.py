"""The result of a job, and how a record keeps it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore, JobResult
from python_mcp_server.job_result import facts_of, result_of, settled_with
from python_mcp_server.jobs.reply import Shown
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, new_job_id, utc_now
from python_mcp_server.options import Cancel
from python_mcp_server.pool import outcomes


class Stubborn:
    """Cannot be sent to another process."""

    def __reduce__(self) -> str:
        raise TypeError("not this one")

    def __str__(self) -> str:
        return "stubborn"


def a_job(status: JobState = JobState.RUNNING, **fields: object) -> Job:
    return Job(new_job_id(), "a label", status, utc_now()).evolve(**fields)


@pytest.mark.parametrize(
    "result",
    [
        JobResult(success=True),
        JobResult(success=True, data={"a": [1, None]}, error="a warning", metadata={"kind": "png"}),
        JobResult(success=False),
        JobResult(success=False, data=0, error="it is too cold", metadata={"degrees": -3}),
    ],
)
def test_a_record_keeps_a_result_as_it_was(result: JobResult):
    job = Job.from_record(settled_with(a_job(), result).to_record())
    assert job.status is (JobState.COMPLETED if result.success else JobState.FAILED)
    assert job.completed_at is not None
    assert result_of(job) == result
    assert (job.extra, job.to_json().get("metadata", {})) == ({}, result.metadata)
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_failed_result_says_how_in_its_metadata():
    plain = settled_with(a_job(), JobResult(success=False))
    assert (plain.error, plain.error_kind) == ("the job says that it failed, and not why", "unsuccessful")
    late = JobResult(success=False, error="late", metadata={"error_kind": "time_limit"})
    assert settled_with(a_job(), late).error_kind == "time_limit"
    assert settled_with(a_job(), JobResult(success=False, metadata={"error_kind": 5})).error_kind == (
        "unsuccessful"
    )


def test_the_result_of_any_other_job_is_made_from_its_state():
    assert result_of(a_job(JobState.COMPLETED, result=[1])) == JobResult(success=True, data=[1])
    failed = a_job(JobState.FAILED, error="it died", error_kind="worker_died")
    assert result_of(failed) == JobResult(False, None, "it died", {"error_kind": "worker_died"})
    cancelled = settled_with(a_job(), JobResult(success=True)).evolve(status=JobState.CANCELLED)
    assert result_of(cancelled).error == "cancelled"


def test_data_that_is_no_json_is_kept_as_far_as_it_goes_with_a_note():
    data, note, _ = facts_of(JobResult(success=True, data={"a": Stubborn()}))
    assert data == {"a": "stubborn"}
    assert "has no form in JSON" in (note or "")
    odd = JobResult(success=False, error=ValueError("x"), metadata={"at": Path("y")})  # type: ignore[arg-type]
    assert odd.to_json() == {"success": False, "data": None, "error": "x", "metadata": {"at": "y"}}


def test_a_result_whose_data_cannot_travel_is_still_a_result():
    outcome = outcomes.decode(outcomes.encode(Outcome(JobResult(success=False, data=Stubborn(), error="no"))))
    assert outcome.value == JobResult(success=False, data="stubborn", error="no")


class Moody:
    """Raises where it is asked for its truth or its text, as an array of numpy does."""

    def __bool__(self) -> bool:
        raise SystemExit("ambiguous")

    def __str__(self) -> str:
        raise ValueError("no text")


def in_itself() -> dict[str, Any]:
    metadata: dict[str, Any] = {"error_kind": "cold"}
    metadata["me"] = metadata
    return metadata


def facts_shown(value: Any) -> Shown:
    return Shown(*facts_of(value))


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


ODD_METADATA: list[Any] = [
    [1],
    [("a", 1, 2)],
    5,
    Moody(),
    in_itself(),
    {"deep": nested(300), "error_kind": "cold"},
]


@pytest.mark.parametrize("sends", [False, True])
@pytest.mark.parametrize("metadata", ODD_METADATA, ids=[*"abcd", "in itself", "deep"])
@pytest.mark.parametrize("success", [True, False])
def test_odd_metadata_costs_no_result(success: bool, metadata: Any, sends: bool):
    given = Outcome(JobResult(success, [1], None if success else "it failed", metadata))
    store = InMemoryJobStore()
    store.create(job := a_job())
    outcome = outcomes.decode(outcomes.encode(given)) if sends else given
    kept = result_of(settle(store, job.id, outcome, show=facts_shown))
    assert (kept.success, kept.data, kept.error) == (success, [1], given.value.error)
    assert kept.metadata.get("error_kind") == "cold" or "no mapping" in kept.metadata["left_out"]


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (JobResult(Moody(), error="it failed"), "it failed"),  # type: ignore[arg-type]
        (JobResult(Moody()), "the success of the job is neither true nor false: ambiguous"),  # type: ignore[arg-type]
        (JobResult(False, error=Moody()), "<its text cannot be made: ValueError>"),  # type: ignore[arg-type]
    ],
)
def test_a_success_that_cannot_be_read_is_none(result: JobResult, error: str):
    store = InMemoryJobStore()
    store.create(job := a_job())
    ended = settle(store, job.id, Outcome(replace(result, data=[1])), show=facts_shown)
    assert (ended.status, ended.error, ended.result) == (JobState.FAILED, error, [1])


def test_a_result_that_cannot_be_shown_is_no_success():
    def show(_: Any) -> Shown:
        raise MemoryError

    store = InMemoryJobStore()
    store.create(job := a_job())
    ended = settle(store, job.id, Outcome(JobResult(False, error="it failed")), show=show)
    assert (ended.status, ended.error) == (JobState.FAILED, "the result cannot be shown: MemoryError")


def test_the_error_and_the_metadata_of_a_result_are_bounded():
    large = JobResult(False, 1, "x" * 5_000_000, {"small": 1, "log": "y" * 5_000_000, "error_kind": "cold"})
    ended = settled_with(a_job(), large)
    assert len(json.dumps(ended.to_record())) < 300_000
    assert (ended.error or "").endswith("x... (4900000 characters left out)")
    left_out = "the metadata is too large; it is kept without log"
    assert result_of(ended).metadata == {"small": 1, "error_kind": "cold", "left_out": left_out}
    assert ended.error_kind == "cold"


def test_the_reason_of_a_cancelled_job_is_bounded():
    store = InMemoryJobStore()
    store.create(job := a_job())
    ended = settle(store, job.id, Outcome(Cancel("x" * 5_000_000)))
    assert ended.status is JobState.CANCELLED
    assert len(ended.error or "") < 200_000
