"""py_benchmark_script over real stdio: its progress while it runs, its figures, its plot as an image."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.shared import Shared
from tests.acceptance.support import data

if TYPE_CHECKING:
    from mcp import Client

WAITING = """
import os, sys, time
open(sys.argv[1] + "/begun", "w").close()
while not os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.005)
"""


def test_a_benchmark_shows_progress_and_ends_with_figures_and_a_plot(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments: Any = {"script_content": WAITING, "args": [str(tmp_path)], "compare_with": "x = 1"}
        arguments |= {"warmup": 0, "min_runs": 3, "max_runs": 3, "max_seconds": 600, "async_mode": True}
        job = {"job_id": data(await client.call_tool("py_benchmark_script", arguments))["job_id"]}
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        progress: Any = None
        while not progress or progress["message"] != "run 1 of at most 3":
            await asyncio.sleep(0.05)
            progress = data(await client.call_tool("py_job_status", job))["job"]["progress"]
        (tmp_path / "go").touch()
        answer = await client.call_tool("py_wait_job", job | {"timeout_seconds": 60})
        result = data(answer)["job"]["result"]
        images = [base64.b64decode(part.data) for part in answer.content if part.type == "image"]
        assert images == [Path(result["pictures"][0]["path"]).read_bytes()]
        assert result["runs"] == result["comparison"]["runs"] == 3
        assert result["wall"]["min"] <= result["wall_time_seconds"] <= result["wall"]["max"]
        assert result["summary"].split(" over 3 runs")[0].endswith("s")

    ours.run(main)
