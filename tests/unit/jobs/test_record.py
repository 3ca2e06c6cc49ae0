"""A queued job goes from pending to running once, and only for its owner: compare-and-set on its record."""

from __future__ import annotations

from typing import Any

import pytest

from python_mcp_server.jobs.record import Started, start_record
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
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
