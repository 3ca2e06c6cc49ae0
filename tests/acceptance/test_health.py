"""The health of a server as probes and agents read it, over real HTTP and stdio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.over_http import TOKEN, client_of, over_http, port_of
from tests.acceptance.support import connected, data, refusal, serving
from tests.acceptance.test_http import asked, stop
from tests.helpers import eventually, run


def health_of(port: int) -> tuple[int, dict[str, Any]]:
    status, _, text = asked(port, "/healthz", "GET")
    return status, json.loads(text)


def failed_job(home: Path) -> Job:
    """Put a job of the account's owner that failed for good into the home."""
    store, now = FileJobStore(home), utc_now()
    spec = {"body": "a:b", "args": [], "kwargs": {}, "file": None, "cwd": None}
    job = Job(new_job_id(), "a-private-label", JobState.FAILED, now, call=spec, options=JobOptions())
    store.create(job.evolve(completed_at=now, background=True, error="a-private-error"))
    store.close()
    return job


async def test_an_agent_over_stdio_reads_what_is_wrong_in_full(tmp_path: Path):
    home = tmp_path / "home"
    job = failed_job(home)
    async with connected(env={"PYTHON_MCP_TOOLS": "stats", "PYTHON_MCP_HOME": str(home)}) as client:
        told = data(await client.call_tool("py_health"))
        (problem,) = told["problems"]
        assert (told["status"], problem["check"]) == ("degraded", "dead_letters")
        assert all(word in problem["detail"] for word in (job.id, job.label, "a-private-error"))


def test_probes_and_clients_over_http_read_nothing_of_the_jobs_of_others(tmp_path: Path, home: Path):
    job = failed_job(home)

    async def ask(port: int) -> dict[str, Any]:
        async with client_of(port, TOKEN) as client:
            return data(await client.call_tool("py_health"))

    env = {"PYTHON_MCP_HTTP_TOKEN": TOKEN, "PYTHON_MCP_TOOLS": "stats"}
    with serving(tmp_path, *over_http("0.0.0.0"), env=env) as server:
        port = port_of(server)
        status, told = health_of(port)
        assert (status, told["status"]) == (200, "degraded")
        assert told["problems"] == [
            {
                "check": "dead_letters",
                "status": "degraded",
                "text": "jobs have failed for good",
                "advice": "Look at them with `python-mcp-server jobs dead`, and retry or drop them.",
            }
        ]
        assert not any(word in json.dumps(told) for word in (job.id, "private", str(home)))
        assert run(ask(port)) == {"status": "ok", "problems": []}
        stop(server)


def test_a_server_without_workers_answers_503_until_one_can_start(tmp_path: Path, home: Path):
    async def fails(port: int) -> str:
        async with client_of(port) as client:
            arguments = {"directory": str(tmp_path), "script_content": "pass"}
            return refusal(await client.call_tool("py_run_script_in_dir", arguments))

    with serving(tmp_path, *over_http(), env={"PYTHON_MCP_SPARE_WORKERS": "0"}) as server:
        port = port_of(server)
        lanes = home / "lanes"
        eventually(lanes.is_dir)
        lanes.rmdir()
        lanes.write_text("in the way")
        assert "no worker process could be started" in run(fails(port))
        status, told = health_of(port)
        assert (status, told["status"], told["problems"][0]["check"]) == (503, "failing", "workers")
        assert str(home) not in json.dumps(told)
        lanes.unlink()
        assert eventually(lambda: health_of(port)[0] == 200)
        assert health_of(port)[1]["status"] == "ok"
        stop(server)
