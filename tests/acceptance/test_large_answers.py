"""Answers about a job whose result is larger than any client takes, over real stdio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import JobState
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.support import LEGACY, MODERN, Server, serving
from tests.helpers.marks import thorough
from tests.helpers.records import a_job
from tests.helpers.task_client import TASKS

CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}
RESULT: Any = [{"number": number, "half": number * 0.5} for number in range(60_000)]
MOST_BYTES = 100_000


def large_job(home: Path) -> str:
    """Record a job with a result of 2 MB and a hostile error, and return its id."""
    store = FileJobStore(home)
    job = a_job(JobState.COMPLETED).evolve(result=RESULT, message="€" * 2_000_000)
    store.create(job)
    store.close()
    return job.id


def line_of(server: Server, number: int) -> bytes:
    """Return the line that answers this request, the next one that comes."""
    line = server.line()
    assert json.loads(line)["id"] == number
    return line


def pages(server: Server, job_id: str) -> str:
    text, page = "", {"eof": False, "next_offset": 0}
    while not page["eof"]:
        wanted = {"job_id": job_id, "stream": "result", "offset": page["next_offset"], "limit": 1_000_000}
        page = server.call("py_job_output", wanted)["structuredContent"]
        text += page["text"]
    return text


@pytest.mark.parametrize("version", [LEGACY[-1], thorough(MODERN)])
def test_a_result_that_no_client_takes_is_named_and_read_in_pages(tmp_path: Path, version: str):
    job_id = large_job(tmp_path / "home")
    with serving(tmp_path, env={"PYTHON_MCP_HOME": str(tmp_path / "home")}) as server:
        server.open(version)
        for tool in ("py_job_status", "py_wait_job"):
            number = server.ask("tools/call", {"name": tool, "arguments": {"job_id": job_id}})
            line = line_of(server, number)
            assert len(line) < MOST_BYTES
            job = json.loads(line)["result"]["structuredContent"]["job"]
            assert job["result"] is None
            assert 'py_job_output with stream="result"' in job["result_note"]
        number = server.ask("resources/read", {"uri": f"job://{job_id}"})
        assert len(line_of(server, number)) < MOST_BYTES
        number = server.ask("tools/call", {"name": "py_list_jobs", "arguments": {}})
        assert len(line_of(server, number)) < MOST_BYTES
        assert json.loads(pages(server, job_id)) == RESULT
        assert server.leave() == 0


def test_a_task_has_its_whole_result_as_its_call_would_have_had(tmp_path: Path):
    job_id = large_job(tmp_path / "home")
    with serving(tmp_path, env={"PYTHON_MCP_HOME": str(tmp_path / "home")}) as server:
        server.open(MODERN)
        task = server.request("tasks/get", {"taskId": job_id}, **CAPABLE)["result"]
        blocks = task["result"]["content"]
        assert [json.loads(block["text"]) for block in blocks] == RESULT
        assert server.leave() == 0
