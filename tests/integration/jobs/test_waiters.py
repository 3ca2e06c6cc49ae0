"""Those who wait for a queued job: they hear of its start and of its end, and read no more than they must."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from python_mcp_server.jobs import submission, waits
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from tests.helpers import bodies
from tests.helpers.managers import LONG_S, manager


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POLL_S", "_HELD_POLL_S"):
        monkeypatch.setattr(waits, name, 2 * LONG_S)


@pytest.mark.usefixtures("no_poll")
async def test_a_start_between_the_look_and_the_wait_is_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submission, "_REMEMBERED", 0)
    async with manager() as jobs:
        read = jobs.get

        async def read_and_be_late(job_id: str, *, whole: bool = True) -> Job:
            job = await read(job_id, whole=whole)
            while (await read(job_id)).status is JobState.PENDING:
                await asyncio.sleep(0)
            return job

        monkeypatch.setattr(jobs, "get", read_and_be_late)
        job = await jobs.submit_request(Request(bodies.pid))
        assert (await jobs.wait(job.id, LONG_S))[0].status is JobState.COMPLETED


@pytest.mark.usefixtures("no_poll")
async def test_a_waiter_hears_that_a_queued_job_is_cancelled():
    async with manager() as jobs:
        waiting = await _paused(jobs)
        waiter = asyncio.create_task(jobs.wait(waiting.id, LONG_S))
        await asyncio.sleep(0)  # the waiter waits by now
        await jobs.cancel(waiting.id)
        job, timed_out = await waiter
        assert (job.status, timed_out) == (JobState.CANCELLED, False)


async def test_the_request_of_a_cancelled_job_is_not_kept():
    async with manager() as jobs:
        waiting = await _paused(jobs)
        submissions = (await jobs._engine()).submissions
        assert submissions.holds(waiting.id)
        await jobs.cancel(waiting.id)
        assert not submissions.holds(waiting.id)


async def test_many_waiters_of_one_job_all_hear_its_end():
    async with manager() as jobs:
        waiting = await _paused(jobs)
        waiters = [asyncio.create_task(jobs.wait(waiting.id, LONG_S)) for _ in range(3)]
        short, timed_out = await jobs.wait(waiting.id, 0.01)
        assert (short.status, timed_out) == (JobState.PENDING, True)
        await jobs.queues.resume("default")
        ends = await asyncio.gather(*waiters)
        assert {job.status for job, _ in ends} == {JobState.COMPLETED}


@pytest.mark.usefixtures("no_poll")
async def test_a_wait_for_a_queued_job_reads_no_record_before_its_end(monkeypatch: pytest.MonkeyPatch):
    async with manager() as jobs:
        reads, get = Counter[JobState](), jobs.store.get

        def counted(job_id: str) -> Job | None:
            job = get(job_id)
            reads[JobState.PENDING if job is None else job.status] += 1
            return job

        monkeypatch.setattr(jobs.store, "get", counted)
        job = await jobs.submit_request(Request(bodies.pid))
        ended, _ = await jobs.wait(job.id, LONG_S)
        assert ended.status is JobState.COMPLETED
        assert reads[JobState.PENDING] == 0


async def _paused(jobs: JobManager, **options: Any) -> Job:
    """Submit a job to a queue that is paused."""
    await jobs.queues.pause("default")
    return await jobs.submit_request(Request(bodies.pid, **options))
