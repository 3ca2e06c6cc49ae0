"""What is left when a program that holds workers ends, in every way it can."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from python_mcp_server.model import Job, JobState
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import eventually, python
from tests.helpers.managers import lines, started_pids

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")
PRELUDE = """
import asyncio, os, sys, time
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies
folder = sys.argv[1]
async def hand_over(jobs):
    await jobs.run(Request(bodies.pid), budget_s=60)
    request = Request(bodies.count_and_wait, (folder + "/kept", folder + "/gate"))
    result = await jobs.run(request, budget_s=0.1)
    assert result.handed_over and result.status == "running", result
    return result.job_id
async def call(jobs):
    asyncio.ensure_future(jobs.run(Request(bodies.sleep_long, (folder + "/call",)), budget_s=60))
    while not (os.path.exists(folder + "/call") and os.path.getsize(folder + "/call")):
        await asyncio.sleep(0.01)
"""
MAIN = """
async def main():
    jobs = JobManager()
    print(await hand_over(jobs), flush=True)
    await call(jobs)
"""
RUN = "\nasyncio.run(main())"
ENDS = {
    "with close": f"{MAIN}    await jobs.close(){RUN}",
    "without close": f"{MAIN}{RUN}",
    "by sys.exit": f"{MAIN}    sys.exit(0){RUN}",
}
WAITS = f"{MAIN}    {{extra}}\n    await asyncio.sleep(60){RUN}"
FORK = "os.fork() or (time.sleep(5), os._exit(0))  # holds the pipes for a while"


def program(code: str, folder: Path) -> subprocess.Popen[str]:
    return python("-c", PRELUDE + code, folder)


def test_only_the_first_start_of_a_worker_adds_exit_hooks(tmp_path: Path):
    starts = """
import inspect, os, threading
from pathlib import Path
from python_mcp_server.pool.process import WorkerProcess
hooks = []
def name_of(hook):  # from Python 3.14 on they are functions around the given one
    func = hook.func if hasattr(hook, "func") else inspect.getclosurevars(hook).nonlocals["func"]
    return func.__qualname__
for name in "abc":
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    WorkerProcess(folder).orphan()
    hooks.append([name_of(hook) for hook in threading._threading_atexits])
assert hooks[0] == hooks[1] == hooks[2], hooks
print(hooks[0][-3:])
"""
    with program(starts, tmp_path) as ended:
        out, errors = ended.communicate(timeout=60)
    assert (out, errors) == ("['_Exit._orphan_all', '_python_exit', '_Exit._orphan_all']\n", "")


def test_an_end_right_after_a_start_ends_the_worker(tmp_path: Path):
    code = """
import contextlib
from pathlib import Path
from python_mcp_server.pool import process
starting = process._exit.starting
@contextlib.contextmanager
def then_end(executor):
    with starting(executor):
        yield
    process._exit._orphan_all()  # as another thread's hook does at the end of the interpreter
process._exit.starting = then_end
worker = process.WorkerProcess(Path(sys.argv[1]))
print(worker.pid, worker.exit_code(60), flush=True)
"""
    with program(code, tmp_path) as ended:
        out, errors = ended.communicate(timeout=60)
    assert (out.split()[1:], errors) == ([str(-signal.SIGKILL)], "")


def semaphores() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def kept_job_ends(home: Path, folder: Path, job_id: str) -> Job:
    """Let the kept body end, and return its job once it is terminal and its worker is gone."""
    (folder / "gate").touch()

    def look() -> Job | None:
        job = FileJobStore(home).get(job_id)
        assert job is not None
        assert job.worker is not None
        return job if job.status.terminal and identify(job.worker.pid) is None else None

    return eventually(look)


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_leaves_its_kept_job_and_nothing_else(end: str, tmp_path: Path, home: Path):
    with program(ENDS[end], tmp_path) as ended:
        out, errors = ended.communicate(timeout=60)
    assert (ended.returncode, errors) == (0, "")
    (called,) = started_pids(tmp_path / "call")
    eventually(lambda: identify(called) is None)
    job = kept_job_ends(home, tmp_path, out.strip())
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert lines(tmp_path / "kept") == ["started"]
    eventually(lambda: not list((home / "lanes").glob("*")) if (home / "lanes").exists() else True)


@pytest.mark.parametrize("extra", ["pass", FORK])
def test_the_kept_job_of_a_killed_server_ends_and_is_recorded(extra: str, tmp_path: Path, home: Path):
    before = semaphores()
    with program(WAITS.format(extra=extra), tmp_path) as front:
        assert front.stdout is not None
        job_id = front.stdout.readline().strip()
        (called,) = started_pids(tmp_path / "call")
        os.kill(front.pid, signal.SIGKILL)
        front.wait(30)
        eventually(lambda: identify(called) is None)
        job = kept_job_ends(home, tmp_path, job_id)
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert lines(tmp_path / "kept") == ["started"]
    eventually(lambda: not [name for name in semaphores() - before if f"-{front.pid}-" in name])
