"""What the job tools remember between two calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import JobState
from python_mcp_server.server import job_tools
from python_mcp_server.server.job_tools import JobTools
from tests.helpers.records import a_job

if TYPE_CHECKING:
    import pytest


async def test_reading_positions_are_bounded_and_the_newest_stay(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_tools, "_READ_STREAMS", 4)  # those of two jobs
    async with JobManager() as manager:
        tools = JobTools(manager)

        async def news(job_id: str) -> str:
            return (await tools.job_status(job_id, incremental=True))["new_stdout"]

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
