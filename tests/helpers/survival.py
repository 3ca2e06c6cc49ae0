"""Servers that are killed, and bodies that outlive them. `server` starts one, `serve` is what it runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from python_mcp_server import current_job, report_progress
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job
from python_mcp_server.processes import identify
from tests.helpers import bodies, question_bodies
from tests.helpers.programs import environment, python
from tests.helpers.stores import store_of
from tests.helpers.waiting import eventually

BLOCK_BYTES = 60_000_000


# ---- bodies: each waits for files in its folder


def await_file(folder: str, name: str) -> None:
    eventually(Path(folder, name).exists, deadline_s=bodies.LIFETIME_S)


def work(folder: str) -> dict[str, int]:
    """Report, print and grow before and after the file `on` exists, and once more before the end."""
    bodies.note(f"{folder}/starts", f"started {os.getpid()}")
    print("before")
    report_progress(1, 3, "begun")
    await_file(folder, "on")
    block = bytearray(BLOCK_BYTES)
    for page in range(0, BLOCK_BYTES, 4096):
        block[page] = 1
    print("between")
    report_progress(2, 3, "grown")
    await_file(folder, "end")
    print("after")
    report_progress(3, 3, "done")
    return {"bytes": len(block)}


def return_after(folder: str, kind: str) -> Any:
    """Return a value of this kind once the file `end` exists."""
    bodies.note(f"{folder}/starts", f"started {os.getpid()}")
    await_file(folder, "end")
    bodies.note(f"{folder}/starts", "ended")
    return {"plain": "done", "large": "x" * 300_000, "opaque": bodies.Opaque(), "trap": Trap()}[kind]


def use_its_folder(folder: str) -> None:
    """Write into the job's own folder, then wait."""
    job = current_job()
    assert job is not None
    (job.folder / "notes").write_text("x")
    bodies.note(f"{folder}/starts", f"started {os.getpid()}")
    await_file(folder, "end")


class Trap:
    """Its own code raises SystemExit."""

    def __repr__(self) -> str:
        sys.exit("no text")


def leave_a_child(folder: str) -> str:
    """Leave a child and a tracker running."""
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=1000)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    bodies.note(f"{folder}/starts", f"started {os.getpid()} {child.pid}")
    await_file(folder, "end")
    return memory.name


# ---- the server


def serve(*calls: list[str]) -> None:
    """Start these bodies in the background, print their ids, and wait to be killed.

    A body before whose name stands `call:` is called within its budget instead. `idle` is the pid of a
    worker that has ended a call, and where nothing else is called, has nothing to do any more.
    """
    asyncio.run(_serve(calls))


async def _serve(calls: tuple[list[str], ...]) -> None:
    jobs = JobManager()
    ids: list[str] = []
    idle = (await jobs.run(Request(bodies.pid), budget_s=60)).value
    waiting: list[Any] = []
    for name, *args in calls:
        if name.startswith("call:"):
            request = Request(_body(name.removeprefix("call:")), tuple(args))
            waiting.append(asyncio.ensure_future(jobs.run(request, budget_s=60)))
        else:
            ids.append((await jobs.submit_request(Request(_body(name), tuple(args)))).id)
    print(json.dumps({"ids": ids, "idle": idle}), flush=True)
    for call in waiting:
        print(json.dumps((await call).value), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await jobs.close()


def _body(name: str) -> Any:
    return globals().get(name) or getattr(question_bodies, name, None) or getattr(bodies, name)


class Server:
    """A server process and the ids that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        said = json.loads(self.line())
        self.ids: list[str] = said["ids"]
        self.idle: int = said["idle"]

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self, *, group: bool = False) -> None:
        """Kill it with SIGKILL, alone or with its process group."""
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def leave(self) -> None:
        """Ask it to exit in an orderly way."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.wait(30) == 0


CODE = "import json, sys; from tests.helpers import survival; survival.serve(*json.loads(sys.argv[1]))"


@contextmanager
def server(*calls: list[str], **settings: str) -> Iterator[Server]:
    """A server that runs these calls, each a body's name and its arguments; it is killed at the end."""
    process = python(
        "-c", CODE, json.dumps(calls), env=environment(**settings), stderr=None, start_new_session=True
    )
    with process:
        try:
            yield Server(process)
        finally:
            if process.poll() is None:
                process.kill()


# ---- what a test looks at


def look(home: Path, job_id: str) -> Job:
    """Return the record, as any other process sees it."""
    job = JobManager(store_of(home)).blocking.get(job_id)
    assert job is not None
    return job


def ended(home: Path, job_id: str, *, deadline_s: float = 30.0) -> Job:
    """Wait until the job has ended and its worker is gone; return its record."""

    def gone() -> Job | None:
        job = look(home, job_id)
        assert job.worker is not None
        return job if job.status.terminal and identify(job.worker.pid) is None else None

    return eventually(gone, deadline_s=deadline_s)
