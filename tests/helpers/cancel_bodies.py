"""Bodies to be cancelled, each hard to end in its own way, and a server that runs one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from python_mcp_server import context, create_progress_callback, current_job, report_progress, request_input
from python_mcp_server.body_context import BodyContext
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.context import JobContext
from python_mcp_server.errors import AnswerTimeout
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job
from python_mcp_server.processes import JOB_VARIABLE, kill_tree
from python_mcp_server.smart_async import cancel_job, get_job_status
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, environment, eventually, python
from tests.helpers.bodies import LIFETIME_S, note

GRACE: Final = {"PYTHON_MCP_CANCEL_GRACE_SECONDS": str(LIFETIME_S)}
"""A long grace, so that a cancelled body can clean up however busy the machine is."""

FAMILY: Final = Path(__file__).with_name("family.py")


def with_family(starts: str, *kinds: str) -> None:
    """Start `family.py` with these kinds of children, note its lines too, and wait."""
    with open(starts, "a", encoding="utf-8") as out:
        child = subprocess.Popen([sys.executable, FAMILY, *kinds], stdout=out)
    expected = len(kinds) + 1 + kinds.count("session")
    eventually(lambda: len(Path(starts).read_text("utf-8").splitlines()) == expected)
    note(starts, f"started {os.getpid()} {child.pid}")
    try:
        time.sleep(LIFETIME_S)
    finally:
        note(starts, "cleaned up")


def leave_hidden(starts: str) -> int:
    """Leave a daemon that has cleared its environment, and return its pid."""
    with open(starts, "w", encoding="utf-8") as out:
        child = subprocess.Popen([sys.executable, FAMILY, "hidden"], stdout=out)
    said = eventually(
        lambda: [line for line in Path(starts).read_text("utf-8").splitlines() if line.startswith("hidden ")]
    )
    child.kill()
    child.wait()
    return int(said[0].split()[1])


def two_at_once(starts: str, _gate: str) -> None:
    """Note the start and wait to be cancelled; `serve` starts a neighbour that waits for the gate."""
    bodies.sleep_long(starts)


def hold_lock(starts: str) -> None:
    """Block for ever while holding the lock of the job's own record."""

    def stop(job: Job) -> Job:
        note(starts, f"started {os.getpid()}")
        os.kill(os.getpid(), signal.SIGSTOP)
        return job

    FileJobStore(Path(os.environ["PYTHON_MCP_HOME"])).update(os.environ[JOB_VARIABLE], stop)


def hold_lock_in_child(starts: str) -> None:
    """Call `hold_lock` in a child, and wait for the child."""
    code = f"from tests.helpers.cancel_bodies import hold_lock; hold_lock({starts!r})"
    subprocess.run([sys.executable, "-c", code], check=False)


def cancel_itself(starts: str, gate: str) -> None:
    """Cancel this body's own job once the file `gate` exists."""
    note(starts, f"started {os.getpid()}")
    eventually(Path(gate).exists)
    try:
        cancel_job(os.environ[JOB_VARIABLE])
    finally:
        note(starts, "cleaned up")
    note(starts, "went on")


def count_cancels(starts: str) -> None:
    """Catch every cancel, note it, and go on."""
    note(starts, f"started {os.getpid()}")
    while True:
        try:
            time.sleep(LIFETIME_S)
        except JobCancelled:
            note(starts, "heard")


def ask() -> None:
    with suppress(AnswerTimeout):
        request_input("Go on?", timeout_seconds=0.001)


STEPS: Final[dict[str, Callable[[], object]]] = {
    "report": lambda: report_progress(1),
    "callback": lambda: create_progress_callback()(1, 2, "half"),
    "job": current_job,
    "folder": lambda: present_job().folder,
    "status": lambda: get_job_status(present_job().id),
    "ask": ask,
    "print": lambda: print("line"),
    "sleep": lambda: time.sleep(0),
}


def present_job() -> JobContext:
    job = current_job()
    assert job is not None
    return job


def repeat(starts: str, step: str) -> None:
    """Take one step all the time, also while cleaning up: the cancel comes once."""
    note(starts, f"started {os.getpid()}")
    try:
        while True:
            STEPS[step]()
    finally:
        if step != "ask":  # whose question would be refused
            STEPS[step]()
        note(starts, "cleaned up")


def hear_within_our_code(starts: str) -> None:
    """Let the cancel come in the middle of our code, and no second signal afterwards."""
    heard: list[int] = []
    handler: Any = signal.getsignal(signal.SIGTERM)

    def hear(number: int, frame: FrameType | None) -> None:
        handler(number, frame)
        heard.append(number)

    def be_slow(_path: str) -> None:
        note(starts, f"started {os.getpid()}")
        eventually(lambda: heard, deadline_s=LIFETIME_S)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGTERM, hear)
    module: Any = context
    module.make_directory = be_slow
    try:
        assert present_job().folder.is_absolute()
        note(starts, "went on")
    finally:
        note(starts, "cleaned up")


async def repeat_async(starts: str, step: str) -> None:
    """Do as `repeat`, without ever letting the loop turn until the cancel is there."""
    job = BodyContext()
    steps = {"report": partial(job.report_progress, 1), "info": partial(job.info, "line")}
    note(starts, f"started {os.getpid()}")
    try:
        while True:
            await steps[step]()
            report_progress(1)
    finally:
        await asyncio.sleep(0)
        await steps[step]()
        note(starts, "cleaned up")


def grow(size: int, gate: str) -> int:
    """Hold this much memory until the file `gate` exists, then free it."""
    block = b"x" * size
    eventually(Path(gate).exists, deadline_s=LIFETIME_S)
    return len(block)


async def loop_of_this_worker() -> tuple[int, int]:
    await asyncio.sleep(0)
    return os.getpid(), id(asyncio.get_running_loop())


async def serve(body: str, *arguments: str) -> None:
    """Run this body in the background, print the job's id, and wait; block when stdin says so."""
    jobs = JobManager()
    run = globals().get(body) or getattr(bodies, body)
    job = await jobs.submit_request(Request(run, arguments))
    if body == "two_at_once":
        starts, gate = arguments
        await asyncio.to_thread(eventually, Path(starts).exists)
        await jobs.submit_request(Request(bodies.count_and_wait, (f"{starts}-neighbour", gate)))
    print(job.id, flush=True)
    if await asyncio.to_thread(sys.stdin.readline) == "be busy\n":
        print("busy", flush=True)
        time.sleep(LIFETIME_S)  # noqa: ASYNC251  that is what a busy loop is


@contextmanager
def server(body: str, *arguments: str | Path, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own that runs this body, and the job's id. The server is killed
    at the end, and so are the job and all that belongs to it."""
    imports = "import asyncio, sys; from tests.helpers.cancel_bodies import serve"
    code = f"{imports}; asyncio.run(serve(*sys.argv[1:]))"
    with python("-c", code, body, *arguments, env=environment(**GRACE, **env)) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        try:
            yield process, job_id
        finally:
            record = FileJobStore(Path(os.environ["PYTHON_MCP_HOME"])).get(job_id)
            process.kill()
            if record is not None and record.worker is not None:
                kill_tree(record.worker, job_id=job_id)
