"""Programs that fork, end at any instant, or remove the home: nothing hangs, and nothing lingers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from python_mcp_server.model import Job, JobState
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.layout import Layout
from python_mcp_server.store.locks import Locks
from tests.helpers import environment, eventually, python, run_python
from tests.helpers.managers import lines
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")
WHO_FORKS = ("-W", "ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
PRELUDE = """
import asyncio, multiprocessing, os, signal, sys, threading, time
import filelock  # its hooks print an error where they are registered during a fork of another thread
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies, host_bodies
"""

BESIDE_FORKS = """
over, children = threading.Event(), []

def fork_on_and_on():
    while not over.wait(0.004):
        children.append(os.fork())
        if children[-1] == 0:
            while True:
                signal.pause()  # holds all that it has a copy of
        if len(children) > 30:
            end(children.pop(0))

def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

async def main(starts):
    threading.Thread(target=fork_on_and_on).start()
    for _ in range(starts):
        began = time.monotonic()
        async with JobManager() as jobs:
            await jobs.run(Request(bodies.pid), budget_s=60)
            print(f"{time.monotonic() - began:.2f}", flush=True)
    over.set()

asyncio.run(main(int(sys.argv[1])))
for child in children:
    end(child)
"""

BESIDE_MULTIPROCESSING = """
def nothing():
    pass

def start_children(count, children):
    fork = multiprocessing.get_context("fork")
    for _ in range(count):
        children.append(fork.Process(target=nothing))
        children[-1].start()
        time.sleep(0.002)

async def main(count):
    children, handed = [], []
    starter = threading.Thread(target=start_children, args=(count, children))
    starter.start()
    calls = 0
    while starter.is_alive():
        async with JobManager() as jobs:  # so that workers start all the time
            added = (jobs.run(Request(bodies.add, (n,)), budget_s=60) for n in range(3))
            values = await asyncio.gather(*added)
            assert [value.value for value in values] == [1, 2, 3], values
            result = await jobs.run(Request(time.sleep, (0.3,)), budget_s=0.1)
            assert result.handed_over, result
            handed.append(result.job_id)
            calls += 3
    starter.join()
    for child in children:
        await asyncio.to_thread(child.join)
    jobs = JobManager()
    for job_id in handed:
        job, _ = await jobs.wait(job_id, 60)
        assert job.status == "completed", job
    await jobs.close()
    print(len(children), {child.exitcode for child in children}, calls > 0, len(handed) > 0)

asyncio.run(main(int(sys.argv[1])))
"""


def test_workers_start_while_another_thread_forks_all_the_time():
    done = run_python(*WHO_FORKS, "-c", PRELUDE + BESIDE_FORKS, "3", deadline_s=120)
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", 3)


@pytest.mark.thorough
def test_many_workers_start_while_another_thread_forks_all_the_time():
    done = run_python(*WHO_FORKS, "-c", PRELUDE + BESIDE_FORKS, "25", deadline_s=300)
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", 25)


@pytest.mark.parametrize("count", [40, thorough(300)])
def test_children_of_multiprocessing_end_and_cost_no_call(count: int):
    done = run_python("-c", PRELUDE + BESIDE_MULTIPROCESSING, str(count), deadline_s=300)
    assert (done.returncode, done.stdout) == (0, f"{count} {{0}} True True\n"), done.stderr


FORKS_BESIDE_ITS_LOOP = """
def use_it():
    from python_mcp_server.smart_async import get_job_status, list_jobs
    assert "error" in get_job_status("nobody")
    assert list_jobs()["jobs"], "those of its parent"

async def calls():
    jobs = JobManager()
    while not over.is_set():
        results = await asyncio.gather(
            *(jobs.run(Request(host_bodies.sleep_and_return, (0.2,)), budget_s=60) for _ in range(3)),
            jobs.run(Request(time.sleep, (0.5,)), budget_s=0.1),
        )
        assert [result.value for result in results[:3]] == ["done"] * 3, results
        handed.append((await jobs.wait(results[3].job_id, 60))[0].status.value)
        begun.set()
        await jobs.close()
        jobs = JobManager()

