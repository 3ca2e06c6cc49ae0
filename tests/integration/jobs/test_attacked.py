"""Races and failures that once broke a promise: each has a test that would see it again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run_python
from tests.helpers.managers import call, lines, manager

CANCEL = """
import sys
from python_mcp_server.smart_async import cancel_job
print(cancel_job(sys.argv[1])["status"])
"""


class Moody(FileJobStore):
    """A store that can be told to fail, as on a full disk."""

    fails = False

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        if self.fails:
            raise StoreError("no space left")
        return super().update(job_id, change)


@pytest.mark.skipif(os.name != "posix", reason="another process cancels by a signal")
async def test_a_cancel_from_another_process_spares_the_workers_next_call(tmp_path: Path):
    async with manager(spare_workers=0) as jobs:
        job = await jobs.submit_request(Request(bodies.swallow, (str(tmp_path / "starts"),)))
        await asyncio.to_thread(eventually, lambda: lines(tmp_path / "starts"))
        other = asyncio.create_task(asyncio.to_thread(run_python, "-c", CANCEL, job.id))
        await jobs.wait(job.id, 60)
        assert await call(jobs, bodies.sleep_and_count, str(tmp_path / "next"), 1.0)
        assert (await other).stdout.strip() == "cancelled"
        assert (await jobs.get(job.id)).status is JobState.CANCELLED


async def test_an_end_is_written_once_the_store_works_again(home: Path, tmp_path: Path):
    store = Moody(home)
    async with manager(store) as jobs:
        gate = tmp_path / "gate"
        job = await jobs.submit_request(Request(bodies.count_and_wait, (str(tmp_path / "starts"), str(gate))))
        await asyncio.to_thread(eventually, lambda: lines(tmp_path / "starts"))
        store.fails = True
        gate.touch()
        while job.id in jobs._live:
            await asyncio.sleep(0.01)
        assert (await jobs.get(job.id)).status is JobState.RUNNING
        store.fails = False
        ended, timed_out = await jobs.wait(job.id, 60)
        assert (ended.status, ended.result, timed_out) == (JobState.COMPLETED, "done", False)


async def test_a_listener_that_fails_costs_only_itself(tmp_path: Path):
    def listener(_notice: object) -> None:
        raise ZeroDivisionError

    async with manager() as jobs:
        result = await jobs.run(Request(bodies.report_steps, (3,)), budget_s=60, listener=listener)
        assert result.value == 3


async def test_a_caller_that_leaves_during_the_hand_over_cancels_its_job(tmp_path: Path):
    async with manager() as jobs:
        await call(jobs, bodies.pid)
        starts = str(tmp_path / "starts")
        calling = asyncio.ensure_future(jobs.run(Request(bodies.sleep_long, (starts,)), budget_s=0.05))
        while not any(attempt.background for attempt in jobs._live.values()):
            await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait({calling})
        if calling.cancelled():
            while jobs._live:
                await asyncio.sleep(0.01)
            (job,), _ = await jobs.list()
            assert job.status is JobState.CANCELLED
        else:
            await jobs.cancel(calling.result().job_id)


def test_a_body_by_value_sees_its_globals_as_they_are_now():
    program = """
import asyncio
from python_mcp_server import smart_async
SCALE = 1
@smart_async
def scaled(): return SCALE
async def main():
    global SCALE
    first = await scaled()
    SCALE = 2
    print(first, await scaled())
asyncio.run(main())
"""
    assert run_python("-c", program).stdout.split() == ["1", "2"]
