"""The server of the page on jobs, which starts command lines, over real stdio."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.support import connected, refusal
from tests.helpers import ROOT

if TYPE_CHECKING:
    from mcp import Client

SERVER = next(
    code
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "jobs.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    if "execute_command_async" in code
)


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def test_a_command_is_started_looked_at_and_its_result_read(tmp_path: Path):
    program = tmp_path / "server.py"
    program.write_text(SERVER, encoding="utf-8")
    async with connected(program) as client:
        given = {
            "command": "echo one; while [ ! -e go ]; do sleep 0.1; done; exit 3".replace(
                "go", str(tmp_path / "go")
            )
        }
        token = (await answer(client, "execute_command_async", **given))["result"]
        status = await answer(client, "get_job_status", token=token)
        assert status["state"] in ("queued", "running")
        early = await client.call_tool("get_job_result", {"token": token})
        assert token in refusal(early)
        (tmp_path / "go").touch()
        while status["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            status = await answer(client, "get_job_status", token=token)
        assert status["state"] == "failed"
        result = await answer(client, "get_job_result", token=token)
        assert result["success"] is False
        assert result["error"] == "the command exited with code 3"
        assert (result["data"]["stdout"], result["data"]["exit_code"]) == ("one\n", 3)
        assert "nope" in refusal(await client.call_tool("get_job_status", {"token": "nope"}))