over, begun, handed = threading.Event(), threading.Event(), []
thread = threading.Thread(target=lambda: asyncio.run(calls()))
thread.start()
begun.wait()
for n in range(int(sys.argv[1])):
    if (child := os.fork()) == 0:
        if n % 5 == 0:
            use_it()
        sys.exit(n)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == n
over.set()
thread.join()
print(set(handed))
"""


@pytest.mark.parametrize("count", [6, thorough(20)])
def test_children_forked_beside_the_loop_end_and_harm_nothing(count: int):
    """Each ends as a program does, hooks and finalizers and all, at any instant of starts and hand-offs."""
    done = run_python(*WHO_FORKS, "-c", PRELUDE + FORKS_BESIDE_ITS_LOOP, str(count), deadline_s=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'completed'}\n", "")


ENDS = {
    "the end of the main thread": "pass",
    "sys.exit": "sys.exit(0)",
    "an exception": "raise SystemExit(0)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGINT": "signal.raise_signal(signal.SIGINT)",
}
ENDING = """
import logging
logging.disable()
after, way = float(sys.argv[1]), sys.argv[2]

async def calls(jobs):
    await asyncio.gather(*(jobs.run(Request(bodies.add, (n,)), budget_s=0.3) for n in range(6)))
    await jobs.run(Request(time.sleep, (1,)), budget_s=0.1)
    await asyncio.sleep(60)

async def main():
    jobs = JobManager()
    running = asyncio.ensure_future(calls(jobs))
    await asyncio.sleep(after)
    if way == "close":
        try:
            await jobs.close(at_most_s=0.02)
        except TimeoutError:
            pass
    {end}

if way == "left":  # a loop that nobody shuts down
    loop = asyncio.new_event_loop()
    task = loop.create_task(calls(JobManager()))
    loop.run_until_complete(asyncio.sleep(after))
    {end}
else:
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
"""


def end_after(seconds: float, way: str, end: str) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + ENDING.replace("    {end}", f"    {ENDS[end]}")
    return run_python("-c", program, str(seconds), way, deadline_s=60)


@pytest.mark.parametrize("way", ["run", "close", "left"])
@pytest.mark.parametrize(("end", "after"), [("the end of the main thread", 0.1), ("SIGINT", 0.02)])
def test_a_program_ends_while_its_workers_start(way: str, end: str, after: float):
    done = end_after(after, way, end)
    assert done.returncode in (0, 1, -signal.SIGINT), done  # the others are of a KeyboardInterrupt


KILLED_IN_A_START = (
    PRELUDE
    + """
import shutil
from python_mcp_server.pool import start
fork = start.fork_exec

def fork_and_die(*arguments, **options):
    fork(*arguments, **options)
    {first}
    os.kill(os.getpid(), signal.SIGKILL)

start.fork_exec = fork_and_die

async def main():
    async with JobManager() as jobs:
        await jobs.run(Request(bodies.pid), budget_s=60)

