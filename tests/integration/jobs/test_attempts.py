"""What the attempts of a job leave: their output one after the other, the items of the last, their starts."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.options import JobOptions, Retry
from tests.helpers import eventually
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import LONG_S, lines, manager

AGAIN = Retry(2, wait=0, lost_workers=True)


async def ran(jobs: JobManager, body: Any, *args: Any, isolation: str = "process") -> Job:
    request = Request(body, tuple(map(str, args)), isolation=isolation, options=JobOptions(retry=AGAIN))
    job, timed_out = await jobs.wait((await jobs.submit_request(request)).id, LONG_S)
    assert not timed_out
    assert (job.status, job.result) == (JobState.COMPLETED, "done"), job
    return job


@pytest.mark.parametrize("how", ["raises", "dies", "snoozes"])
async def test_the_output_of_each_attempt_follows_the_one_before(any_home: Path, tmp_path: Path, how: str):
    async with manager() as jobs:
        job = await ran(jobs, fb.print_and_end, tmp_path / "log", how)
        for stream, word in (("stdout", "attempt"), ("stderr", "warning")):
            page = await jobs.output(job.id, stream)
            assert [line for line in page.text.splitlines() if word in line] == [f"{word} 1", f"{word} 2"]
            first = len(f"{word} 1\n")
            assert (await jobs.output(job.id, stream, offset=first)).text.startswith(f"{word} 2\n")
        assert (await jobs.items(job.id)).total == 0


async def test_another_job_of_the_same_worker_has_only_its_own_output(home: Path, tmp_path: Path):
    async with manager(max_background_jobs=1) as jobs:
        first = await ran(jobs, fb.print_and_end, tmp_path / "a", "raises")
        second = await ran(jobs, fb.print_and_end, tmp_path / "b", "raises")
        for job in (first, second):
            assert (await jobs.output(job.id, "stdout")).text == "attempt 1\nattempt 2\n"


@pytest.mark.parametrize("isolation", ["process", "inline"])
async def test_an_attempt_that_emits_nothing_has_no_items_of_another(
    home: Path, tmp_path: Path, isolation: str
):
    async with manager() as jobs:
        job = await ran(jobs, fb.emit_and_fail_once, tmp_path / "log", isolation=isolation)
        page = await jobs.items(job.id)
        assert (page.items, page.total, page.eof) == ([], 0, True)
        assert (await jobs.items(job.id, 1)).eof


async def test_each_attempt_counts_for_the_rate_of_its_kind(home: Path, tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        options = JobOptions(retry=Retry(5, wait=0), rate="2/hour")
        job = await jobs.submit_request(Request(fb.fail_until, (str(log), 5), options=options))
        await asyncio.to_thread(eventually, lambda: len(lines(log)) == 2)

        def message() -> str:
            return jobs.blocking.get(job.id).message or ""

        told = await asyncio.to_thread(eventually, lambda: message() if "rate" in message() else None)
        assert re.fullmatch(r"waiting for its rate: 2 an hour, the next starts in \d+ s", told)
        assert len(lines(log)) == 2
        await jobs.cancel(job.id)
