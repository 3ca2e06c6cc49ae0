"""Workers whose process a body has changed, processes that hide from their end, and large values."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from python_mcp_server.errors import WorkerDied
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import JobState
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run, state_changing_bodies
from tests.helpers.managers import LONG_S, call, manager, started_pids

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")


async def test_the_next_body_of_a_worker_finds_its_process_as_the_first_one_did(tmp_path: Path):
    async with manager() as jobs:
        before = await call(jobs, state_changing_bodies.state)
        spoilt = (state_changing_bodies.spoil, (str(tmp_path),))
        for body, args in (
            spoilt,
            (state_changing_bodies.hear_a_signal, ()),
            (state_changing_bodies.replace_environ, ()),
        ):
            assert await call(jobs, body, *args) == before["pid"]
            assert await call(jobs, state_changing_bodies.state) == before


async def test_a_worker_that_cannot_be_put_back_in_order_gets_no_further_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)

    async with manager() as jobs:
        spoilt = await call(jobs, state_changing_bodies.spoil_for_good, str(folder))
        assert await call(jobs, bodies.pid) != spoilt


async def test_children_in_other_sessions_are_gone_before_worker_died_is_raised(
    tmp_path: Path,
):
    async with manager() as jobs:
        died = asyncio.ensure_future(call(jobs, state_changing_bodies.fork_away, str(tmp_path / "pids")))
        worker, child = await asyncio.to_thread(started_pids, tmp_path / "pids")
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await died
        assert identify(child) is None


async def test_the_loop_runs_while_large_arguments_and_results_are_pickled(monkeypatch: pytest.MonkeyPatch):
    async with manager() as jobs:
        await call(jobs, bodies.pid)
        monkeypatch.setattr(state_changing_bodies.Gate, "turns", 0)
        turning = asyncio.ensure_future(state_changing_bodies.count_turns())
        passed = await call(jobs, state_changing_bodies.pass_through, state_changing_bodies.Gate())
        assert len(passed.content) == state_changing_bodies.LARGE_BYTES
        turning.cancel()


def test_a_job_goes_on_whose_server_exits_while_its_argument_is_sent(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "end"

    async def main() -> str:
        async with manager() as jobs:
            await call(jobs, bodies.pid)
            monkeypatch.setattr(state_changing_bodies.Gate, "turns", 0)
            await jobs.queues.pause("default")
            turning = asyncio.ensure_future(state_changing_bodies.count_turns())
            job = await jobs.submit_request(
                Request(state_changing_bodies.wait_with, (state_changing_bodies.Gate(), str(path)))
            )
            turning.cancel()  # the argument was pickled to see that it can be sent
            await jobs.queues.resume("default")
            while (found := await jobs.get(job.id)) is None or found.status is JobState.PENDING:
                await asyncio.sleep(0.01)
            turning = asyncio.ensure_future(state_changing_bodies.count_turns(first_s=0.1))
        turning.cancel()
        return job.id

    job_id = run(main())
    path.touch()
    store = FileJobStore(home)

    def look() -> object:
        job = store.get(job_id)
        return job if job is not None and job.status.terminal else None

    eventually(look, deadline_s=LONG_S)
    job = store.get(job_id)
    assert job is not None
    assert (job.status, job.result) == (JobState.COMPLETED, state_changing_bodies.LARGE_BYTES)
    assert job.worker is not None
    worker = job.worker
    eventually(lambda: identify(worker.pid) is None)
