"""py_run_tests over real stdio: a suite outlasts the budget, its failures are read while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.shared import Shared
from tests.acceptance.support import data, refusal

if TYPE_CHECKING:
    from mcp import Client

SUITE = """
import os, time
def test_fails(): assert "this" == "that"
def test_waits():
    while not os.path.exists("go"):
        time.sleep(0.01)
"""
LEAN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def test_a_suite_is_handed_over_and_its_failures_are_read_while_it_runs(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        folder = tmp_path / "suite"
        folder.mkdir()
        (folder / "test_it.py").write_text(SUITE)
        arguments = {"directory": str(folder), "workers": 0, "env_vars": LEAN}
        job_id = data(await client.call_tool("py_run_tests", arguments))["job_id"]
        look = {"job_id": job_id, "stream": "failures"}
        while not (page := data(await client.call_tool("py_job_output", look)))["text"]:
            await asyncio.sleep(0.05)
        assert page["text"].startswith("FAILED test_it.py::test_fails\n")
        assert not page["eof"]
        (folder / "go").touch()
        wait = {"job_id": job_id, "timeout_seconds": 60}
        job = data(await client.call_tool("py_wait_job", wait))["job"]
        assert job["progress"] == {"current": 2, "total": 2, "message": "1 of 2 passed, 1 failed"}
        result = job["result"]
        assert (result["outcome"], result["passed"], result["failed"]) == ("failed", 1, 1)
        assert result["failures"][0]["traceback"].endswith("test_it.py:3: AssertionError")
        wrong = {"directory": str(folder), "workers": "some"}
        assert "workers" in refusal(await client.call_tool("py_run_tests", wrong))

    hasty.run(main)
