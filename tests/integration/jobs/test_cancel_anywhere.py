"""Cancelling a job of another process, whatever state that one, its worker and its tree are in."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from python_mcp_server import processes
from python_mcp_server.errors import PythonMcpError, StoreError, StoreLocked
from python_mcp_server.jobs import cancel as foreign
from python_mcp_server.jobs.cancel import cancel_record, carry_out_end
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.processes import JOB_VARIABLE, identify
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from tests.helpers import ROOT, bodies, cancel_bodies, environment, eventually, python
from tests.helpers.cancel_bodies import FAMILY, GRACE, server
from tests.helpers.managers import LONG_S, call, lines, manager, started_pids
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sessions are those of POSIX")
Server = tuple[subprocess.Popen[str], str]


@contextmanager
def another_session(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line as another login of the same account runs it: its own session, its own variables."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "PYTHON_MCP_HOME": str(home), **GRACE}
    command = [sys.executable, "-m", "python_mcp_server", "jobs", *arguments]
    with subprocess.Popen(
        command, env=env, start_new_session=True, cwd="/", text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def cancelled_from_another_session(home: Path, job_id: str) -> str:
    with another_session(home, "cancel", job_id) as process:
        answer, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        return answer


def other_manager(home: Path, *, grace_s: float = LONG_S, lock_s: float = 10.0) -> JobManager:
    settings = Settings.from_environ(cancel_grace_seconds=grace_s)
    return JobManager(FileJobStore(home, lock_s=lock_s), settings)


def record(home: Path, job_id: str) -> Job:
    job = FileJobStore(home).get(job_id)
    assert job is not None
    return job


def worker_of(home: Path, job_id: str) -> ProcessIdentity:
    worker = eventually(lambda: record(home, job_id).worker)
    assert isinstance(worker, ProcessIdentity)
    return worker


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


# ---- whatever its server does


def leave(_front: subprocess.Popen[str]) -> None:
    """The server goes on."""


def kill(front: subprocess.Popen[str]) -> None:
    front.kill()
    front.wait(30)


def suspend(front: subprocess.Popen[str]) -> None:
    stop(front.pid)


def occupy(front: subprocess.Popen[str]) -> None:
    assert front.stdin is not None
    assert front.stdout is not None
    front.stdin.write("be busy\n")
    front.stdin.flush()
    assert front.stdout.readline() == "busy\n"


@pytest.mark.parametrize("fate", [thorough(leave), kill, thorough(suspend), thorough(occupy)])
def test_another_process_can_cancel_in_any_state_of_the_server(
    fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server("sleep_long", starts) as (front, job_id):
        (worker,) = started_pids(starts)
        fate(front)
        answer = cancelled_from_another_session(home, job_id)
        assert answer == f"Job {job_id} was cancelled; its last process is gone\n"
        assert lines(starts)[1:] == ["cleaned up"]
        assert identify(worker) is None
        ended = record(home, job_id)
        assert ended.status is JobState.CANCELLED
        if fate is suspend:  # what it does when it wakes up changes nothing
            os.kill(front.pid, signal.SIGCONT)
            occupy(front)
        assert record(home, job_id) == ended


@pytest.mark.parametrize("body", ["deaf", thorough("swallow"), thorough("ignore_sigterm")])
def test_a_body_that_ignores_its_cancel_is_killed_without_its_server(body: str, home: Path, tmp_path: Path):
    starts = tmp_path / "starts"
    with server(body, starts) as (front, job_id):
        (worker,) = started_pids(starts)
        kill(front)
        job = other_manager(home, grace_s=0.3).blocking.cancel(job_id)
        assert (job.status, job.result) == (JobState.CANCELLED, None)
        assert identify(worker) is None


@pytest.mark.parametrize("fate", [thorough(leave), kill])
def test_a_stopped_worker_wakes_up_to_clean_up(
    fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server("sleep_long", starts) as (front, job_id):
        (worker,) = started_pids(starts)
        stop(worker)
        fate(front)
        assert other_manager(home).blocking.cancel(job_id).status is JobState.CANCELLED
        assert lines(starts)[1:] == ["cleaned up"]
        assert identify(worker) is None


# ---- whatever is in its tree

HARD = ["session", "orphan", "daemon", "deaf", "stopped", "hidden"]
OUTRUNNERS = ["hydra", "nomads", "phoenix", "guards"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, who hides may escape")
@pytest.mark.parametrize("fate", [thorough(leave), kill])
@pytest.mark.parametrize("kinds", [HARD, OUTRUNNERS], ids=["hard", "outrunners"])
def test_the_state_is_written_when_the_last_of_the_tree_is_gone(
    kinds: list[str], fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server("with_family", starts, *kinds) as (front, job_id):
        started_pids(starts)
        noted = [identify(int(line.split()[1])) for line in lines(starts)]
        members = [one for one in noted if one is not None]  # some are never the same for long
        store, worker = FileJobStore(home), worker_of(home, job_id)
        fate(front)
        with another_session(home, "cancel", job_id) as canceller:
            eventually(lambda: record(home, job_id).status.terminal)
            left = [one for one in members if processes.is_alive(one)]
            left += processes.find_tree(worker, job_id)
            assert left == []
            assert canceller.wait(60) == 0
        assert record(home, job_id).status is JobState.CANCELLED
        assert lines(starts)[-1] == "cleaned up"
        store.close()


@contextmanager
def orphans(home: Path) -> Iterator[tuple[Job, ProcessIdentity]]:
    """The record of a job whose server and worker are dead, and a daemon of it that lives."""
    job_id = new_job_id()
    with python(FAMILY, "daemon", env=environment(**{JOB_VARIABLE: job_id})) as root:
        assert root.stdout is not None
        said = dict(root.stdout.readline().split() for _ in range(2))
        worker, daemon = identify(root.pid), identify(int(said["daemon"]))
        assert worker is not None
        assert daemon is not None
        root.kill()
        root.wait(30)
        job = Job(job_id, "job", JobState.RUNNING, utc_now(), owner=worker, worker=worker, background=True)
        FileJobStore(home).create(job)
        yield job, daemon
        processes.send_signal(daemon, signal.SIGKILL)


def test_what_a_dead_worker_left_is_ended_before_its_job_is_cancelled(home: Path):
    with orphans(home) as (job, daemon):
        assert other_manager(home).blocking.cancel(job.id).status is JobState.CANCELLED
        assert not processes.is_alive(daemon)


def test_a_job_with_an_unkillable_process_is_not_called_cancelled(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    with orphans(home) as (job, daemon):
        with monkeypatch.context() as patch:
            patch.setattr(processes, "kill_tree", lambda *_args, **_kwargs: [daemon.pid])
            with pytest.raises(PythonMcpError, match=f"would not end: {daemon.pid}"):
                other_manager(home).blocking.cancel(job.id)
        standing = record(home, job.id)
        assert (standing.status, standing.ending) == (JobState.RUNNING, "cancelled")
        assert carry_out_end(FileJobStore(home), standing, 0.1).status is JobState.CANCELLED
        assert not processes.is_alive(daemon)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, who hides may escape")
async def test_an_idle_worker_that_leaves_ends_what_a_body_left_behind(tmp_path: Path):
    async with manager(spare_workers=0) as jobs:
        worker = await call(jobs, bodies.pid)
        hidden = await call(jobs, cancel_bodies.leave_hidden, str(tmp_path / "starts"))
        assert processes.identify(hidden) is not None
        os.kill(worker, signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: identify(worker) is None)
        assert identify(hidden) is None


# ---- whoever holds its lock


@pytest.mark.parametrize("body", ["hold_lock", "hold_lock_in_child"])
@pytest.mark.parametrize("fate", [thorough(leave), kill])
def test_a_stopped_process_of_the_job_loses_the_lock_that_it_holds(
    fate: Callable[[subprocess.Popen[str]], None], body: str, home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server(body, starts) as (front, job_id):
        (holder,) = started_pids(starts)
        eventually(lambda: psutil.Process(holder).status() == psutil.STATUS_STOPPED)
        worker = worker_of(home, job_id)
        fate(front)
        job = other_manager(home, grace_s=0.2, lock_s=1.0).blocking.cancel(job_id)
        assert job.status is JobState.CANCELLED
        assert identify(holder) is None
        assert not processes.is_alive(worker)


def test_a_foreign_process_that_holds_the_lock_is_named_and_lives(home: Path, tmp_path: Path):
    starts = tmp_path / "starts"
    code = "import sys; from tests.helpers.cancel_bodies import hold_lock; hold_lock(sys.argv[1])"
    with server("sleep_long", starts) as (_, job_id), ExitStack() as stack:
        (worker,) = started_pids(starts)
        env = environment(**{JOB_VARIABLE: ""}, JOB=job_id)
        code = f"import os; os.environ[{JOB_VARIABLE!r}] = os.environ['JOB']; {code}"
        stranger = stack.enter_context(python("-c", code, tmp_path / "lock", env=env))
        stack.callback(stranger.kill)
        started_pids(tmp_path / "lock")
        with pytest.raises(StoreLocked, match=str(stranger.pid)) as caught:
            other_manager(home, lock_s=0.1).blocking.cancel(job_id)
        assert caught.value.holder_pid == stranger.pid
        assert stranger.poll() is None
        assert identify(worker) is not None


# ---- whoever else cancels

BLOCKED_CANCELLER = """
import sys, time
from python_mcp_server.jobs import cancel
from python_mcp_server.jobs.manager import JobManager
def stand_still(*_):
    print("the verdict is written", flush=True)
    time.sleep(60)
