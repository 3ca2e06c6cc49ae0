"""Cancelled means dead: the body hears it, its tree is gone, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import JobState
from python_mcp_server.processes import identify
from python_mcp_server.settings import Settings
from python_mcp_server.smart_async import cancel_job, default_manager, get_job_status, initialize_state
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, cancel_bodies, run
from tests.helpers.managers import LONG_S, call, handed_over, lines, manager, started_pids
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sessions are those of POSIX")
HEARING = [bodies.spin, bodies.sleep_long, bodies.sleep_long_async, bodies.report_forever]
HARD = [bodies.deaf, bodies.swallow, bodies.ignore_sigterm]


async def started(path: Path) -> list[int]:
    return await asyncio.to_thread(started_pids, path)


@pytest.mark.parametrize("body", HEARING)
async def test_a_cancelled_body_cleans_up_and_its_worker_ends(body: Any, tmp_path: Path):
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        starts = tmp_path / "starts"
        result = await handed_over(jobs, body, str(starts))
        (worker,) = await started(starts)
        job = await jobs.cancel(result.job_id)
        assert job.status is JobState.CANCELLED
        assert lines(starts)[1:] == ["cleaned up"]
        assert identify(worker) is None


@pytest.mark.parametrize(
    ("body", "step"),
    [
        (cancel_bodies.hear_within_our_code, None),
        *((cancel_bodies.repeat, step) for step in ("report", "status", "ask")),
        *(thorough(cancel_bodies.repeat, step) for step in ("callback", "job", "folder", "print", "sleep")),
        (cancel_bodies.repeat_async, "report"),
        thorough(cancel_bodies.repeat_async, "info"),
    ],
)
async def test_a_body_in_our_own_functions_hears_its_cancel_once(body: Any, step: Any, tmp_path: Path):
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        result = await handed_over(jobs, body, str(tmp_path / "starts"), *filter(None, [step]))
        await started(tmp_path / "starts")
        assert (await jobs.cancel(result.job_id)).status is JobState.CANCELLED
        assert lines(tmp_path / "starts")[1:] == ["cleaned up"]


@pytest.mark.parametrize("body", HARD)
async def test_a_body_that_ignores_its_cancel_is_killed_after_the_grace(body: Any, tmp_path: Path):
    async with manager(cancel_grace_seconds=0.2) as jobs:
        result = await handed_over(jobs, body, str(tmp_path / "starts"))
        (worker,) = await started(tmp_path / "starts")
        job = await jobs.cancel(result.job_id)
        assert (job.status, job.result) == (JobState.CANCELLED, None)
        assert identify(worker) is None


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def test_a_cancel_ends_children_and_grandchildren_in_other_sessions(tmp_path: Path):
    async with manager(cancel_grace_seconds=0.2) as jobs:
        result = await handed_over(jobs, bodies.family, str(tmp_path / "starts"))
        family = await started(tmp_path / "starts")
        assert (await jobs.cancel(result.job_id)).status is JobState.CANCELLED
        assert [pid for pid in family if identify(pid)] == []


async def test_neighbours_keep_their_process_and_their_result(tmp_path: Path):
    async with manager() as jobs:
        neighbour = await handed_over(
            jobs, bodies.count_and_wait, str(tmp_path / "n"), str(tmp_path / "gate")
        )
        while (before := (await jobs.get(neighbour.job_id)).worker) is None:  # it may still be queued
            await asyncio.sleep(0.01)
        doomed = await handed_over(jobs, bodies.spin, str(tmp_path / "d"))
        await jobs.cancel(doomed.job_id)
        assert (await jobs.get(neighbour.job_id)).worker == before
        (tmp_path / "gate").touch()
        job, _ = await jobs.wait(neighbour.job_id, LONG_S)
        assert (job.status, job.result) == (JobState.COMPLETED, "done")


async def test_a_cancel_before_the_body_begins_is_not_lost(tmp_path: Path):
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        await call(jobs, bodies.pid)
        for number in range(20):  # at once, so that it may arrive before, in, or after the call
            starts = tmp_path / str(number)
            waiting = asyncio.ensure_future(call(jobs, bodies.sleep_long, str(starts)))
            while not jobs._live:
                await asyncio.sleep(0)
            (attempt,) = jobs._live.values()
            await attempt.cancel()
            with pytest.raises(JobCancelled):
                await waiting


async def test_a_queued_job_is_cancelled_without_ever_starting(tmp_path: Path):
    async with manager(max_background_jobs=1) as jobs:
        gate = str(tmp_path / "gate")
        first = await jobs.submit_request(Request(bodies.count_and_wait, (str(tmp_path / "first"), gate)))
        second = await jobs.submit_request(Request(bodies.count_and_wait, (str(tmp_path / "second"), gate)))
        while (await jobs.get(first.id)).status is not JobState.RUNNING:
            await asyncio.sleep(0.01)
        waiting = await jobs.get(second.id)
        assert waiting.status is JobState.PENDING
        assert (await jobs.cancel(second.id)).status is JobState.CANCELLED
        Path(gate).touch()
        assert (await jobs.wait(first.id, LONG_S))[0].status is JobState.COMPLETED
        third = await jobs.submit_request(Request(bodies.add, (1,)))
        assert (await jobs.wait(third.id, LONG_S))[0].result == 2
    assert lines(tmp_path / "second") == []


async def test_two_cancels_at_once_and_one_afterwards_say_the_same(tmp_path: Path):
    async with manager() as jobs:
        result = await handed_over(jobs, bodies.spin, str(tmp_path / "starts"))
        both = await asyncio.gather(jobs.cancel(result.job_id), jobs.cancel(result.job_id))
        after = await jobs.cancel(result.job_id)
        assert [job.status for job in (*both, after)] == [JobState.CANCELLED] * 3
        assert after.completed_at == both[0].completed_at


async def test_a_job_that_ended_keeps_its_state_when_it_is_cancelled():
    async with manager() as jobs:
        job = await jobs.submit_request(Request(bodies.add, (1,)))
        await jobs.wait(job.id, LONG_S)
        job = await jobs.cancel(job.id)
        assert (job.status, job.result) == (JobState.COMPLETED, 2)


async def test_cancels_that_race_with_the_end_leave_one_end_and_good_workers():
    async with manager() as jobs:
        for number in range(8):
            job = await jobs.submit_request(Request(bodies.add, (number,)))
            told = await jobs.cancel(job.id) if number % 2 else (await jobs.wait(job.id, LONG_S))[0]
            again, _ = await jobs.wait(job.id, LONG_S)
            assert again.status is told.status
        assert await asyncio.gather(*(call(jobs, bodies.add, n) for n in range(8))) == list(range(1, 9))
        workers = list((await jobs._engine()).pool.workers)
        assert len(workers) == len(set(workers))


async def test_a_cancel_from_another_thread_returns_when_the_tree_is_gone(tmp_path: Path):
    async with manager() as jobs:
        result = await handed_over(jobs, bodies.spin, str(tmp_path / "starts"))
        (worker,) = await started(tmp_path / "starts")
        job = await asyncio.to_thread(jobs.blocking.cancel, result.job_id)
        assert job.status is JobState.CANCELLED
        assert identify(worker) is None


@pytest.mark.parametrize("body", [bodies.spin, bodies.sleep_long_async])
def test_a_cancel_on_the_jobs_own_loop_does_not_wait_for_the_grace(
    body: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> None:
        result = await handed_over(default_manager(), body, str(tmp_path / "starts"))
        (worker,) = await started(tmp_path / "starts")
        answer = cancel_job(result.job_id)  # blocks the loop: the watchdog would see the grace
        assert answer["status"] == "cancelled"
        assert identify(worker) is None
        assert lines(tmp_path / "starts")[1:] == ["cleaned up"]
        assert get_job_status(result.job_id)["job"]["status"] == "cancelled"
        await default_manager().close()

    monkeypatch.setenv("PYTHON_MCP_CANCEL_GRACE_SECONDS", "20")
    initialize_state()
    run(main())


async def test_another_manager_over_the_same_home_cancels_too(tmp_path: Path, home: Path):
    async with manager() as jobs:
        result = await handed_over(jobs, bodies.spin, str(tmp_path / "starts"))
        (worker,) = await started(tmp_path / "starts")
        other = JobManager(FileJobStore(home), Settings.from_environ())
        job = await asyncio.to_thread(other.blocking.cancel, result.job_id)
        assert job.status is JobState.CANCELLED
        assert identify(worker) is None
        assert (await jobs.get(result.job_id)).status is JobState.CANCELLED


async def test_a_caller_that_leaves_cancels_its_call(tmp_path: Path):
    async with manager() as jobs:
        waiting = asyncio.ensure_future(call(jobs, bodies.spin, str(tmp_path / "starts")))
        (worker,) = await started(tmp_path / "starts")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert identify(worker) is None
        assert not jobs._live


async def test_a_caller_that_leaves_may_let_its_job_go_on(tmp_path: Path):
    async with manager() as jobs:
        gate = tmp_path / "gate"
        request = Request(bodies.count_and_wait, (str(tmp_path / "starts"), str(gate)))
        waiting = asyncio.ensure_future(jobs.run(request, budget_s=LONG_S, on_caller_left=lambda: "detach"))
        while not lines(tmp_path / "starts"):
            await asyncio.sleep(0.01)
        (job_id,) = jobs._live
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while not jobs._live[job_id].background:
            await asyncio.sleep(0.01)
        gate.touch()
        job, _ = await jobs.wait(job_id, LONG_S)
        assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert lines(tmp_path / "starts") == ["started"]


def test_a_call_that_its_killed_worker_has_not_read_starts_in_another(tmp_path: Path):
    async def main() -> None:
        async with manager(spare_workers=1) as jobs:
            await call(jobs, bodies.pid)
            pool = (await jobs._engine()).pool
            await until(lambda: len(pool._idle) > 1)
            for worker in pool._idle:
                os.kill(worker.pid, signal.SIGSTOP)  # so that it cannot read what comes
            stopped = psutil.STATUS_STOPPED
            await until(lambda: all(psutil.Process(worker.pid).status() == stopped for worker in pool._idle))
            waiting = asyncio.ensure_future(
                call(jobs, bodies.count_and_wait, tmp_path / "starts", "/dev/null")
            )
            await until(lambda: bool(pool._busy))
            for worker in pool.workers:
                os.kill(worker.pid, signal.SIGKILL)
            assert await waiting == "done"

    run(main())
    assert len(lines(tmp_path / "starts")) == 1


async def test_a_worker_that_dies_before_its_call_is_sent_costs_nothing():
    async with manager() as jobs:
        job = await jobs.submit_request(Request(bodies.add, (1,)))
        pool = (await jobs._engine()).pool
        while not pool._background:
            await asyncio.sleep(0)
        for worker in list(pool._background):
            os.kill(worker.pid, signal.SIGKILL)
        job, timed_out = await jobs.wait(job.id, LONG_S)
        assert not timed_out
        assert job.status in (JobState.COMPLETED, JobState.FAILED)
        assert await call(jobs, bodies.add, 1) == 2
