"""Items of real bodies in real workers: readers get them while the job runs and after all was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from python_mcp_server.errors import WorkerDied
from python_mcp_server.jobs.item_pages import ItemPage
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.limits import Limits
from python_mcp_server.model import JobState
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers import bodies, eventually, run_python
from tests.helpers.managers import LONG_S, call, lines, manager, started_pids
from tests.helpers.survival import ended, look, server

READER = """
import json, sys
from python_mcp_server import JobManager
jobs, at, numbers = JobManager(), 0, []
while True:
    page = jobs.blocking.items(sys.argv[1], at, 10_000)
    numbers += [item["n"] for item in page.items]
    at = page.next_offset
    if page.eof:
        break
print(json.dumps([len(numbers), page.total, numbers == list(range(len(numbers)))]))
"""


def numbers_of(job_id: str) -> list[int]:
    """Return what every item of a job says of itself."""
    jobs, at, found = JobManager().blocking, ItemPage([], 0, 0, eof=False), list[int]()
    while not at.eof:
        at = jobs.items(job_id, at.next_offset, 10_000)
        found += [item["n"] for item in at.items]
    return found


async def test_items_are_read_while_the_job_runs_and_wake_a_reader(tmp_path: Path):
    async with manager() as made:
        job = await made.submit_request(Request(bodies.emit_some, (3, str(tmp_path))))
        page = await made.items(job.id, wait_s=LONG_S)
        while page.total < 3:
            page = await made.items(job.id, page.next_offset, wait_s=LONG_S)
        assert not page.eof
        assert (await made.items(job.id, where={"status": "odd"})).items == [{"n": 1, "status": "odd"}]
        waiting = asyncio.create_task(made.items(job.id, 3, 1, wait_s=LONG_S))
        elsewhere = asyncio.create_task(
            asyncio.to_thread(JobManager().blocking.items, job.id, 3, 1, wait_s=LONG_S)
        )
        (tmp_path / "on").touch()
        assert (await waiting).items == (await elsewhere).items == [{"n": 3, "status": "late"}]
        await made.wait(job.id, LONG_S)
        assert (await made.items(job.id, 6, wait_s=LONG_S)) == ItemPage([], 6, 6, eof=True)


@pytest.mark.parametrize("isolation", ["process", "inline"])
async def test_an_async_body_emits_in_its_worker_and_inline(isolation: str):
    async with manager() as made:
        request = Request(bodies.emit_some_async, (5,), isolation=isolation)
        result = await made.run(request, budget_s=LONG_S)
        (job,), _ = await made.list()
        assert (result.value, job.status) == (5, JobState.COMPLETED)
        assert (await made.items(job.id)).items == [{"n": n} for n in range(5)]


async def test_a_fast_call_that_emits_keeps_its_record_and_no_other_does():
    async with manager(record_after_seconds=60) as made:
        assert await call(made, bodies.emit_some, 2) == 2
        assert await call(made, bodies.add, 1) == 2
        (job,), more = await made.list()
        assert not more
        assert (await made.items(job.id)).total == 2


@pytest.mark.parametrize("how", ["killed", "exited", "raised"])
async def test_a_fast_call_that_fails_keeps_its_items(how: str):
    async with manager(record_after_seconds=60) as made:
        with pytest.raises((WorkerDied, ValueError)):
            await call(made, bodies.emit_and_die, how)
        (job,), _ = await made.list()
        assert job.status is JobState.FAILED
        assert (await made.items(job.id)) == ItemPage(["the last one"], 1, 1, eof=True)


async def test_a_call_that_is_cancelled_at_once_keeps_its_items(home: Path):
    async with manager(record_after_seconds=60) as made:
        calling = asyncio.create_task(call(made, bodies.emit_and_die, "waits"))
        await asyncio.to_thread(eventually, lambda: list(home.glob("output/*/*/items")))
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        (job,), _ = await made.list()
        assert job.status is JobState.CANCELLED
        assert (await made.items(job.id)).items == ["the last one"]


async def test_a_store_in_memory_has_items_too():
    async with manager(InMemoryJobStore()) as made:
        job = await made.submit_request(Request(bodies.emit_some, (2,)))
        await made.wait(job.id, LONG_S)
        assert (await made.items(job.id)).total == 2


async def test_a_cancel_in_the_middle_of_items_leaves_whole_ones(tmp_path: Path):
    async with manager() as made:
        job = await made.submit_request(Request(bodies.emit_until_killed, (str(tmp_path),)))
        await made.items(job.id, 100, wait_s=LONG_S)
        assert (await made.cancel(job.id)).status is JobState.CANCELLED
    numbers = numbers_of(job.id)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 100


async def test_items_count_for_the_disk_limit(tmp_path: Path):
    async with manager() as made:
        limits = Limits(disk_limit_mb=2)
        job = await made.submit_request(Request(bodies.emit_until_killed, (str(tmp_path),), limits=limits))
        job, _ = await made.wait(job.id, LONG_S)
        assert (job.status, job.error_kind) == (JobState.FAILED, "disk_limit")


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_items_outlive_a_killed_server_and_its_killed_worker(tmp_path: Path, home: Path):
    with server(["emit_until_killed", str(tmp_path)]) as killed:
        (worker,) = started_pids(tmp_path / "starts")
        (job_id,) = killed.ids
        eventually(lambda: JobManager().blocking.items(job_id).total > 300)
        killed.kill(group=True)
        seen = JobManager().blocking.items(job_id).total
        eventually(lambda: JobManager().blocking.items(job_id).total > seen + 300)
        os.kill(worker, signal.SIGKILL)
        assert ended(home, job_id).status is JobState.FAILED
    count, total, in_order = json.loads(run_python("-c", READER, job_id).stdout)
    assert count == total > seen + 300
    assert in_order
    assert look(home, job_id).error_kind == "worker_died"
    assert len(lines(tmp_path / "starts")) == 1


def test_an_orphan_goes_on_emitting_and_ends(tmp_path: Path, home: Path):
    with server(["emit_some", 50, str(tmp_path)]) as killed:  # type: ignore[list-item]
        (job_id,) = killed.ids
        eventually(lambda: JobManager().blocking.items(job_id).total == 50)
        killed.kill()
        (tmp_path / "on").touch()
        assert ended(home, job_id).result == 50
    assert numbers_of(job_id) == list(range(100))
