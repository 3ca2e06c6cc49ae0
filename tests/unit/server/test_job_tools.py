"""What the job tools remember between two calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp_types import TextContent

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, Usage
from python_mcp_server.server import job_tools
from python_mcp_server.server.job_tools import JobTools
from tests.helpers.records import a_job


async def test_reading_positions_are_bounded_and_the_newest_stay(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_tools, "_READ_STREAMS", 4)  # those of two jobs
    async with JobManager() as manager:
        tools = JobTools(manager)

        async def news(job_id: str) -> str:
            answer = await tools.job_status(job_id, incremental=True)
            return (answer.structured_content or {})["new_stdout"]

        first, second, third = jobs = [a_job(JobState.PENDING) for _ in range(3)]
        for job in jobs:
            manager.store.create(job)
            folder = manager.store.folder(job.id)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "stdout").write_text("printed\n")
        asked = [first, second, first, third, first, third, second]
        told = [await news(job.id) for job in asked]
        assert told == ["printed\n", "printed\n", "", "printed\n", "", "", "printed\n"]
    manager.store.close()


async def test_a_list_has_short_rows_and_pages(home: Path):
    async with JobManager() as manager:
        tools = JobTools(manager)

        async def page(**how: Any) -> dict[str, Any]:
            answer = await tools.list_jobs(**how)
            (text,) = answer.content
            assert isinstance(text, TextContent)
            told = json.loads(text.text)
            assert answer.structured_content == told
            assert len(text.text) <= 10_000 * max(1, how.get("limit", 50) // 50)
            return told

        with pytest.raises(InvalidInput, match="limit is 1001; it must be 1 to 1000"):
            await tools.list_jobs(limit=1001)
        manager.store.create(a_job(JobState.FAILED).evolve(error="e" * 2_000_000))
        told = await page()
        assert (told["total"], told["more"]) == (1, False)
        assert told["jobs"][0]["note"] == "e" * 159 + "…"
        for _ in range(120):
            result = {"stdout": "o" * 30_000, "exit_code": 0}
            usage = Usage(peak_rss_bytes=12_345_678)
            job = a_job(JobState.COMPLETED).evolve(result=result, label="train.py --epochs 3", usage=usage)
            manager.store.create(job)
        told = await page()
        assert told["total"] == len(told["jobs"]) == 50
        found = [job["id"] for job in told["jobs"]]
        while told["more"]:
            told = await page(before=told["next_before"])
            found += [job["id"] for job in told["jobs"]]
        assert found == [job.id for job in manager.store.list(limit=1000)[0]]
        assert "next_before" not in told
        with pytest.raises(InvalidInput, match="before is 'x'; it must be the id of a job"):
            await tools.list_jobs(before="x")
    manager.store.close()


async def test_a_long_label_is_refused_and_cut_in_older_records(home: Path):
    with pytest.raises(InvalidInput, match="label has 201 characters; it may have 200"):
        Request(print, label="a" * 201)
    record = a_job(JobState.FAILED).to_record() | {"label": "a" * 5_000}
    assert Job.from_record(record).label == "a" * 199 + "…"