asyncio.run(main())
"""
)


@pytest.mark.parametrize(
    "first",
    [
        "pass",
        "shutil.rmtree(os.environ['PYTHON_MCP_HOME'])",
    ],
)
def test_a_worker_whose_program_dies_in_its_start_leaves_silently(first: str, home: Path):
    done = run_python("-c", KILLED_IN_A_START.format(first=first))
    assert done.returncode == -signal.SIGKILL
    said = done.stdout + done.stderr  # whole: the worker holds both until it has left
    assert "Traceback" not in said


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(10))
def test_a_program_may_end_at_any_instant(seed: int):
    dice = random.Random(seed)
    for _ in range(5):
        after, way = dice.uniform(0.0, 0.8), dice.choice(["run", "close", "left"])
        end_after(after, way, dice.choice(list(ENDS)))  # the fixture looks for what is left


KEEPS = """
async def main():
    jobs = JobManager()
    kept = await jobs.run(Request(getattr(host_bodies, sys.argv[1]), (sys.argv[2],)), budget_s=0.1)
    print(kept.job_id, flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@contextmanager
def kept_job(body: str, folder: Path, home: Path, **settings: str) -> Iterator[tuple[str, psutil.Process]]:
    """A job whose server has ended; its id, and its worker."""
    with python("-c", PRELUDE + KEEPS, body, str(folder), env=environment(**settings)) as program:
        assert program.stdout is not None
        job_id = program.stdout.readline().strip()
        eventually(lambda: lines(folder / "starts"))
        program.communicate("\n", timeout=60)
    job = FileJobStore(home).get(job_id)
    assert job is not None
    assert job.worker is not None
    worker = psutil.Process(job.worker.pid)
    try:
        yield job_id, worker
    finally:
        if worker.is_running():
            worker.kill()


def is_gone(worker: psutil.Process) -> bool:
    return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("what", ["the home", "the store"])
def test_a_worker_whose_home_or_store_was_removed_leaves_after_its_body(
    what: str, home: Path, tmp_path: Path
):
    with kept_job("wait_for_gate", tmp_path, home) as (_, worker):
        removed = home if what == "the home" else home / "jobs"
        shutil.rmtree(removed, ignore_errors=True)  # the worker may just write there
        (tmp_path / "gate").touch()
        eventually(lambda: is_gone(worker))
        assert lines(tmp_path / "starts") == ["started", "ended"]


@pytest.mark.parametrize("body", ["wait_for_gate", "wait_in_c", "swallow_every_cancel"])
def test_sigterm_ends_a_worker_without_a_server_whatever_its_body_does(body: str, home: Path, tmp_path: Path):
    with kept_job(body, tmp_path, home) as (job_id, worker):
        worker.terminate()
        eventually(lambda: is_gone(worker))

        def ended() -> Job | None:
            from python_mcp_server.jobs.manager import JobManager

            job = JobManager().blocking.get(job_id)
            return job if job.status.terminal else None

        status = eventually(ended).status
    assert status in (JobState.CANCELLED, JobState.FAILED)


def test_sigterm_ends_a_worker_that_cannot_write_the_end_of_its_job(home: Path, tmp_path: Path):
    layout = Layout(str(home))
    quick = {"PYTHON_MCP_LOCK_SECONDS": "0.1"}
    with (
        kept_job("wait_for_gate", tmp_path, home, **quick) as (job_id, worker),
        Locks(layout.locks, str(home), 30).hold(layout.stripe(job_id)),
    ):
        (tmp_path / "gate").touch()
        eventually(lambda: len(lines(tmp_path / "starts")) == 2)
        eventually(lambda: "will be written later" in said(home, job_id))
        assert worker.is_running(), "it tries again as long as nobody ends it"
        worker.send_signal(signal.SIGTERM)
        eventually(lambda: is_gone(worker))


def said(home: Path, job_id: str) -> str:
    file = FileJobStore(home).folder(job_id) / "stderr"
    return file.read_text() if file.exists() else ""


def test_sigterm_ends_a_worker_under_a_server_whose_body_swallows_it(home: Path, tmp_path: Path):
    program = """
async def main():
    jobs = JobManager()
    request = Request(host_bodies.swallow_every_cancel, (sys.argv[1],))
    call = asyncio.ensure_future(jobs.run(request, budget_s=60))
    while not os.path.exists(sys.argv[1] + "/pid"):
        await asyncio.sleep(0.01)
    os.kill(int(open(sys.argv[1] + "/pid").read()), signal.SIGTERM)
    try:
        await call
    except BaseException as error:
        print(type(error).__name__)

asyncio.run(main())
"""
    done = run_python("-c", PRELUDE + program, str(tmp_path), deadline_s=120)
    assert done.stdout in ("WorkerDied\n", "JobCancelled\n"), done.stderr
