"""Every generation of client has one way from a call to its result, across a restart of the server; the
body starts once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.over_http import client_of, over_http, port_of
from tests.acceptance.support import LEGACY, MODERN, OUR_SERVER, connected, serving
from tests.helpers import environment, eventually, run, task_client
from tests.helpers.marks import thorough
from tests.helpers.task_client import Task, TaskClient

BUDGET = {"SMART_ASYNC_TIMEOUT_SECONDS": "1"}
COUNTED = """
import os, time
with open("starts", "a") as file:
    file.write("x")
while not os.path.exists("go"):
    time.sleep(0.01)
print("done")
"""
ENDLESS = "import time\nopen('begun', 'w').close()\ntime.sleep(600)"
Connect = Callable[[Path], AbstractAsyncContextManager[Any]]


class Handles:
    """The way of clients that know nothing but tools."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return what a call answered, or the text of its refusal."""
        result = await self._client.call_tool(tool, arguments)
        return result.structured_content or {"refused": result.content[0].text}

    async def hand_over(self, script: dict[str, Any]) -> str:
        return (await self.call("py_run_script_in_dir", **script))["job_id"]

    async def wait(self, job_id: str) -> dict[str, Any]:
        waited = await self.call("py_wait_job", job_id=job_id, timeout_seconds=60)
        return waited["job"]["result"]

    async def cancel(self, job_id: str) -> str:
        return (await self.call("py_cancel_job", job_id=job_id))["status"]


class FastMCPHandles(Handles):
    """FastMCP's client raises what others return."""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self._client.call_tool(tool, arguments, raise_on_error=False)
        return result.structured_content or {"refused": result.content[0].text}


class Tasks(Handles):
    """The way of clients that take tasks."""

    async def hand_over(self, script: dict[str, Any]) -> str:
        made = await self._client.session.call_tool("py_run_script_in_dir", script, allow_claimed=True)
        assert isinstance(made, Task), made
        return made.task_id

    async def wait(self, job_id: str) -> dict[str, Any]:
        ended = await task_client.ended(self._client.session, job_id)
        return ended["result"]["structuredContent"]

    async def cancel(self, job_id: str) -> str:
        await task_client.cancel(self._client.session, job_id)
        return (await task_client.ended(self._client.session, job_id))["status"]


@asynccontextmanager
async def legacy(_folder: Path) -> AsyncGenerator[Handles]:
    async with connected(env=BUDGET, mode="legacy") as client:
        yield Handles(client)


@asynccontextmanager
async def modern(_folder: Path) -> AsyncGenerator[Handles]:
    async with connected(env=BUDGET, mode=MODERN, extensions=[TaskClient()]) as client:
        yield Tasks(client)


@asynccontextmanager
async def modern_over_http(folder: Path) -> AsyncGenerator[Handles]:
    with serving(folder, *over_http(), env=BUDGET) as server:
        port = await asyncio.to_thread(port_of, server)
        async with client_of(port, mode=MODERN, extensions=[TaskClient()]) as client:
            yield Tasks(client)


@asynccontextmanager
async def fastmcp(_folder: Path) -> AsyncGenerator[Handles]:
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    way = StdioTransport(sys.executable, [*OUR_SERVER], env=environment(**BUDGET), keep_alive=False)
    async with Client(way) as client:
        yield FastMCPHandles(client)


async def story(connect: Connect, folder: Path) -> None:
    script = {"directory": str(folder), "use_uv": False}
    async with connect(folder) as client:
        hello: dict[str, Any] = {}
        while "stdout" not in hello:  # on a busy machine the first of them may outlast the budget
            hello = await client.call("py_run_script_in_dir", **script, script_content="print('hello')")
        assert hello["stdout"] == "hello\n"
        failed = await client.call("py_run_script_in_dir", **script, script_path="none.py")
        assert "none.py" in failed["refused"]
        handed = [client.hand_over({**script, "script_content": content}) for content in (COUNTED, ENDLESS)]
        kept, doomed = await asyncio.gather(*handed)
        for name in ("starts", "begun"):
            await asyncio.to_thread(eventually, (folder / name).exists)
        assert await client.cancel(doomed) == "cancelled"
    async with connect(folder) as client:
        (folder / "go").touch()
        assert (await client.wait(kept))["stdout"] == "done\n"
    assert (folder / "starts").read_text() == "x"


@pytest.mark.parametrize("version", [LEGACY[0], *map(thorough, LEGACY[1:])])
def test_a_client_that_shakes_hands_follows_its_job(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mcp.client.session.LATEST_HANDSHAKE_VERSION", version)
    run(story(legacy, tmp_path))


@pytest.mark.parametrize("connect", [thorough(modern), thorough(modern_over_http)])
def test_a_client_that_takes_tasks_follows_its_task(tmp_path: Path, connect: Connect):
    run(story(connect, tmp_path))


@pytest.mark.thorough
def test_a_client_of_fastmcp_follows_its_job(tmp_path: Path):
    run(story(fastmcp, tmp_path))
