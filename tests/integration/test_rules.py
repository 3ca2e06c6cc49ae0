"""The rules that close known holes, and the instants at which other systems lose jobs, each by name.

Here is what no test beside its room shows; `tests/README.md` says where each of the others is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import JobNotFound, WorkerDied
from python_mcp_server.jobs import run as job_run
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.record import RecordWriter
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Failure, Job, JobState, Outcome, new_job_id, utc_now
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore
from python_mcp_server.tools.scripts import run_script_in_dir
from tests.helpers import bodies, cancel_bodies, eventually, python, run, run_python
from tests.helpers.managers import LONG_S, call, handed_over, lines, manager, started_pids
from tests.helpers.warm_manager import WarmManager

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


async def until(holds: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(eventually, holds)


def record(home: Path, job_id: str) -> Job:
    job = FileJobStore(home).get(job_id)
    assert job is not None
    return job


# ---- rules 2, 3, 5, 6, 11 and 13


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        ("cancelled", (JobState.CANCELLED, None)),
        ("time_limit", (JobState.FAILED, "time_limit")),
        ("memory_limit", (JobState.FAILED, "memory_limit")),
        ("disk_limit", (JobState.FAILED, "disk_limit")),
    ],
)
@pytest.mark.parametrize("outcome", [Outcome(1), Outcome(cancelled=True), Outcome(failure=Failure("E", "e"))])
def test_only_a_recorded_end_reason_is_settled_once_the_tree_is_gone(
    verdict: str, state: tuple[JobState, str | None], outcome: Outcome
):
    store, job = InMemoryJobStore(), Job(new_job_id(), "job", JobState.RUNNING, utc_now(), ending=verdict)
    store.create(job)
    assert settle(store, job.id, outcome, tree_gone=False).status is JobState.RUNNING
    done = settle(store, job.id, outcome)
    assert (done.status, done.error_kind, done.result) == (*state, None)


def test_a_hand_off_is_first_the_record_then_detach_then_the_reply(
    warm: WarmManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    detach = WorkerHandle.detach

    def noted(worker: WorkerHandle, *args: Any) -> None:
        assert worker.call is not None
        order.append(f"detach, recorded as {record(warm.home, worker.call.job_id).status}")
        detach(worker, *args)

    async def main(jobs: JobManager) -> None:
        gate = tmp_path / "gate"
        await call(jobs, bodies.pid)
        result = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
        order.append("reply")
        gate.touch()
        await jobs.wait(result.job_id, LONG_S)

    monkeypatch.setattr(WorkerHandle, "detach", noted)
    warm.run(main)
    assert order == ["detach, recorded as running", "reply"]


async def test_a_cancel_is_raised_once_in_its_body_and_then_the_worker_goes(tmp_path: Path):
    async with manager(cancel_grace_seconds=0.3) as jobs:
        starts = tmp_path / "starts"
        result = await handed_over(jobs, cancel_bodies.count_cancels, str(starts))
        (worker,) = await asyncio.to_thread(started_pids, starts)
        assert (await jobs.cancel(result.job_id)).status is JobState.CANCELLED
        assert lines(starts)[1:] == ["heard"]
        assert identify(worker) is None


def test_what_a_killed_worker_has_left_is_ended_before_its_job_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settled_with: list[bool] = []
    write_end = RecordWriter.settle

    def look(record: RecordWriter, *args: Any, **kwargs: Any) -> Job:
        settled_with.extend(identify(pid) is not None for pid in family)
        return write_end(record, *args, **kwargs)

    family: list[int] = []
    monkeypatch.setattr(RecordWriter, "settle", look)

    async def main() -> None:
        async with manager() as jobs:
            starts = tmp_path / "starts"
            kinds = ("session", "orphan", "daemon", "deaf", "stopped")
            result = await handed_over(jobs, cancel_bodies.with_family, str(starts), *kinds)
            worker, _ = await asyncio.to_thread(started_pids, starts)
            family.extend(int(line.split()[1]) for line in lines(starts))
            os.kill(worker, signal.SIGKILL)
            job, _ = await jobs.wait(result.job_id, LONG_S)
            assert (job.status, job.error_kind) == (JobState.FAILED, "worker_died")

    run(main())
    assert settled_with
    assert not any(settled_with)


def test_a_calls_memory_is_not_charged_to_its_workers_next_call(tmp_path: Path):
    async def main() -> None:
        async with manager(sample_seconds=0.05) as jobs:
            peaks = [await peak_of(jobs, size, tmp_path / str(size)) for size in (120_000_000, 1000)]
            assert peaks[0][0] == peaks[1][0]
            assert peaks[0][1] > 120_000_000 > peaks[1][1] + 20_000_000

    async def peak_of(jobs: JobManager, size: int, gate: Path) -> tuple[int, int]:
        result = await handed_over(jobs, cancel_bodies.grow, size, str(gate))
        while (usage := (await jobs.get(result.job_id)).usage) is None or usage.peak_rss_bytes < size:
            await asyncio.sleep(0.01)
        gate.touch()
        job, _ = await jobs.wait(result.job_id, LONG_S)
        assert job.worker is not None
        assert job.usage is not None
        return job.worker.pid, job.usage.peak_rss_bytes

    run(main())


async def test_a_worker_that_has_grown_too_large_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job_run, "BLOATED_BYTES", 1)

    async with manager(sample_seconds=0.05) as jobs:
        gate = tmp_path / "gate"
        result = await handed_over(jobs, cancel_bodies.grow, 1000, str(gate))
        while (await jobs.get(result.job_id)).usage is None:
            await asyncio.sleep(0.01)
        gate.touch()
        job, _ = await jobs.wait(result.job_id, LONG_S)
        assert job.status is JobState.COMPLETED
        assert job.worker is not None
        assert identify(job.worker.pid) is None


def test_async_bodies_of_one_worker_share_its_loop(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        loops = {await call(jobs, cancel_bodies.loop_of_this_worker) for _ in range(5)}
        assert len(loops) == len({pid for pid, _ in loops})

    warm.run(main)


# ---- instants


async def test_a_job_that_was_polled_once_mid_run_is_seen_to_finish_by_all(home: Path, tmp_path: Path):
    other = JobManager(FileJobStore(home))
    async with manager() as jobs:
        gate = tmp_path / "gate"
        await call(jobs, bodies.pid)
        result = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
        assert (await jobs.get(result.job_id)).status is JobState.RUNNING
        assert other.blocking.get(result.job_id).status is JobState.RUNNING
        gate.touch()
        job, _ = await jobs.wait(result.job_id, LONG_S)
        assert (job.status, job.result) == (JobState.COMPLETED, "done")
        assert other.blocking.get(result.job_id) == await jobs.get(result.job_id) == job


@pytest.mark.parametrize("body", [bodies.count_and_wait, bodies.swallow])
async def test_a_cancelled_job_stays_cancelled_past_its_natural_end(body: Any, home: Path, tmp_path: Path):
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        gate = tmp_path / "gate"
        args = (str(tmp_path / "starts"), str(gate))[: body.__code__.co_argcount]
        result = await handed_over(jobs, body, *args)
        await until(lambda: lines(tmp_path / "starts"))
        told = await jobs.cancel(result.job_id)
        gate.touch()
        assert (told.status, told.result) == (JobState.CANCELLED, None)
        assert await call(jobs, bodies.add, 1) == 2
    assert record(home, result.job_id) == told


def command_line_cancels(job_id: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "python_mcp_server", "jobs", "cancel", job_id)


@pytest.mark.parametrize("instant", ["before", "after"])
def test_a_foreign_cancel_at_the_instant_of_the_end_leaves_one_end(
    instant: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answers: list[str] = []
    write_end = RecordWriter.settle

    def end_meets_cancel(recording: RecordWriter, outcome: Outcome, *, tree_gone: bool, **known: Any) -> Job:
        if tree_gone or answers:  # again, once the tree was ended for the verdict's sake
            return write_end(recording, outcome, tree_gone=tree_gone, **known)
        if instant == "before":
            code = "import sys; from python_mcp_server.jobs import cancel; from pathlib import Path;"
            code += "from python_mcp_server.store.files import FileJobStore;"
            code += "cancel._request_end(FileJobStore(Path(sys.argv[2])), sys.argv[1])"
            answers.append(run_python("-c", code, recording._look().id, home).stderr)
            return write_end(recording, outcome, tree_gone=tree_gone, **known)
        job = write_end(recording, outcome, tree_gone=tree_gone, **known)
        answers.append(command_line_cancels(recording._look().id).stdout)
        return job

    async def main() -> Job:
        async with manager() as jobs:
            job = await jobs.submit_request(Request(bodies.add, (1,)))
            return (await jobs.wait(job.id, LONG_S))[0]

    monkeypatch.setattr(RecordWriter, "settle", end_meets_cancel)
    job = run(main())
    if instant == "before":
        assert answers == [""]
        assert (job.status, job.result) == (JobState.CANCELLED, None)
        assert command_line_cancels(job.id).stdout.count("had already ended as cancelled")
    else:
        assert (job.status, job.result) == (JobState.COMPLETED, 2)
        assert answers == [f"Job {job.id} had already ended as completed; nothing was cancelled\n"]
    assert record(home, job.id) == job


CANCEL_WHAT_COMES = """
import sys
from python_mcp_server.jobs.manager import JobManager
jobs = JobManager()
print("ready", flush=True)
for line in sys.stdin:
    print(jobs.blocking.cancel(line.strip()).status, flush=True)
