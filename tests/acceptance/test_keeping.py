"""A server over stdio cleans its home, and says of a removed job that it has expired."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.support import serving
from tests.helpers import eventually
from tests.helpers.command_line import command


def ended(store: FileJobStore, hours: float) -> str:
    when = utc_now() - timedelta(hours=hours)
    job = Job(new_job_id(when), "x", JobState.COMPLETED, when, completed_at=when)
    store.create(job)
    return job.id


def test_a_server_removes_what_its_home_is_not_to_keep(home: Path, tmp_path: Path):
    store = FileJobStore(home)
    old, young = ended(store, 50), ended(store, 1)
    with serving(tmp_path, env={"PYTHON_MCP_KEEP_DAYS": "1"}) as server:
        server.open()
        assert server.call("py_job_status", {"job_id": old})["structuredContent"]["job"]["id"] == old
        eventually(lambda: store.get(old) is None, deadline_s=60)
        for tool in ("py_job_status", "py_wait_job", "py_job_output", "py_cancel_job"):
            result = server.call(tool, {"job_id": old})
            assert result["isError"]
            assert result["content"][0]["text"].startswith(f"Job {old} has expired (it ended ")
            assert result["content"][0]["text"].endswith("it was kept for 2 days)")
        unknown = new_job_id()
        told = server.call("py_job_status", {"job_id": unknown})["content"][0]["text"]
        assert told == f"Job {unknown} not found"
        assert server.call("py_job_status", {"job_id": young})["structuredContent"]["job"]["id"] == young
        assert server.leave() == 0
    shown = command("jobs", "show", old)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"Job {old} has expired (it ended " in shown.stderr