cancel._carry_out = stand_still
JobManager().blocking.cancel(sys.argv[1])
"""


def verdict_of_a_dead_canceller(home: Path, job_id: str) -> Job:
    with python("-c", BLOCKED_CANCELLER, job_id) as canceller:
        assert canceller.stdout is not None
        assert canceller.stdout.readline() == "the verdict is written\n"
        canceller.kill()
    job = record(home, job_id)
    assert (job.status, job.ending) == (JobState.RUNNING, "cancelled")
    return job


@pytest.mark.parametrize("fate", [thorough(leave), kill])
def test_the_end_reason_of_a_killed_canceller_is_carried_out(
    fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server("sleep_long", starts) as (front, job_id):
        (worker,) = started_pids(starts)
        fate(front)
        verdict_of_a_dead_canceller(home, job_id)
        reader = other_manager(home)
        eventually(lambda: reader.blocking.get(job_id).status is JobState.CANCELLED)
        assert lines(starts)[1:] == ["cleaned up"]
        assert identify(worker) is None


@pytest.mark.parametrize("body", ["deaf", thorough("ignore_sigterm")])
def test_an_end_reason_its_worker_ignores_is_carried_out_by_a_reader(body: str, home: Path, tmp_path: Path):
    starts = tmp_path / "starts"
    with server(body, starts) as (front, job_id):
        (worker,) = started_pids(starts)
        kill(front)
        stop(worker)
        verdict_of_a_dead_canceller(home, job_id)
        assert other_manager(home).blocking.get(job_id).status is JobState.CANCELLED
        assert identify(worker) is None


def test_the_end_reason_of_a_live_servers_job_is_left_to_the_server(home: Path):
    with python("-c", "input()") as owner, python("-c", "input()") as worker:
        job = Job(
            new_job_id(),
            "job",
            JobState.RUNNING,
            utc_now(),
            owner=identify(owner.pid),
            worker=identify(worker.pid),
            ending="cancelled",
        )
        FileJobStore(home).create(job)
        assert carry_out_end(FileJobStore(home), job, 0.0) == job
        assert worker.poll() is None
        owner.kill()
        worker.kill()


@pytest.mark.parametrize("fate", [thorough(leave), kill])
def test_two_processes_that_cancel_at_once_are_told_the_same(
    fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts = tmp_path / "starts"
    with server("with_family", starts, "daemon", "deaf") as (front, job_id):
        started_pids(starts)
        fate(front)
        with another_session(home, "cancel", job_id) as one, another_session(home, "cancel", job_id) as other:
            answers = {canceller.communicate(timeout=90)[0] for canceller in (one, other)}
            assert (one.returncode, other.returncode) == (0, 0)
        late = f"Job {job_id} had already ended as cancelled; nothing was cancelled\n"
        assert answers - {late} == {f"Job {job_id} was cancelled; its last process is gone\n"}
        assert lines(starts)[-1] == "cleaned up"
        assert lines(starts).count("cleaned up") == 1


@pytest.mark.parametrize("fate", [thorough(leave), kill])
def test_a_body_may_cancel_its_own_job(
    fate: Callable[[subprocess.Popen[str]], None], home: Path, tmp_path: Path
):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    with server("cancel_itself", starts, gate) as (front, job_id):
        (worker,) = started_pids(starts)
        fate(front)
        gate.touch()
        reader = other_manager(home)
        eventually(lambda: reader.blocking.get(job_id).status is JobState.CANCELLED)
        assert lines(starts)[1:] == ["cleaned up"]
        assert identify(worker) is None


# ---- whom it spares


def test_neighbours_on_the_same_server_notice_nothing(home: Path, tmp_path: Path):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    with server("two_at_once", starts, gate) as (_, job_id):
        (doomed,) = started_pids(starts)
        (neighbour_id,) = [job.id for job in FileJobStore(home).list()[0] if job.id != job_id]
        before = worker_of(home, neighbour_id)
        cancelled_from_another_session(home, job_id)
        assert identify(doomed) is None
        assert record(home, neighbour_id).worker == before
        gate.touch()
        eventually(lambda: record(home, neighbour_id).status is JobState.COMPLETED)
        assert lines(tmp_path / "starts-neighbour") == ["started"]


class Moody(FileJobStore):
    """A store that can be told to fail for one job."""

    fails = ""

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        if job_id == self.fails:
            raise StoreError("no space left")
        return super().update(job_id, change)


async def test_cancelling_a_job_with_an_unwritten_end_spares_the_next_one(home: Path, tmp_path: Path):
    store = Moody(home)
    async with manager(store, spare_workers=0) as jobs:
        job = await jobs.submit_request(Request(bodies.add, (1,)))
        while (await jobs.get(job.id)).worker is None:
            await asyncio.sleep(0.001)
        store.fails = job.id
        while job.id in jobs._live:
            await asyncio.sleep(0.001)
        starts, gate = tmp_path / "starts", tmp_path / "gate"
        following = asyncio.ensure_future(call(jobs, bodies.count_and_wait, str(starts), str(gate)))
        await asyncio.to_thread(eventually, lambda: lines(starts))
        assert record(home, job.id).status is JobState.RUNNING
        await asyncio.to_thread(cancel_record, FileJobStore(home), job.id, 0.1)
        gate.touch()
        assert await following == "done"


def test_a_job_that_is_queued_on_another_server_never_starts(home: Path, tmp_path: Path):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    limit = {"PYTHON_MCP_MAX_BACKGROUND_JOBS": "1"}
    with server("two_at_once", starts, gate, **limit) as (_, job_id):
        started_pids(starts)
        (waiting,) = [job for job in FileJobStore(home).list()[0] if job.id != job_id]
        assert waiting.status is JobState.PENDING
        cancelled_from_another_session(home, waiting.id)
        cancelled_from_another_session(home, job_id)
        assert record(home, waiting.id).status is JobState.CANCELLED
        assert lines(tmp_path / "starts-neighbour") == []


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
def test_a_job_that_has_ended_keeps_its_true_status(state: JobState, home: Path):
    store, job = FileJobStore(home), Job(new_job_id(), "job", JobState.RUNNING, utc_now())
    store.create(job)
    ended = store.update(job.id, lambda job: job.evolve(status=state, completed_at=utc_now()))
    assert cancel_record(store, job.id, 0.0) == ended


def test_a_process_that_got_the_pid_of_a_dead_worker_is_not_killed(home: Path):
    with python("-c", "input()") as stranger:
        identity = identify(stranger.pid)
        assert identity is not None
        gone = replace(identity, start_ticks=identity.start_ticks - 1)
        job = Job(new_job_id(), "job", JobState.RUNNING, utc_now(), owner=gone, worker=gone)
        store = FileJobStore(home)
        store.create(job)
        assert cancel_record(store, job.id, 0.0).status is JobState.CANCELLED
        assert stranger.poll() is None
        stranger.kill()


def test_a_job_of_another_container_is_left_to_its_server_and_said_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(foreign, "OWNER_GRACE_S", 0.05)
    me = identify(os.getpid())
    assert me is not None
    there = replace(me, pid_namespace="pid:[1]")
    store = FileJobStore(home)
    job = Job(new_job_id(), "job", JobState.RUNNING, utc_now(), owner=there, worker=there)
    store.create(job)
    with pytest.raises(PythonMcpError, match="runs elsewhere"):
        cancel_record(store, job.id, 0.0)
    standing = record(home, job.id)
    assert (standing.status, standing.ending) == (JobState.RUNNING, "cancelled")
