"""The tool for jobs that failed for good, over real stdio, and whose jobs it shows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import JobNotFound
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.server.dead_letter_tool import dead_letter_tool
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.support import connected, data, refusal
from tests.unit.server.test_principals import asked_by

RUN = "python_mcp_server.tools.scripts:run_script_in_dir"


def dead(store: JobStore, directory: Path, number: int, principal: str | None = None) -> str:
    """Put the failed job of a script into a store, and return its id."""
    now = utc_now() + timedelta(seconds=number)
    arguments = {"directory": str(directory), "script_content": "raise SystemExit(3)"}
    spec = {"body": RUN, "args": [], "kwargs": arguments, "file": None, "cwd": None, "limits": None}
    job = Job(new_job_id(now), "a script", JobState.FAILED, now, tool="py_run_script_in_dir", call=spec)
    facts: dict[str, Any] = {"error": "for good", "error_kind": "worker_died", "principal": principal}
    store.create(job.evolve(completed_at=now, background=True, options=JobOptions(), **facts))
    return job.id


async def test_a_model_lists_failed_jobs_and_runs_them_again(tmp_path: Path):
    home = tmp_path / "home"
    store = FileJobStore(home)
    ids = [dead(store, tmp_path, number) for number in range(3)]
    store.close()
    env = {"PYTHON_MCP_TOOLS": "dead_letters", "PYTHON_MCP_HOME": str(home)}
    async with connected(env=env) as client:

        async def call(**arguments: Any) -> Any:
            return await client.call_tool("py_dead_letters", arguments)

        assert [row["id"] for row in data(await call())["jobs"]] == ids[::-1]
        changed = {"script_content": "print('well')"}
        made = data(await call(action="retry", job_id=ids[0], arguments=changed))["retried"][ids[0]]
        job = data(await client.call_tool("py_wait_job", {"job_id": made}))["job"]
        assert job["result"]["stdout"] == "well\n"
        assert "job_id is missing for action 'drop'" in refusal(await call(action="drop"))
        assert "arguments go with action 'retry'" in refusal(await call(action="drop", arguments={"a": 1}))
        assert "was run again as" in refusal(await call(action="retry", job_id=ids[0]))
        assert data(await call(action="drop", job_id=ids[1])) == {"dropped": 1}
        assert data(await call(action="drop", kind="py_run_script_in_dir")) == {"dropped": 1}
        assert data(await call())["jobs"] == []


async def test_a_principal_sees_and_changes_only_their_own_failed_jobs(tmp_path: Path, home: Path):
    async with JobManager() as jobs:
        await jobs.queues.pause("default")
        names = ("client:ada", "client:bob", None)
        ada, bob, owner = (dead(jobs.store, tmp_path, n, name) for n, name in enumerate(names))
        tool: Any = dead_letter_tool(jobs).fn

        async def told(**arguments: Any) -> Any:
            return (await tool(**arguments)).structured_content

        with asked_by("ada"):
            assert [row["id"] for row in (await told())["jobs"]] == [ada]
            for action in ("retry", "drop"):
                for other in (bob, owner):
                    with pytest.raises(JobNotFound):
                        await tool(action=action, job_id=other)
            made = (await told(action="retry", kind="py_run_script_in_dir"))["retried"]
            assert list(made) == [ada]
            assert (await jobs.get(made[ada])).principal == "client:ada"
        with asked_by("bob"):
            assert await told(action="drop", kind="py_run_script_in_dir") == {"dropped": 1}
        assert [row["id"] for row in (await told())["jobs"]] == [owner]