"""


def test_foreign_cancels_that_race_with_the_end_are_told_the_final_status(home: Path):
    async def main(canceller: subprocess.Popen[str]) -> None:
        async with manager(spare_workers=2, cancel_grace_seconds=0.1) as jobs:
            for number in range(8):
                job = await jobs.submit_request(
                    Request(bodies.sleep_and_count, ("/dev/null", number % 5 / 500))
                )
                told = await asyncio.to_thread(answer, canceller, job.id)
                seen, _ = await jobs.wait(job.id, LONG_S)
                assert (seen.status.value, record(home, job.id)) == (told, seen)
            assert await call(jobs, bodies.add, 1) == 2

    def answer(canceller: subprocess.Popen[str], job_id: str) -> str:
        assert canceller.stdin is not None
        assert canceller.stdout is not None
        canceller.stdin.write(f"{job_id}\n")
        canceller.stdin.flush()
        return canceller.stdout.readline().strip()

    with python("-c", CANCEL_WHAT_COMES) as canceller:
        assert canceller.stdout is not None
        assert canceller.stdout.readline() == "ready\n"
        run(main(canceller))
        assert canceller.stdin is not None
        canceller.stdin.close()


# ---- a server that is killed in each state

PAUSED = """
import asyncio, sys, time
from pathlib import Path
from python_mcp_server.jobs.run import JobRun
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.record import RecordWriter
from python_mcp_server.jobs.request import Request
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.settings import Settings
from tests.helpers import bodies
from tests.helpers.managers import lines
state, starts, gate = sys.argv[1:]

