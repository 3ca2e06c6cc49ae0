"""A program and its workers share no semaphore: no name outlives them, no resource tracker is needed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers import run_python
from tests.helpers.programs import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere semaphores are no files")

STARTING = """
import asyncio, time
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request

async def main():
    async with JobManager() as manager:
        for _ in range(3):
            await manager.run(Request(time.time), budget_s=60)
        print("started", flush=True)
        await asyncio.sleep(30)

asyncio.run(main())
"""


WITHOUT = """
import _multiprocessing
class Refused(_multiprocessing.SemLock):
    def __new__(cls, *arguments):
        raise AssertionError("a semaphore of the system is made")
_multiprocessing.SemLock = Refused
""" + STARTING.replace("await asyncio.sleep(30)", "")


def test_a_start_makes_no_semaphore_of_the_system():
    done = run_python("-c", WITHOUT)
    assert (done.stdout, done.returncode) == ("started\n", 0), done.stderr


def semaphores() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("sem.*")}


def test_a_program_has_no_named_semaphore_and_no_tracker_and_leaves_none():
    before = semaphores()
    with python("-c", STARTING, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        commands = [
            " ".join(child.cmdline()) for child in psutil.Process(process.pid).children(recursive=True)
        ]
        during = semaphores() - before
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert commands
    assert [command for command in commands if "resource_tracker" in command] == []
    assert {name for name in during | (semaphores() - before) if str(process.pid) in name} == set()
