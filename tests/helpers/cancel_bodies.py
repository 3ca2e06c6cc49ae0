"""Bodies to be cancelled, each hard to end in its own way, and a server that runs one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job
from python_mcp_server.processes import JOB_VARIABLE, kill_tree
from python_mcp_server.smart_async import cancel_job
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
    job = await jobs.submit(Request(run, arguments))
    if body == "two_at_once":
        starts, gate = arguments
        await asyncio.to_thread(eventually, Path(starts).exists)
        await jobs.submit(Request(bodies.count_and_wait, (f"{starts}-neighbour", gate)))
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
