"""What the job tools remember between two calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import AsyncJob
from python_mcp_server.model import Job, JobState
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


async def test_a_list_is_bounded_in_jobs_and_in_characters(home: Path):
    async with JobManager() as manager:
        tools = JobTools(manager)
        with pytest.raises(InvalidInput, match="limit is 1001; it must be 1 to 1000"):
            await tools.list_jobs(limit=1001)
        manager.store.create(a_job(JobState.FAILED).evolve(error="e" * 2_000_000))
        told = (await tools.list_jobs(limit=1000)).structured_content or {}
        assert (told["total"], told["more"]) == (1, False)
        assert told["jobs"][0]["error"] == "e" * 1_999 + "…"
        for _ in range(300):
            manager.store.create(a_job(JobState.FAILED).evolve(error="e" * 1_900))
        told = (await tools.list_jobs(limit=1000)).structured_content or {}
        assert len(json.dumps(told)) + len(json.dumps(told, indent=2)) <= 1_000_000
        assert 100 < told["total"] == len(told["jobs"]) < 300
        assert told["more"] is True
    manager.store.close()


async def test_a_long_label_is_refused_and_cut_in_older_records(home: Path):
    with pytest.raises(InvalidInput, match="label has 201 characters; it may have 200"):
        AsyncJob(print, label="a" * 201)
    record = a_job(JobState.FAILED).to_record() | {"label": "a" * 5_000}
    assert Job.from_record(record).label == "a" * 199 + "…"
