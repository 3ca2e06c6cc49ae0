"""The checks of `scripts/chaos` find each broken promise: else a run without breaches would prove nothing."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from chaos_testing.expected import REUSED, label_of
from chaos_testing.final_state import FinalState
from chaos_testing.history import History
from chaos_testing.job_script import ANSWER_FACTOR
from chaos_testing.observer import Start
from chaos_testing.promises import breaches
from python_mcp_server.model import Job, JobProgress, JobState, utc_now
from python_mcp_server.processes import identify

ENDED = utc_now()
JOB = "1m7zg65sybhmgke4q1qmnhgvx2ydemazgz"


def record(status: JobState = JobState.COMPLETED, **changes: Any) -> dict[str, Any]:
    result = {"exit_code": 0, "stdout": f"{5 * ANSWER_FACTOR}\n"} if status is JobState.COMPLETED else None
    ended = ENDED if status.terminal else None
    job = Job(JOB, label_of("quick", 5), status, ENDED, completed_at=ended, result=result)
    return job.evolve(**changes).to_record()


def told(status: JobState = JobState.COMPLETED, **changes: Any) -> History:
    """A history of one job that was submitted and seen like this."""
    history = History()
    history.told(JOB, 1.0)
    history.saw(record(status, **changes), 0.0, "client-0")
    return history


def cancelled(**changes: Any) -> History:
    """A history of one job whose cancel was asked for, and seen."""
    history = told(JobState.CANCELLED, **changes)
    history.cancelling(JOB)
    return history


def lost_worker(**changes: Any) -> dict[str, Any]:
    return record(JobState.FAILED, error="it died", error_kind="worker_died", **changes)


def left(*records: dict[str, Any], starts: int = 1) -> FinalState:
    final_state = FinalState(starts=[Start(JOB, 1.0)] * starts)
    final_state.jobs = {one["id"]: one for one in records or (record(),)}
    return final_state


def nothing() -> FinalState:
    return FinalState(starts=[Start(JOB, 1.0)])


def only_breach(history: History, final_state: FinalState) -> str:
    (line,) = breaches(history, final_state)
    return line


def test_a_job_that_is_as_it_should_be_breaks_no_promise():
    assert breaches(told(), left()) == []


@pytest.mark.parametrize("starts", [0, 2])
def test_a_completed_job_with_any_number_of_starts_but_one_is_a_breach(starts: int):
    assert "started" in only_breach(told(), left(starts=starts))


def test_a_second_start_is_a_breach_also_of_a_job_that_failed():
    failed = lost_worker(worker=identify(os.getpid()))
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    history.note_kill(os.getpid())
    assert "started 2 times" in only_breach(history, left(failed, starts=2))


def test_an_acknowledged_job_that_is_not_there_is_a_breach():
    assert "is lost" in only_breach(told(), nothing())


def test_a_prune_excuses_only_the_jobs_that_it_may_take():
    completed, dropped, unseen = told(), cancelled(), History()
    unseen.told(JOB, 1.0)
    for history in (completed, dropped, unseen):
        history.pruning(age_s=0, keep_completed=True, keep_failed=True, pid=7)
    assert breaches(dropped, nothing()) == []
    assert "is lost" in only_breach(completed, nothing())
    assert "is lost" in only_breach(unseen, nothing())
    unseen.cancelling(JOB)
    assert breaches(unseen, nothing()) == []


def test_a_prune_excuses_no_job_that_lived_too_shortly_before_it_was_gone():
    history = cancelled()
    history.known(JOB).ends.clear()
    history.pruning(age_s=60, keep_completed=False, keep_failed=False, pid=7)
    history.prunes[0].finished_at = time.monotonic() + 120
    assert breaches(history, nothing()) == []
    history.saw(record(JobState.RUNNING), time.monotonic(), "client-1")
    history.not_found(JOB, time.monotonic(), "client-1")
    assert "is lost" in only_breach(history, nothing())


def test_a_prune_before_the_job_existed_excuses_nothing():
    history = History()
    history.pruning(age_s=0, keep_completed=False, keep_failed=False, pid=7)
    history.prunes_finished(7)
    history.told(JOB, time.monotonic() + 1)
    assert "is lost" in only_breach(history, FinalState())


def test_an_existing_job_that_was_not_found_is_a_breach():
    history = told()
    history.not_found(JOB, history.jobs[JOB].told_at or 0, "client-1")
    history.jobs[JOB].told_at = 0.5
    assert "was not found by client-1" in only_breach(history, left())


def test_a_job_that_comes_back_after_it_was_gone_is_a_breach():
    history = told(JobState.CANCELLED)
    history.pruning(age_s=0, keep_completed=True, keep_failed=True, pid=7)
    history.not_found(JOB, 0.0, "client-1")
    history.saw(record(JobState.CANCELLED), float("inf"), "client-2")
    assert "was gone, and client-2 saw it" in only_breach(history, nothing())


def test_a_terminal_state_that_changed_is_a_breach():
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    history.saw(record(), 0.0, "client-1")
    assert any("ended in more than one way" in line for line in breaches(history, left()))


def test_an_end_that_moved_to_another_time_is_a_breach():
    moved = record()
    moved["completed_at"] = "2026-01-01T00:00:00+00:00"
    assert "in the end, and was" in only_breach(told(), left(moved))


def listed(**changes: Any) -> dict[str, Any]:
    """A row of a list, which has no time of the end."""
    row = record(**changes)
    del row["completed_at"]
    return row


def test_a_row_of_a_list_may_be_that_of_any_end_of_its_kind():
    for first, second in ((record(), listed()), (listed(), record())):
        history = History()
        history.told(JOB, 1.0)
        for seen in (first, second, listed()):
            history.saw(seen, 0.0, "client-0")
        assert breaches(history, left()) == []


def test_a_row_of_another_end_is_a_breach():
    history = told()
    history.saw(listed(status=JobState.FAILED, error_kind="lost"), 0.0, "client-1")
    assert any("ended in more than one way" in line for line in breaches(history, left()))
    history = History()
    history.told(JOB, 1.0)
    history.saw(listed(status=JobState.FAILED, error_kind="lost"), 0.0, "client-1")
    assert "in the end, and was" in only_breach(history, left())


def test_a_job_that_runs_again_after_its_end_was_told_is_a_breach():
    history = told()
    history.saw(record(JobState.RUNNING), float("inf"), "client-1")
    assert "had ended" in only_breach(history, left())


def test_a_running_job_seen_before_its_end_was_told_is_no_breach():
    history = told()
    history.saw(record(JobState.RUNNING), 0.0, "client-1")
    assert breaches(history, left()) == []


def test_completed_after_cancelled_was_told_is_a_breach():
    history = History()
    history.told(JOB, 1.0)
    history.cancelled(JOB, "client-1")
    assert "was cancelled for client-1, and is completed" in only_breach(history, left())


@pytest.mark.parametrize("status", [JobState.PENDING, JobState.RUNNING])
def test_a_job_that_never_ends_is_a_breach(status: JobState):
    assert f"is {status.value} in the end" in only_breach(told(status), left(record(status)))


def test_an_update_that_was_acknowledged_and_is_gone_is_a_breach():
    history = told(progress=JobProgress(3))
    history.known(JOB).steps = 4
    assert "lost an update" in only_breach(history, left(record(progress=JobProgress(3))))


@pytest.mark.parametrize(
    ("label", "result"),
    [
        ("quick 5", {"exit_code": 0, "stdout": "6\n"}),
        ("quick 5", {"exit_code": -9, "stdout": ""}),
        ("fails 5", {"exit_code": 0, "stdout": ""}),
        ("body-quick 5", 6),
        ("body-exits 5", 5 * ANSWER_FACTOR),
        ("quick 5", None),
    ],
)
def test_a_wrong_result_is_a_breach(label: str, result: Any):
    assert f"({label}): " in only_breach(told(), left(record(label=label, result=result)))


def test_a_script_that_was_killed_may_not_have_started():
    history = told()
    history.hit_jobs.add(JOB)
    killed = record(result={"exit_code": -9, "stdout": ""})
    assert breaches(history, left(killed, starts=0)) == []


@pytest.mark.parametrize("part", ["worker", "owner"])
def test_a_worker_that_died_by_itself_is_a_breach(part: str):
    failed = lost_worker(**{part: identify(os.getpid())})
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    assert "neither it nor its server was killed" in only_breach(history, left(failed))


def test_a_worker_that_was_killed_has_died_for_a_reason():
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    history.note_kill(os.getpid())
    assert breaches(history, left(lost_worker(worker=identify(os.getpid())))) == []


def test_a_job_whose_id_was_told_must_outlive_its_server():
    failed = lost_worker(owner=identify(os.getpid()))
    seen = History()
    seen.note_kill(os.getpid())
    assert breaches(seen, left(failed)) == []
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    history.note_kill(os.getpid())
    assert "which it should outlive" in only_breach(history, left(failed))


def test_a_job_whose_pid_was_given_to_a_stranger_has_lost_its_worker():
    gone = lost_worker(label=label_of(REUSED, 0))
    history = told(JobState.FAILED, error="it died", error_kind="worker_died")
    assert breaches(history, left(gone, starts=0)) == []


def test_a_cancel_that_nobody_asked_for_is_a_breach():
    assert breaches(cancelled(), left(record(JobState.CANCELLED))) == []
    history = told(JobState.CANCELLED)
    assert "no cancel was requested" in only_breach(history, left(record(JobState.CANCELLED)))


def test_a_job_that_ended_otherwise_than_its_end_reason_is_a_breach():
    assert "its end reason was cancelled" in only_breach(told(), left(record(ending="cancelled")))
    limited = record(JobState.FAILED, error="too long", error_kind="time_limit", ending="time_limit")
    assert not [line for line in breaches(History(), left(limited)) if "end reason" in line]


def test_a_start_after_the_end_was_told_is_a_breach():
    late = left(record(JobState.CANCELLED), starts=0)
    late.starts.append(Start(JOB, time.monotonic() + 60))
    assert "after its end was reported" in only_breach(cancelled(), late)


def test_a_start_of_a_queued_job_with_an_end_reason_is_a_breach():
    history = History()
    history.told(JOB, 1.0, queued=True)
    history.cancelling(JOB)
    history.known(JOB).end_requested_at = 0.5
    final_state = left(record(JobState.CANCELLED))
    assert "had an end reason while it was queued" in only_breach(history, final_state)
    history.known(JOB).queued = False
    assert breaches(history, final_state) == []


@pytest.mark.parametrize("kind", [None, "exception"])
def test_a_failure_without_a_cause_or_of_another_kind_is_a_breach(kind: str | None):
    failed = record(JobState.FAILED, error="it failed" if kind else None, error_kind=kind)
    history = History()
    history.told(JOB, 1.0)
    assert "it failed with" in only_breach(history, left(failed))


@pytest.mark.parametrize(
    "what",
    ["processes", "leftovers", "damaged", "locks", "semaphores", "tracebacks", "orphans", "bystanders"],
)
def test_any_leftover_process_or_file_is_a_breach(what: str):
    final_state = left()
    getattr(final_state, what).append("the one that is left")
    assert only_breach(told(), final_state).endswith("the one that is left")


def test_a_breach_that_was_noted_during_the_run_is_a_breach():
    history = told()
    history.add_breach("submit was not answered")
    assert only_breach(history, left()) == "submit was not answered"
