"""Event loops that stand still, are closed without us, fork, or end this very moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import report_progress
from python_mcp_server.jobs.limit_watch import EndReason
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.processes import is_alive
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run
from tests.helpers.loop import loop_to_abandon
from tests.helpers.managers import call, handed_over, lines, manager

FOREVER_S = 3600.0


async def under_way(jobs: JobManager, body: Any, starts: Path, *args: str) -> str:
    """Return the id of a job that was handed over and has started."""
    job = await handed_over(jobs, body, str(starts), *args)
    await asyncio.to_thread(eventually, starts.exists)
    return job.job_id


@pytest.fixture
def still(home: Path) -> Iterator[tuple[JobManager, Callable[[Coroutine[Any, Any, Any]], Any]]]:
    """A manager, and a loop that stands still between two runs."""
    jobs = JobManager(None, Settings.from_environ())
    with asyncio.Runner() as runner:
        yield jobs, runner.run
        runner.run(jobs.close())


def test_a_cancel_acknowledged_while_the_loop_is_blocked_is_recorded(still: Any, tmp_path: Path):
    jobs, run_for_a_while = still
    job_id = run_for_a_while(under_way(jobs, bodies.sleep_long, tmp_path / "starts"))
    assert jobs.blocking.cancel(job_id).status is JobState.CANCELLED
    assert jobs.blocking.get(job_id).status is JobState.CANCELLED
    assert run_for_a_while(jobs.get(job_id)).status is JobState.CANCELLED


def test_plain_functions_see_the_end_of_a_job_while_its_loop_stands_still(still: Any, tmp_path: Path):
    jobs, run_for_a_while = still
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    job_id = run_for_a_while(under_way(jobs, bodies.count_and_wait, starts, str(gate)))
    assert jobs.blocking.get(job_id).status is JobState.RUNNING
    gate.touch()
    eventually(lambda: jobs.blocking.get(job_id).status is JobState.COMPLETED)
    assert [job.id for job in jobs.blocking.list(JobState.COMPLETED)[0]] == [job_id]
    seen = FileJobStore(jobs.store.home).get(job_id)
    assert seen == run_for_a_while(jobs.get(job_id))


def test_plain_functions_see_a_dead_worker_while_its_loop_is_blocked(still: Any, tmp_path: Path):
    jobs, run_for_a_while = still
    job_id = run_for_a_while(under_way(jobs, bodies.sleep_long, tmp_path / "starts"))
    worker = jobs.blocking.get(job_id).worker
    assert worker is not None
    os.kill(worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    eventually(lambda: jobs.blocking.get(job_id).status is JobState.FAILED)
    assert run_for_a_while(jobs.get(job_id)).error_kind == "worker_died"


async def test_a_close_waits_for_what_plain_code_has_cancelled(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with manager() as jobs:
        job_id = await under_way(jobs, bodies.sleep_long, tmp_path / "starts")
        tasks, update = (await jobs._engine()).services.tasks, jobs.store.update
        assert jobs.blocking.cancel(job_id).status is JobState.CANCELLED

        def update_slowly(job_id: str, change: Callable[[Job], Job]) -> Job:
            time.sleep(0.5)
            return update(job_id, change)

        monkeypatch.setattr(jobs.store, "update", update_slowly)
    assert not tasks


async def test_a_cancel_while_a_worker_is_let_go_is_left_to_that_worker(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with manager() as jobs:
        job_id = await under_way(jobs, bodies.deaf, tmp_path / "starts")
        run_of_it, pool = jobs._live[job_id], (await jobs._engine()).pool
        worker, close = jobs.blocking.get(job_id).worker, pool.close
        assert worker is not None

        async def cancel_meanwhile() -> None:
            closing = asyncio.create_task(close())
            await asyncio.sleep(0)
            run_of_it.request_end(EndReason())
            await closing

        monkeypatch.setattr(pool, "close", cancel_meanwhile)
    left = FileJobStore(home).get(job_id)
    assert left is not None
    assert (left.status, left.ending, is_alive(worker)) == (JobState.RUNNING, "cancelled", True)
    assert (await asyncio.to_thread(jobs.blocking.get, job_id)).status is JobState.CANCELLED  # by its reader
    assert not is_alive(worker)


async def test_a_look_at_a_run_makes_no_record_of_it(home: Path, tmp_path: Path):
    async with manager() as jobs:
        await call(jobs, bodies.pid)  # the next has a worker at once
        running = asyncio.create_task(call(jobs, bodies.sleep_and_count, str(tmp_path / "starts"), 0.3))
        await asyncio.sleep(0.1)
        (run_of_it,) = jobs._live.values()
        assert not run_of_it.live
        assert run_of_it._record is None
        await running


def test_a_queued_job_of_a_closed_loop_is_started_on_the_next_loop(home: Path, tmp_path: Path):
    jobs = JobManager(None, Settings.from_environ(max_background_jobs=1))
    gate, starts = tmp_path / "gate", tmp_path / "starts"

    async def submit() -> tuple[Job, Job]:
        first = await jobs.submit_request(Request(bodies.count_and_wait, (str(starts), str(gate))))
        await asyncio.to_thread(eventually, starts.exists)
        second = await jobs.submit_request(Request(bodies.add, (1, 2)))
        await asyncio.to_thread(eventually, lambda: jobs.blocking.get(second.id).message)  # it is in the line
        return first, second

    async def see(second: str) -> Job:
        gate.touch()
        try:
            return (await jobs.wait(second, FOREVER_S))[0]
        finally:
            await jobs.close()

    loop = loop_to_abandon()
    first, second = loop.run_until_complete(submit())
    loop.close()
    assert run(see(second.id)).result == 3
    eventually(lambda: jobs.blocking.get(first.id).status is JobState.COMPLETED)
    assert lines(starts) == ["started"]


def test_an_abandoned_manager_does_not_use_its_closed_loop(home: Path, tmp_path: Path):
    jobs = JobManager(None, Settings.from_environ(max_background_jobs=1))
    gate, starts = tmp_path / "gate", tmp_path / "starts"

    async def begin() -> tuple[str, list[Coroutine[Any, Any, Any]]]:
        job_id = await under_way(jobs, bodies.count_and_wait, starts, str(gate))
        engine = await jobs._engine()
        works: list[Coroutine[Any, Any, Any]] = [
            engine.services.refresher.run(),
            engine.slots.wait_for_slot("another", lambda _: None),
        ]
        for work in works:
            with contextlib.suppress(StopIteration):  # the refresher may have nothing to write
                work.send(None)
        return job_id, works

    loop = loop_to_abandon()
    job_id, works = loop.run_until_complete(begin())
    loop.close()
    for work in works:
        work.close()
    gate.touch()
    eventually(lambda: jobs.blocking.get(job_id).status is JobState.COMPLETED)


def test_a_job_submitted_while_its_manager_closes_is_left_to_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> str:
        async with manager() as jobs:
            await call(jobs, bodies.pid)
            create = jobs.store.create
            closing: list[asyncio.Task[None]] = []
            loop = asyncio.get_running_loop()

            def close_meanwhile(job: Job) -> None:
                loop.call_soon_threadsafe(lambda: closing.append(loop.create_task(jobs.close())))
                eventually(lambda: closing)
                create(job)

            monkeypatch.setattr(jobs.store, "create", close_meanwhile)
            job = await jobs.submit_request(Request(bodies.add, (1, 2)))
            await closing[0]
        return job.id

    async def next_one(job_id: str) -> Job:
        async with manager() as jobs:
            return (await jobs.wait(job_id, FOREVER_S))[0]

    job_id = run(main())
    left = FileJobStore(home).get(job_id)
    assert left is not None
    assert (left.status, left.owner) == (JobState.PENDING, None)
    assert run(next_one(job_id)).result == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_sees_what_the_records_say(home: Path, tmp_path: Path):
    async def main() -> None:
        async with manager() as jobs:
            job_id = await under_way(jobs, bodies.sleep_long, tmp_path / "starts")
            child = os.fork()
            if child == 0:
                told = jobs.blocking.cancel(job_id).status
                read = jobs.blocking.get(job_id).status
                (tmp_path / "child").write_text(json.dumps([told, read]))
                os._exit(0)
            await asyncio.to_thread(os.waitpid, child, 0)
            assert json.loads((tmp_path / "child").read_text()) == ["cancelled", "cancelled"]
            assert (await jobs.wait(job_id, FOREVER_S))[0].status is JobState.CANCELLED

    run(main())


async def report_oddly() -> str:
    report_progress(1, 2, Path("x"))  # type: ignore[arg-type]
    await asyncio.sleep(0.3)
    return "done"


def test_an_invalid_report_of_an_inline_body_is_dropped(home: Path):
    async def main() -> None:
        async with manager() as jobs:
            result = await jobs.run(Request(report_oddly, isolation="inline"), budget_s=0.1)
            job, _ = await jobs.wait(result.job_id, FOREVER_S)
            assert (job.status, job.progress and job.progress.message) == (JobState.COMPLETED, "x")

    run(main())


def test_an_end_that_fails_in_an_unforeseen_way_is_written_later(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> None:
        async with manager() as jobs:
            gate = tmp_path / "gate"
            job_id = await under_way(jobs, bodies.count_and_wait, tmp_path / "starts", str(gate))
            update, failed = jobs.store.update, list[str]()

            def fail_once(job_id: str, change: Callable[[Job], Job]) -> Job:
                if gate.exists() and not failed:
                    failed.append(job_id)
                    raise RuntimeError("can't start new thread")
                return update(job_id, change)

            monkeypatch.setattr(jobs.store, "update", fail_once)
            gate.touch()
            assert (await jobs.wait(job_id, FOREVER_S))[0].result == "done"
            assert failed

    run(main())


def test_the_runner_of_a_job_answers_whether_it_is_alive(home: Path, tmp_path: Path):
    def missed_at(job_id: str) -> object:
        job = FileJobStore(home).get(job_id)
        assert job is not None
        return job.missed_at

    async def main() -> None:
        async with manager() as jobs:
            job_id = await under_way(jobs, bodies.sleep_long, tmp_path / "starts")
            jobs.store.update(job_id, lambda found: found.evolve(missed_at=utc_now()))
            await asyncio.to_thread(eventually, lambda: missed_at(job_id) is None)
            await jobs.cancel(job_id)

    run(main())
