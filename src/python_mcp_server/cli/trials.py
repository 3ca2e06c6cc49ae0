"""The checks of `doctor` that try something out, each in a home of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from python_mcp_server import processes
from python_mcp_server.cli.client import Server
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.runner.textfile import split_lines
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore

_PATIENCE_S: Final = 60.0
_READ: Final = """
import sys
from pathlib import Path
from python_mcp_server.store.files import FileJobStore
job = FileJobStore(Path(sys.argv[1])).update(sys.argv[2], lambda job: job.evolve(message="read"))
print(job.label)
"""


class Unexpected(Exception):
    """Something worked otherwise than it must; the text says how."""


def share_a_store(home: Path) -> str:
    """Write a job here, change it in another process, and see the change here."""
    store = FileJobStore(home)
    job = Job(new_job_id(), "doctor", JobState.PENDING, utc_now())
    store.create(job)
    command = [sys.executable, "-c", _READ, str(home), job.id]
    other = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if other.returncode != 0:
        last = (split_lines(other.stderr.strip()) or ["no word"])[-1]
        raise Unexpected(f"another process could not use it: {last}")
    found = store.get(job.id)
    store.close()
    if other.stdout.strip() != job.label or found is None or found.message != "read":
        raise Unexpected("what one process writes, another does not see")
    return "two processes share it"


def start_and_kill_a_worker(home: Path) -> str:
    """Run a body in a worker, and kill that."""
    return asyncio.run(asyncio.wait_for(_start_and_kill(home), _PATIENCE_S))


async def _start_and_kill(home: Path) -> str:
    settings = replace(Settings.from_environ(), home=home, cancel_grace_seconds=0.1)
    begin = time.monotonic()
    async with JobManager(settings=settings) as manager:
        answer = await manager.run(Request(os.getpid), budget_s=_PATIENCE_S)
        started_s = time.monotonic() - begin
        job = await manager.submit(Request(time.sleep, (_PATIENCE_S,), label="doctor"))
        worker = await _worker_of(manager, job.id)
        begin = time.monotonic()
        ended = await manager.cancel(job.id)
        killed_s = time.monotonic() - begin
        if answer.value == os.getpid():
            raise Unexpected("a body ran in this process instead of a worker")
        if ended.status is not JobState.CANCELLED or processes.is_alive(worker):
            raise Unexpected(f"a cancelled job is {ended.status.value}, and its worker {worker.pid} is there")
    return f"started and answered in {started_s * 1000:.0f} ms, killed in {killed_s * 1000:.0f} ms"


async def _worker_of(manager: JobManager, job_id: str) -> ProcessIdentity:
    while True:
        worker = (await manager.get(job_id)).worker
        if worker is not None:
            return worker
        await asyncio.sleep(0.01)


def run_a_script_over_stdio(home: Path) -> str:
    """Run a script through a server, as an MCP client does."""
    return asyncio.run(asyncio.wait_for(_run_a_script(home), _PATIENCE_S))


async def _run_a_script(home: Path) -> str:
    begin = time.monotonic()
    async with Server(home).connected() as client:
        arguments = {"directory": str(home), "script_content": "print(6 * 7)"}
        answer = await client.call("py_run_script_in_dir", arguments)
        took_s = time.monotonic() - begin
    if answer.get("stdout") != "42\n":
        raise Unexpected(f"a script that prints 42 answered {answer}")
    return f"a script ran through a server over stdio, {took_s:.1f} s from its start"