def pause(owner, name, after=False):
    original = getattr(owner, name)
    def paused(*args, **kwargs):
        if after:
            original(*args, **kwargs)
        here()
    setattr(owner, name, paused)

def here():
    print("here", flush=True)
    time.sleep(60)

points = {
    "pending": (JobRun, "queue"),
    "handing over": (JobRun, "_detach_worker"),
    "cancelling": (WorkerHandle, "cancel"),
    "settling": (RecordWriter, "settle"),
    "settled": (RecordWriter, "settle", True),
}

async def main():
    recorded_s = 0.05 if state == "recorded" else 60.0
    jobs = JobManager(None, Settings.from_environ(record_after_seconds=recorded_s))
    request = Request(bodies.count_and_wait, (starts, gate))
    if state in points:
        pause(*points[state])
    if state == "handing over":
        await jobs.run(Request(bodies.pid), budget_s=60)
        await jobs.run(request, budget_s=0.05)
    if state in ("budget", "recorded"):
        asyncio.ensure_future(jobs.run(request, budget_s=60))
        while not lines(starts) or (state == "recorded" and not jobs.store.list()[0]):
            await asyncio.sleep(0.01)
        here()
    job = await jobs.submit_request(request)
    while not lines(starts):
        await asyncio.sleep(0.01)
    if state == "cancelling":
        await jobs.cancel(job.id)
    Path(gate).touch()
    await asyncio.sleep(60)
