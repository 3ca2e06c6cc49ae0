"""py_map_script over real stdio: a batch outlasts the budget, and its results are read while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from python_mcp_server.store.files import FileJobStore
from tests.acceptance.shared import Shared
from tests.acceptance.support import Server, data, refusal, serving
from tests.helpers import eventually

if TYPE_CHECKING:
    from mcp import Client

SCRIPT = """
import os, sys, time
while sys.argv[1] == "waits" and not os.path.exists("go"):
    time.sleep(0.01)
sys.exit(sys.argv[1] == "fails")
"""


def test_a_batch_is_handed_over_and_its_results_are_read_while_it_runs(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        (tmp_path / "it.py").write_text(SCRIPT)
        arguments = {
            "directory": str(tmp_path),
            "script_path": "it.py",
            "args_list": [["waits"], ["fails"], ["works"]],
            "max_parallel": 2,
        }
        job_id = data(await client.call_tool("py_map_script", arguments))["job_id"]
        look = {"job_id": job_id, "stream": "items"}
        while (page := data(await client.call_tool("py_job_output", look)))["total"] < 2:
            await asyncio.sleep(0.05)
        assert [(item["index"], item["exit_code"]) for item in page["items"]] == [(1, 1), (2, 0)]
        assert "still runs" in refusal(await client.call_tool("py_map_script", {"resume": job_id}))
        (tmp_path / "go").touch()
        wait = {"job_id": job_id, "timeout_seconds": 60}
        job = data(await client.call_tool("py_wait_job", wait))["job"]
        assert job["progress"] == {"current": 3, "total": 3, "message": "3 of 3 done, 1 failed, 0 running"}
        assert [item["exit_code"] for item in job["result"]["items"]] == [0, 1, 0]
        assert job["result"]["job_id"] == job_id
        nobodys = {"resume": "no-such-job"}
        assert refusal(await client.call_tool("py_map_script", nobodys)) == "Job no-such-job not found"

    hasty.run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker is not found by its server's end")
def test_a_batch_outlives_its_server_and_resumes_after_its_worker(home: Path, tmp_path: Path):
    (tmp_path / "it.py").write_text(f"import sys\nopen('starts', 'a').write(sys.argv[1] + ' ')\n{SCRIPT}")
    items = [[word] for word in ("works", "waits", "fails", "works", "works")]
    batch = {"directory": str(tmp_path), "script_path": "it.py", "args_list": items, "max_parallel": 1}

    def begun(server: Server) -> str:
        return server.call("py_map_script", batch | {"async_mode": True})["structuredContent"]["job_id"]

    def ended(server: Server, job_id: str) -> dict[str, Any]:
        wait = {"job_id": job_id, "timeout_seconds": 60}
        return server.call("py_wait_job", wait)["structuredContent"]["job"]

    with serving(tmp_path) as first:
        job_id = first.open().call("py_map_script", batch | {"async_mode": True})["structuredContent"][
            "job_id"
        ]
        eventually(lambda: "waits" in starts(tmp_path))
        os.killpg(first.process.pid, signal.SIGKILL)
    with serving(tmp_path) as second:
        (tmp_path / "go").touch()
        job = ended(second.open(), job_id)
        assert (job["status"], job["result"]["succeeded"], job["result"]["failed"]) == ("completed", 4, 1)
        assert starts(tmp_path) == [word for (word,) in items], "each item was started once"

        (tmp_path / "go").unlink()
        job_id = begun(second)
        eventually(lambda: starts(tmp_path)[len(items) :] == ["works", "waits"])
        record = FileJobStore(home).get(job_id)
        assert record is not None
        assert record.worker is not None
        os.kill(record.worker.pid, signal.SIGKILL)
        job = ended(second, job_id)
        assert (job["status"], job["error_kind"]) == ("failed", "worker_died")
        (tmp_path / "go").touch()
        resumed = second.call("py_map_script", {"resume": job_id})["structuredContent"]
        assert (resumed["reused"], resumed["succeeded"], resumed["failed"]) == (1, 4, 1)
        assert sorted(starts(tmp_path)[len(items) :]) == [
            "fails",
            "waits",
            "waits",
            "works",
            "works",
            "works",
        ]


def starts(folder: Path) -> list[str]:
    file = folder / "starts"
    return file.read_text().split() if file.exists() else []
