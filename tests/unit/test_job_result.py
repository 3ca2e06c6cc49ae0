"""The result of a job, and how a record keeps it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from python_mcp_server import JobResult
from python_mcp_server.job_result import facts_of, result_of, settled_with
from python_mcp_server.model import Job, JobState, Outcome, new_job_id, utc_now
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
