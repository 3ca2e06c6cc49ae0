"""Programs that end in parts, and programs that lack what others have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from python_mcp_server.model import JobState
from python_mcp_server.store.files import FileJobStore
from tests.helpers import environment, eventually, python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")
PRELUDE = """
import asyncio, concurrent.futures.thread, os, sys, threading, time
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies
folder = sys.argv[1]
wait = Request(bodies.count_and_wait, (folder + "/starts", folder + "/gate"))
"""
LOOP_ENDS = """
async def main():
    jobs = JobManager()
    await jobs.run(Request(bodies.pid), budget_s=60)
    result = await jobs.run(wait, budget_s=0.1)
    assert result.handed_over, result
    child = os.fork() or time.sleep(60) or os._exit(0)  # holds the wires
    print(result.job_id, child, flush=True)
asyncio.run(main())
input()
"""
MAIN_THREAD_ENDS = """
async def main():
    jobs = JobManager()
    call = asyncio.ensure_future(jobs.run(wait, budget_s=60))
    while not (os.path.exists(folder + "/starts") and os.path.getsize(folder + "/starts")):
        await asyncio.sleep(0.01)
    started.set()
    while not concurrent.futures.thread._shutdown:  # set once the interpreter has begun to end
        await asyncio.sleep(0.01)
    open(folder + "/gate", "w").close()
    print((await call).value, flush=True)
started = threading.Event()
threading.Thread(target=lambda: asyncio.run(main())).start()
started.wait()
"""
LACKS_EVERYTHING = """
async def main():
    jobs = JobManager()
    result = await jobs.run(Request(bodies.add, (1,)), budget_s=60)
    job = await jobs.submit_request(Request(bodies.say, ("it runs",)))
    job, _ = await jobs.wait(job.id, 60)
    said = await jobs.output(job.id, "stdout")
    with open(folder + "/answer", "w") as file:
        file.write(f"{result.value} {job.status} {said.text}")
assert sys.stdout is None
os.makedirs(folder + "/gone")
os.chdir(folder + "/gone")
os.rmdir(folder + "/gone")
asyncio.run(main())
"""


def test_a_kept_job_is_committed_while_program_and_forked_child_live(tmp_path: Path, home: Path):
    with python("-c", PRELUDE + LOOP_ENDS, tmp_path) as front:
        assert front.stdout is not None
        job_id, child = front.stdout.readline().split()
        (tmp_path / "gate").touch()
        store = FileJobStore(home)
        job = eventually(lambda: (job := store.get(job_id)) and (job if job.status.terminal else None))
        assert job.status is JobState.COMPLETED
        assert job.worker is not None
        worker = job.worker.pid
        eventually(lambda: not psutil.pid_exists(worker))  # reaped too
        psutil.Process(int(child)).kill()
        front.communicate("\n", timeout=60)
    assert front.returncode == 0


def test_a_call_in_a_thread_ends_after_the_main_thread_has_ended(tmp_path: Path):
    env = environment(PYTHON_MCP_RECORD_AFTER_SECONDS="600")
    with python("-c", PRELUDE + MAIN_THREAD_ENDS, tmp_path, env=env) as front:
        out, errors = front.communicate(timeout=60)
    assert (front.returncode, out, errors) == (0, "done\n", "")


def test_a_program_without_output_or_directory_gets_its_results(tmp_path: Path):
    env = environment(PYTHON_MCP_HOME=f"{tmp_path}/odd\udcff home")
    command = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable]
    done = subprocess.run(
        # -P: Python 3.13.0 fails at every missing attribute where the directory it searches first is gone
        [*command, "-P", "-c", PRELUDE + LACKS_EVERYTHING, tmp_path],
        env=env,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "answer").read_text() == "2 completed it runs\n"
