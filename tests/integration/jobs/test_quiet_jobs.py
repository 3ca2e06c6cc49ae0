"""Queued jobs that print nothing take no place on disk; what is printed late is kept all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.pool.protocol import unbegun_note
from tests.helpers import bodies, eventually
from tests.helpers.managers import LONG_S, manager

_LATE = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nprint('late')"


def leave_a_process(gate: str) -> None:
    subprocess.Popen([sys.executable, "-c", _LATE, gate])


def leave_a_thread(gate: str) -> None:
    def print_late() -> None:
        while not os.path.exists(gate):
            time.sleep(0.01)
        print("late", flush=True)

    threading.Thread(target=print_late, daemon=True).start()


async def ended(jobs: JobManager, body: Any, *args: Any) -> Job:
    queued = await jobs.submit_request(Request(body, args))
    job, _ = await jobs.wait(queued.id, LONG_S)
    assert job.status is JobState.COMPLETED, job.error
    return job


async def test_a_short_job_that_prints_nothing_has_no_folder_and_no_note(home: Path):
    async with manager() as jobs:
        quick = await ended(jobs, bodies.pid)
        while jobs.store.folder(quick.id).exists():  # it was kept from its core for 20 ms
            quick = await ended(jobs, bodies.pid)
        assert not os.path.exists(unbegun_note(home, quick.id))


async def test_what_a_short_job_prints_is_kept(home: Path):
    async with manager() as jobs:
        job = await ended(jobs, bodies.say, "a word")
        assert "a word" in (await jobs.output(job.id)).text


@pytest.mark.parametrize("body", [leave_a_process, leave_a_thread])
async def test_what_comes_after_the_end_of_a_body_is_kept_with_its_job(body: Any, tmp_path: Path):
    gate = tmp_path / "gate"
    async with manager(max_background_jobs=1) as jobs:
        job = await ended(jobs, body, str(gate))
        gate.touch()
        await asyncio.to_thread(eventually, lambda: "late" in jobs.blocking.output(job.id).text)


async def test_a_job_that_is_cancelled_while_it_waits_leaves_no_note(home: Path):
    async with manager() as jobs:
        await jobs.queues.pause("default")
        job = await jobs.submit_request(Request(bodies.pid))
        note = Path(unbegun_note(home, job.id))
        note.parent.mkdir(exist_ok=True)
        note.touch()  # as a server leaves it that ended before it wrote that the job runs
        await jobs.cancel(job.id)
        assert not note.exists()
