"""The event loop looks at no file for a call or a reading: a slow disk would keep all others waiting."""

from __future__ import annotations

import os
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.limits import Limits
from python_mcp_server.server.resources import JobResources
from tests.helpers import bodies
from tests.helpers.managers import LONG_S, manager

LOOKS = ("stat", "lstat", "scandir", "readlink", "open", "mkdir", "utime")


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the thread of the test, which is that of its loop, looks at files."""
    found: list[str] = []
    own = threading.get_ident()
    for name in LOOKS:
        monkeypatch.setattr(os, name, _noting(getattr(os, name), own, found))
    return found


def _noting(function: Any, own: int, found: list[str]) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == own:
            frames = list(traceback.walk_stack(None))[:8]  # their source would be looked up in files
            found.append(" < ".join(f"{frame.f_code.co_filename}:{line}" for frame, line in frames))
        return function(*args, **kwargs)

    return noting


async def ended(made: JobManager, limits: Limits | None = None) -> str:
    """Run a body as a job and return its id."""
    job = await made.submit_request(Request(bodies.add, (1, 2), {}, limits=limits))
    job, timed_out = await made.wait(job.id, LONG_S)
    assert not timed_out
    return job.id


@pytest.mark.parametrize("limits", [Limits(timeout_seconds=60), Limits(memory_limit_mb=2_000)])
async def test_limits_but_that_of_the_disk_cost_no_look_at_files(
    limits: Limits, home: Path, looked: list[str]
):
    async with manager() as made:
        await ended(made, limits)
        looked.clear()  # what is loaded at first
        request = Request(bodies.add, (1, 2), {}, limits=limits)
        assert (await made.run(request, budget_s=LONG_S)).value == 3
        assert looked == []


async def test_reading_a_jobs_resources_looks_at_no_file_on_the_loop(home: Path, looked: list[str]):
    async with manager() as made:
        resources = JobResources(made)
        job_id = await ended(made)
        await resources.stdout(job_id)
        looked.clear()
        await resources.stdout(job_id)
        await resources.stderr(job_id)
        await resources.job(job_id)
        assert looked == []
