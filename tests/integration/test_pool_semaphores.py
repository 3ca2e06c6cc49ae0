"""Semaphores have names, and a name outlives its processes: nobody may be left who would remove it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

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
