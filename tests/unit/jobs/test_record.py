"""A queued job goes from pending to running once, and only for its owner: compare-and-set on its record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.record import Started, WorkerRecord, start_record
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Failure, Job, JobState, Outcome, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry, Snooze
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore

OWNER = ProcessIdentity(101, 1)
RIVAL = ProcessIdentity(102, 1)
QUEUED = new_job_id()
WORKER = ProcessIdentity(103, 1)


def store_of(**facts: Any) -> tuple[InMemoryJobStore, Job]:
    store = InMemoryJobStore()
    job = Job(QUEUED, "queued", JobState.PENDING, utc_now(), owner=OWNER, background=True)
    store.create(job.evolve(**facts))
    return store, job.evolve(**facts)


def test_a_queued_job_is_started_once_by_its_owner():
    store, _ = store_of()
    assert start_record(store, QUEUED, OWNER, WORKER) is Started.HERE
    started = store.get(QUEUED)
    assert started is not None
    assert (started.status, started.worker) == (JobState.RUNNING, WORKER)
    assert start_record(store, QUEUED, OWNER, RIVAL) is Started.ELSEWHERE
    assert store.get(QUEUED) == started


@pytest.mark.parametrize(
    "facts",
    [
        {"ending": "cancelled"},
        {"owner": RIVAL},
        {"owner": None},
        {"status": JobState.RUNNING, "worker": WORKER},
        {"status": JobState.CANCELLED, "completed_at": utc_now()},
    ],
    ids=["with a verdict", "taken by another", "left to another", "running", "ended"],
)
def test_a_job_that_changed_while_its_owner_took_a_worker_is_not_started(facts: dict[str, Any]):
    store, job = store_of(**facts)
    assert start_record(store, QUEUED, OWNER, WORKER) in (Started.OVER, Started.ELSEWHERE)
    assert store.get(QUEUED) == job


def test_a_worker_settles_no_job_that_waits_for_its_next_attempt(home: Path):
    store = FileJobStore(home)
    options = JobOptions(retry=Retry(2))
    waiting = Job(QUEUED, "queued", JobState.PENDING, utc_now(), background=True, options=options, attempt=2)
    store.create(waiting)
    record = WorkerRecord(QUEUED, store.locator() | {"grace_s": 1.0})
    record.commit(Outcome(failure=Failure("ValueError", "again")), None, None)
    record.close()
    assert store.get(QUEUED) == waiting
    store.close()


@pytest.mark.parametrize("again", ["waits", "runs in another worker"])
def test_a_worker_without_a_server_settles_an_attempt_once(again: str, home: Path):
    store, own = FileJobStore(home), ProcessIdentity(os.getpid(), 1)
    options = JobOptions(retry=Retry(5, wait=0))
    facts: dict[str, Any] = {"owner": OWNER, "worker": own, "background": True, "options": options}
    store.create(Job(QUEUED, "retried", JobState.RUNNING, utc_now(), **facts))
    failed = Outcome(failure=Failure("ValueError", "no"))
    assert settle(store, QUEUED, failed).attempt == 2  # by its server, which is killed then
    if again != "waits":
        changed = {"status": JobState.RUNNING, "worker": ProcessIdentity(os.getpid() + 1, 1)}
        store.update(QUEUED, lambda job: job.evolve(not_before=None, **changed))
    before = store.get(QUEUED)
    orphan = WorkerRecord(QUEUED, {**store.locator(), "grace_s": 1.0})
    orphan.commit(failed, None, None)
    orphan.close()
    assert store.get(QUEUED) == before


def test_a_body_that_nobody_can_run_again_later_has_failed(home: Path):
    store = FileJobStore(home)
    store.create(Job(QUEUED, "snoozed", JobState.RUNNING, utc_now(), background=True))
    job = settle(store, QUEUED, Outcome(Snooze(5)))
    assert (job.status, job.error_kind, job.result) == (JobState.FAILED, "server_died", None)
    assert "asked to run again later" in (job.error or "")


@pytest.mark.parametrize("outcome", [Outcome(Snooze(5)), Outcome(failure=Failure("ValueError", "no"))])
def test_a_call_whose_caller_waits_for_it_does_not_run_again(outcome: Outcome, home: Path):
    store = FileJobStore(home)
    facts: dict[str, Any] = {"owner": OWNER, "options": JobOptions(retry=Retry(5, wait=0))}
    store.create(Job(QUEUED, "attached", JobState.RUNNING, utc_now(), **facts))
    job = settle(store, QUEUED, outcome)
    assert (job.status.terminal, job.attempt) == (True, 1), "it is as its caller was told"