asyncio.run(main())
"""
DONE = (JobState.COMPLETED, None)
KILLED_SERVER = {
    "recorded": (JobState.FAILED, "server_died"),
    "handing over": (JobState.FAILED, "worker_died"),  # nobody was told of it yet
    "cancelling": (JobState.CANCELLED, None),
    "settling": DONE,
    "settled": DONE,
}


@contextmanager
def server_killed_at(state: str, tmp_path: Path) -> Iterator[None]:
    with python("-c", PAUSED, state, tmp_path / "starts", tmp_path / "gate") as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "here\n"
        server.kill()
        server.wait(30)
    yield


@pytest.mark.parametrize("state", KILLED_SERVER)
def test_a_server_killed_in_any_state_leaves_a_job_with_its_true_end(state: str, home: Path, tmp_path: Path):
    with server_killed_at(state, tmp_path):
        jobs = JobManager()
        (job,), _ = jobs.blocking.list()
        ended = eventually(lambda: ended if (ended := jobs.blocking.get(job.id)).status.terminal else None)
    assert (ended.status, ended.error_kind) == KILLED_SERVER[state]
    assert ended.result == ("done" if ended.status is JobState.COMPLETED else None)
    assert lines(tmp_path / "starts") == ["started"]
    assert record(home, job.id) == ended
    worker = ended.worker
    assert worker is not None
    eventually(lambda: identify(worker.pid) is None)


def test_a_server_killed_within_the_first_second_of_a_call_leaves_nothing(tmp_path: Path):
    with server_killed_at("budget", tmp_path):
        assert JobManager().blocking.list() == ([], False)


def test_a_job_whose_server_dies_before_queueing_it_is_started_once(home: Path, tmp_path: Path):
    async def main() -> None:
        (tmp_path / "gate").touch()
        async with manager() as jobs:
            (job,), _ = await jobs.list()
            assert job.status is JobState.PENDING
            ended, timed_out = await jobs.wait(job.id, LONG_S)
            assert (ended.status, ended.result, timed_out) == (JobState.COMPLETED, "done", False)

    with server_killed_at("pending", tmp_path):
        assert lines(tmp_path / "starts") == []
        run(main())
    assert lines(tmp_path / "starts") == ["started"]


# ---- a worker that is killed in each state


def kill_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Kill the worker in the instant in which this is about to be done."""
    original = getattr(owner, name)

    def killing(this: Any, *args: Any, **kwargs: Any) -> Any:
        if worker := (this._look().worker if isinstance(this, RecordWriter) else this.identity):
            os.kill(worker.pid, signal.SIGKILL)
            eventually(lambda: identify(worker.pid) is None)
        return original(this, *args, **kwargs)

    monkeypatch.setattr(owner, name, killing)


async def test_a_worker_killed_while_its_caller_waits_fails_call_and_record(home: Path, tmp_path: Path):
    async with manager(record_after_seconds=0.01) as jobs:
        waiting = asyncio.ensure_future(call(jobs, bodies.sleep_long, str(tmp_path / "starts")))
        (worker,) = await asyncio.to_thread(started_pids, tmp_path / "starts")
        (job,) = await until(lambda: FileJobStore(home).list()[0])
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            await waiting
        assert caught.value.exit_code == -signal.SIGKILL
        ended = record(home, job.id)
        assert (ended.status, ended.error_kind) == (JobState.FAILED, "worker_died")


