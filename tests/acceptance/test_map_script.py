"""py_map_script over real stdio: a batch outlasts the budget, and its results are read while it runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.shared import Shared
from tests.acceptance.support import data, refusal

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
        while (page := data(await client.call_tool("py_job_output", look)))["text"].count("\n") < 2:
            await asyncio.sleep(0.05)
        told = [json.loads(line) for line in page["text"].splitlines()]
        assert [(item["index"], item["exit_code"]) for item in told] == [(1, 1), (2, 0)]
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
