"""Semaphores have names, and a name outlives its processes: nobody may be left who would remove it."""

from __future__ import annotations

import os
import signal
import sys
from _multiprocessing import SemLock, sem_unlink
from dataclasses import replace
from multiprocessing import util
from pathlib import Path
from typing import Any

import psutil
import pytest
from loky.backend import resource_tracker

from python_mcp_server.pool import start
from python_mcp_server.pool.process import WorkerProcess
from python_mcp_server.processes import identify
from tests.helpers.programs import python, run_python
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere semaphores are no files")

STARTING = """
import asyncio, time
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import AsyncJob

async def main():
    async with JobManager() as manager:
        for _ in range(3):
            await manager.submit(AsyncJob(time.sleep, (30,)))
        print("submitted", flush=True)
        await asyncio.sleep(30)

asyncio.run(main())
"""


def left_by(pid: int) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"sem.python-mcp-{pid}-*")]


def kill_group_while_workers_start() -> int:
    """Kill a program with its group, tracker and all, and return its pid."""
    with python("-c", STARTING, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "submitted\n"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.pid


def test_the_next_program_removes_the_semaphores_of_a_group_that_was_killed_while_its_workers_started():
    killed = kill_group_while_workers_start()
    done = run_python(
        "-c",
        """
import asyncio, os, time
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
async def main():
    async with JobManager() as manager:
        await manager.run(Request(time.time), budget_s=60)
asyncio.run(main())
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert left_by(killed) == []


def test_the_semaphores_of_living_processes_and_of_other_programs_stay(tmp_path: Path):
    """Those of a process that lives, of a process in another PID namespace, and of no process of ours."""
    own = identify(os.getpid())
    assert own is not None
    another = replace(own, pid_namespace="pid:[1]", pid=2**22 + 1)
    stay = [f"{start.prefix(own)}-0a", f"{start.prefix(another)}-0b", "/loky-4194305-abc"]
    gone = f"{start.prefix(replace(own, start_ticks=1))}-0c"
    made = [SemLock(1, 1, 1, name, False) for name in (*stay, gone)]
    try:
        assert start.sweep() >= 1
        names = {path.name.removeprefix("sem.") for path in Path("/dev/shm").glob("sem.*")}
        assert {name[1:] for name in stay} <= names
        assert gone[1:] not in names
    finally:
        for name in stay:
            sem_unlink(name)
    assert len(made) == 4


def test_a_name_is_reported_once_though_its_semaphore_goes_in_the_same_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reported: list[str] = []
    monkeypatch.setattr(resource_tracker, "unregister", lambda name, _kind: reported.append(name))
    executor = WorkerProcess(tmp_path)
    assert executor.server_pipes.up._reader.poll(60), "ready: by now it has opened them"
    names = sorted(executor._context.names)
    registry: dict[Any, Any] = vars(util)["_finalizer_registry"]
    gone = [one for one in registry.values() if one._args and one._args[0] in names[::2]]
    for finalizer in gone:
        finalizer()
    executor.forget_semaphores()
    executor.orphan()
    assert names
    assert sorted(reported) == names
    eventually(lambda: executor.exit_code(0.1) is not None or not psutil.pid_exists(executor.pid))