@pytest.mark.parametrize(
    ("point", "state"),
    [
        ((WorkerHandle, "detach"), (JobState.FAILED, "worker_died")),
        ((WorkerHandle, "cancel"), (JobState.CANCELLED, None)),
        ((RecordWriter, "settle"), DONE),
    ],
    ids=["handed over", "cancelling", "settling"],
)
def test_a_worker_killed_in_any_state_leaves_a_job_with_its_true_end(
    point: tuple[Any, str],
    state: tuple[JobState, str | None],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    async def main() -> Job:
        async with manager() as jobs:
            gate = tmp_path / "gate"
            await call(jobs, bodies.pid)
            kill_before(monkeypatch, *point)
            result = await handed_over(jobs, bodies.count_and_wait, str(tmp_path / "starts"), str(gate))
            await until(lambda: lines(tmp_path / "starts"))
            if point[1] == "cancel":
                await jobs.cancel(result.job_id)
            gate.touch()
            job, _ = await jobs.wait(result.job_id, LONG_S)
            assert await call(jobs, bodies.add, 1) == 2
            return job

    job = run(main())
    assert (job.status, job.error_kind) == state
    assert lines(tmp_path / "starts") == ["started"]
    assert record(home, job.id) == job


async def test_a_worker_killed_after_its_job_was_settled_changes_nothing(home: Path):
    async with manager(spare_workers=0) as jobs:
        job = await jobs.submit_request(Request(bodies.pid))
        ended, _ = await jobs.wait(job.id, LONG_S)
        os.kill(ended.result, signal.SIGKILL)
        await until(lambda: identify(ended.result) is None)
        assert await jobs.get(job.id) == record(home, job.id) == ended
        assert await call(jobs, bodies.add, 1) == 2


# ---- a child that is killed, a home that is deleted


def test_a_killed_child_is_an_exit_code_and_its_worker_serves_on(warm: WarmManager, tmp_path: Path):
    code = "import os, time\nprint(os.getpid(), file=open('pid', 'w'), flush=True)\ntime.sleep(60)"

    async def main(jobs: JobManager) -> None:
        worker = await call(jobs, bodies.pid)
        running = asyncio.ensure_future(call(jobs, run_script_in_dir, str(tmp_path), script_content=code))
        (child,) = await until(lambda: lines(tmp_path / "pid"))
        os.kill(int(child), signal.SIGKILL)
        result = await running
        assert (result["exit_code"], result["ended_by_signal"]) == (-signal.SIGKILL, "SIGKILL")
        assert await call(jobs, bodies.pid) == worker

    warm.run(main)


async def test_a_home_that_is_deleted_costs_the_records_and_no_call(home: Path, tmp_path: Path):
    async with manager(record_after_seconds=0.01) as jobs:
        gate = str(tmp_path / "gate")
        job = await jobs.submit_request(Request(bodies.count_and_wait, (str(tmp_path / "job"), gate)))
        waited_for = asyncio.ensure_future(call(jobs, bodies.count_and_wait, str(tmp_path / "call"), gate))
        await until(lambda: lines(tmp_path / "job") and lines(tmp_path / "call"))
        await until(lambda: len(FileJobStore(home).list()[0]) > 1)
        await asyncio.to_thread(shutil.rmtree, home)
        Path(gate).touch()
        assert await waited_for == "done"
        while job.id in jobs._live:
            await asyncio.sleep(0.01)
        with pytest.raises(JobNotFound):
            await jobs.get(job.id)
        again = await jobs.submit_request(Request(bodies.add, (1,)))
        assert (await jobs.wait(again.id, LONG_S))[0].result == 2
