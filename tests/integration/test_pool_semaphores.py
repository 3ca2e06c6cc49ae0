"""Semaphores have names, and a name outlives its processes: nobody may be left who would remove it."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import util
from pathlib import Path
from typing import Any

import psutil
import pytest
from loky.backend import resource_tracker

from python_mcp_server.pool.executor import LaneExecutor
from tests.helpers.programs import python
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


def test_a_group_that_is_killed_while_its_workers_start_leaves_no_semaphore(home: Path):
    with python("-c", STARTING, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "submitted\n"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    eventually(lambda: not list(Path("/dev/shm").glob(f"sem.loky-{process.pid}-*")))


def test_a_name_is_reported_once_though_its_semaphore_goes_in_the_same_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reported: list[str] = []
    monkeypatch.setattr(resource_tracker, "unregister", lambda name, _kind: reported.append(name))
    executor = LaneExecutor(tmp_path)
    assert executor.front.up._reader.poll(60), "ready: by now it has opened them"
    names = sorted(executor._context.names)
    registry: dict[Any, Any] = vars(util)["_finalizer_registry"]
    gone = [one for one in registry.values() if one._args and one._args[0] in names[::2]]
    for finalizer in gone:
        finalizer()
    executor.forget_semaphores()
    executor.release()
    assert names
    assert sorted(reported) == names
    eventually(lambda: executor.exit_code(0.1) is not None or not psutil.pid_exists(executor.pid))
