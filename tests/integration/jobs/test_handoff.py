"""The hand-off: one start, one truth, a record before the reply, and limits that say why one waits."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import PoolClosed
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.record import RecordWriter
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, Outcome
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run, run_python
from tests.helpers.managers import LONG_S, call, handed_over, lines, manager
from tests.helpers.warm_manager import WarmManager

READ = """
import sys
from python_mcp_server.store.files import FileJobStore
print(FileJobStore(sys.argv[1]).get(sys.argv[2]).status)
"""


def test_a_body_past_its_budget_goes_on_and_starts_only_once(warm: WarmManager, tmp_path: Path):
    async def main(jobs: JobManager) -> None:
        starts, gate = tmp_path / "starts", tmp_path / "gate"
        await call(jobs, bodies.pid)
        result = await handed_over(jobs, bodies.count_and_wait, str(starts), str(gate))
        assert result.status is JobState.RUNNING
        assert result.message == "Task exceeded 0.05s time budget; running in background"
        gate.touch()
        job, timed_out = await jobs.wait(result.job_id, LONG_S)
        assert (timed_out, job.status, job.result) == (False, JobState.COMPLETED, "done")
        assert lines(starts) == ["started"]

    warm.run(main)


async def test_the_public_list_has_the_jobs_that_the_close_ended(tmp_path: Path, home: Path):
    def writers() -> set[int | None]:
        return {thread.ident for thread in threading.enumerate() if thread.name == "jobs-list"}

    before = writers()
    async with manager(on_exit="cancel") as jobs:
        await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(tmp_path / "gate"))
    listed = json.loads((home / "meta" / "jobs.json").read_text())
    assert [job["status"] for job in listed] == ["cancelled"]
    assert writers() <= before


def test_another_process_reads_the_job_as_soon_as_the_caller_knows_it(warm: WarmManager, tmp_path: Path):
    async def main(jobs: JobManager) -> None:
        gate = tmp_path / "gate"
        await call(jobs, bodies.pid)
        result = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
        seen = await asyncio.to_thread(run_python, "-c", READ, warm.home, result.job_id)
        gate.touch()
        await jobs.wait(result.job_id, LONG_S)
        assert (seen.stdout.strip(), seen.returncode) == ("running", 0)

    warm.run(main)


def test_a_body_that_ends_as_its_budget_ends_starts_once_and_ends_once(warm: WarmManager, tmp_path: Path):
    async def main(jobs: JobManager) -> None:
        await call(jobs, bodies.pid)
        for number in range(40):
            starts = tmp_path / str(number)
            request = Request(bodies.sleep_and_count, (str(starts), 0.05))
            result = await jobs.run(request, budget_s=0.045 + 0.0005 * (number % 20))
            if result.handed_over:
                job, _ = await jobs.wait(result.job_id, LONG_S)
                assert (job.status, job.result, job.ending) == (JobState.COMPLETED, "done", None)
            else:
                assert result.value == "done"
            assert lines(starts) == ["started"]

    warm.run(main)


async def test_a_call_that_ends_before_a_record_is_due_leaves_no_file(home: Path):
    async with manager(record_after_seconds=LONG_S) as jobs:
        await call(jobs, bodies.pid)
        before = {path for path in home.rglob("*") if "lanes" not in path.parts}
        await call(jobs, bodies.say, "hello")
        assert {path for path in home.rglob("*") if "lanes" not in path.parts} == before
        assert await jobs.list() == ([], False)


async def test_a_call_that_lasts_has_a_record_though_it_ends_in_time(tmp_path: Path):
    async with manager(record_after_seconds=0.1) as jobs:
        assert await call(jobs, bodies.sleep_and_count, str(tmp_path / "starts"), 0.5) == "done"
        ((job,), more) = await jobs.list()
        assert (job.status, job.result, more) == (JobState.COMPLETED, "done", False)
        assert job.usage is not None


async def test_a_budget_that_ends_in_the_queue_gives_a_pending_job_and_why(tmp_path: Path):
    async with manager(max_workers=1) as jobs:
        gate = tmp_path / "gate"
        arguments = (str(tmp_path / "starts"), str(gate))
        first = asyncio.ensure_future(jobs.run(Request(bodies.count_and_wait, arguments), budget_s=LONG_S))
        while not lines(tmp_path / "starts"):
            await asyncio.sleep(0.01)
        result = await handed_over(jobs, bodies.count_and_wait, *arguments)
        assert result.status is JobState.PENDING
        assert result.handle()["message"] == (
            "Task exceeded 0.05s time budget; waiting for a free worker: 1 calls run, the limit is 1"
        )
        gate.touch()
        assert (await first).value == "done"
        assert (await jobs.wait(result.job_id, LONG_S))[0].result == "done"
    assert lines(tmp_path / "starts") == ["started", "started"]


async def test_background_jobs_beyond_their_limit_wait_with_the_reason(tmp_path: Path):
    async with manager(max_background_jobs=1) as jobs:
        gate = tmp_path / "gate"
        handed = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "s"), str(gate))
        while (await jobs.get(handed.job_id)).status is not JobState.RUNNING:
            await asyncio.sleep(0.01)
        waiting = await jobs.submit_request(Request(bodies.add, (1,)))
        assert waiting.status is JobState.PENDING
        while (told := (await jobs.get(waiting.id)).message) is None:
            await asyncio.sleep(0.01)
        assert told == "waiting for its turn: 1 background job runs on this machine, the limit is 1"
        assert await call(jobs, bodies.add, 1) == 2  # a call in its budget is none of them
        gate.touch()
        assert (await jobs.wait(waiting.id, LONG_S))[0].result == 2


async def test_many_calls_share_few_workers_and_the_surplus_ends():
    async with manager(max_workers=2, worker_idle_seconds=0.1) as jobs:
        pool = (await jobs._engine()).pool
        answers = asyncio.gather(*(call(jobs, bodies.add, number) for number in range(40)))
        await asyncio.sleep(0)
        assert pool._starting <= 2 + 1
        assert await answers == list(range(1, 41))
        assert len(list(pool.workers)) + pool._starting <= 2 + 1
        while len(list(pool.workers)) > 1:
            await asyncio.sleep(0.01)
        assert await call(jobs, bodies.add, 1) == 2


@pytest.mark.parametrize("body", [bodies.opaque, bodies.not_a_number, bodies.trap])
def test_a_result_without_json_completes_the_job_with_its_text(warm: WarmManager, body):
    async def main(jobs: JobManager) -> None:
        job = await jobs.submit_request(Request(body))
        job, _ = await jobs.wait(job.id, LONG_S)
        assert job.status is JobState.COMPLETED
        assert isinstance(job.result, str | None)
        assert "JSON" in (job.result_note or "")

    warm.run(main)


def test_in_its_budget_the_caller_gets_the_object_itself(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        assert isinstance(await call(jobs, bodies.opaque), bodies.Opaque)
        assert math.isnan(await call(jobs, bodies.not_a_number))

    warm.run(main)


def test_a_failure_in_the_background_is_a_failed_job_with_its_traceback(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        job, _ = await jobs.wait((await jobs.submit_request(Request(bodies.raise_value_error))).id, LONG_S)
        assert (job.status, job.error_kind) == (JobState.FAILED, "exception")
        assert (job.error or "").startswith("ValueError: seven is right out\n\nTraceback")
        dead, _ = await jobs.wait((await jobs.submit_request(Request(bodies.exit_at_once, (3,)))).id, LONG_S)
        assert (dead.status, dead.error_kind) == (JobState.FAILED, "worker_died")
        assert "exited with code 3" in (dead.error or "")

    warm.run(main)


def test_a_large_result_in_the_background_is_whole_in_its_record(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        job = await jobs.submit_request(Request(str.upper, ("x" * 3_000_000,)))
        job, _ = await jobs.wait(job.id, LONG_S)
        assert job.result == "X" * 3_000_000

    warm.run(main)


async def test_jobs_in_memory_work_and_end_with_their_manager(tmp_path: Path):
    store = InMemoryJobStore()
    async with manager(store) as jobs:
        done = await jobs.submit_request(Request(bodies.add, (1,)))
        assert (await jobs.wait(done.id, LONG_S))[0].result == 2
        going = await handed_over(jobs, bodies.spin, str(tmp_path / "starts"))
    ended = store.get(going.job_id)
    assert ended is not None
    assert ended.status is JobState.CANCELLED
    store.close()


def test_two_event_loops_of_one_manager_see_each_others_jobs(tmp_path: Path, home: Path):
    jobs = JobManager(settings=Settings.from_environ())

    async def first() -> str:
        await call(jobs, bodies.pid)
        result = await handed_over(jobs, bodies.sleep_and_count, str(tmp_path / "starts"), 0.5)
        return result.job_id

    async def second(job_id: str) -> None:
        job, timed_out = await jobs.wait(job_id, LONG_S)
        assert (timed_out, job.status, job.result) == (False, JobState.COMPLETED, "done")
        assert await call(jobs, bodies.add, 1) == 2
        await jobs.close()
        with pytest.raises(PoolClosed):
            await call(jobs, bodies.add, 1)

    run(second(run(first())))
    assert lines(tmp_path / "starts") == ["started"]


async def test_a_closed_manager_leaves_a_kept_job_that_the_next_one_sees_end(tmp_path: Path):
    gate = tmp_path / "gate"
    async with manager() as jobs:
        await call(jobs, bodies.pid)
        kept = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
    async with manager() as jobs:
        assert await call(jobs, bodies.add, 1) == 2  # its wires have the numbers of the closed ones
        assert (await jobs.get(kept.job_id)).status is JobState.RUNNING
        gate.touch()
        job, timed_out = await jobs.wait(kept.job_id, LONG_S)
        assert (timed_out, job.status, job.result) == (False, JobState.COMPLETED, "done")
        assert await call(jobs, bodies.add, 1) == 2


def test_a_close_settles_the_kept_jobs_that_end_meanwhile(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    orphan, settle, settling = RecordWriter.orphan, RecordWriter.settle, threading.Event()
    gate = tmp_path / "gate"

    async def end_first(record: RecordWriter) -> None:
        gate.touch()
        await asyncio.to_thread(settling.wait, LONG_S)
        await orphan(record)

    def settle_slowly(record: RecordWriter, outcome: Outcome, **known: Any) -> Job:
        settling.set()
        time.sleep(0.3)  # a slow disk
        return settle(record, outcome, **known)

    async def main() -> str:
        async with manager() as jobs:
            kept = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
            await asyncio.to_thread(eventually, (tmp_path / "starts").exists)
        return kept.job_id

    monkeypatch.setattr(RecordWriter, "orphan", end_first)
    monkeypatch.setattr(RecordWriter, "settle", settle_slowly)
    job = FileJobStore(home).get(run(main()))
    assert job is not None
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_manager_closed_while_workers_start_leaves_no_process():
    jobs = JobManager(settings=Settings.from_environ())
    calls = [asyncio.ensure_future(call(jobs, bodies.pid)) for _ in range(5)]
    while not jobs._live:
        await asyncio.sleep(0)
    await jobs.close()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, BaseException) for answer in ended)


def test_secrets_of_a_call_are_nowhere_in_the_home(warm: WarmManager):
    secret = "correct horse battery staple"

    async def main(jobs: JobManager) -> None:
        job = await jobs.submit_request(Request(bodies.environment_of_job, (secret,)))
        assert (await jobs.wait(job.id, LONG_S))[0].result == len(secret)

    warm.run(main)
    files = [path for path in warm.home.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_ids_are_unguessable_and_files_are_private(home: Path):
    async def main() -> list[str]:
        async with manager() as jobs:
            ids = [(await jobs.submit_request(Request(bodies.say, ("x",)))).id for _ in range(3)]
            for job_id in ids:
                await jobs.wait(job_id, LONG_S)
            return ids

    ids = run(main())
    assert len({job_id[-24:] for job_id in ids}) == 3
    assert home.stat().st_mode & 0o077 == 0
    assert [path for path in home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []


def test_every_record_is_strict_json(home: Path):
    async def main() -> None:
        async with manager() as jobs:
            for body in (bodies.not_a_number, bodies.report_not_finite):
                await jobs.wait((await jobs.submit_request(Request(body))).id, LONG_S)
        FileJobStore(home).close()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    run(main())
    for path in home.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
