"""An author's own server: its handles say how to get the result, for which `add_job_tools` gives tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.support import connected, data, refusal, serving
from tests.helpers import run, run_python

if TYPE_CHECKING:
    from mcp import Client

SDK = ("from mcp.server.mcpserver import MCPServer", "MCPServer", "mcp.tool()", "mcp.run()")
FASTMCP = ("from fastmcp import FastMCP", "FastMCP", "mcp.tool", "mcp.run(show_banner=False)")
SERVER = """
import pathlib, time
{0}
from python_mcp_server import add_job_tools, smart_async

mcp = {1}("author")

@{2}
@smart_async(default_timeout=0.2)
def waits(path: str) -> str:
    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    return path

if __name__ == "__main__":
    {4}
    {3}
"""
TOOLS = [
    "py_job_status", "py_wait_job", "py_job_output", "py_list_jobs", "py_cancel_job", "py_prune_jobs",
    "py_answer_job",
]  # fmt: skip
KINDS = pytest.mark.parametrize("kind", [SDK, FASTMCP], ids=["sdk", "fastmcp"])


def written(tmp_path: Path, kind: tuple[str, ...], addition: str) -> Path:
    path = tmp_path / "author.py"
    path.write_text(SERVER.format(*kind, addition))
    return path


async def result_of(client: Client, handle: dict[str, Any]) -> Any:
    waited = data(await client.call_tool("py_wait_job", {"job_id": handle["job_id"], "timeout_seconds": 60}))
    assert not waited["timed_out"]
    return waited["job"]["result"]


@KINDS
def test_an_authors_server_offers_job_tools_and_its_handles_name_them(kind: tuple[str, ...], tmp_path: Path):
    go = tmp_path / "go"
    server = written(tmp_path, kind, "add_job_tools(mcp); add_job_tools(mcp)")

    async def main():
        async with connected(server) as client:
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(listed) == ["waits", *TOOLS]
            told = listed["py_wait_job"]
            assert list(told.input_schema["properties"]) == ["job_id", "timeout_seconds"]
            assert told.annotations is not None
            assert (told.annotations.title, told.annotations.read_only_hint) == ("Wait for a job", True)
            assert "As the call that started it" in told.input_schema["properties"]["job_id"]["description"]
            late = data(await client.call_tool("waits", {"path": str(go)}))
            assert late["message"].startswith("Task exceeded 0.2s time budget; ")
            assert late["message"].endswith("; call py_wait_job with this job_id for the result")
            asked = data(await client.call_tool("waits", {"path": str(go), "async_mode": True}))
            assert asked["message"] == "call py_wait_job with this job_id for the result"
            listing = data(await client.call_tool("py_list_jobs", {}))
            assert {job["id"] for job in listing["jobs"]} == {late["job_id"], asked["job_id"]}
            go.touch()
            assert await result_of(client, late) == await result_of(client, asked) == str(go)
            unknown = await client.call_tool("py_wait_job", {"job_id": "nobody"})
            assert refusal(unknown) == "Job nobody not found"
            wrong = await client.call_tool("py_list_jobs", {"limit": True})
            assert refusal(wrong) == "limit is true; true and false are not numbers"

    run(main())


@KINDS
def test_without_job_tools_the_handle_and_the_log_say_what_to_do(kind: tuple[str, ...], tmp_path: Path):
    server = written(tmp_path, kind, "pass")
    with serving(tmp_path, server) as author:
        author.open()
        for _ in range(2):
            answer = author.call("waits", {"path": str(tmp_path / "go"), "async_mode": True})
            message = answer["structuredContent"]["message"]
            assert "py_wait_job" not in message
            assert message.startswith("this server has no tool for the result: `python-mcp-server jobs show")
        (tmp_path / "go").touch()
        assert author.leave() == 0
        words = " ".join(author.errors.split())
        assert words.count("the tool waits answered with a job") == 1
        assert "add_job_tools(mcp)" in words


TAKEN = """
import asyncio
{0}
from python_mcp_server import add_job_tools
mcp = {1}("author")
@{2}
def py_wait_job() -> int:
    return 1
try:
    add_job_tools(mcp)
except Exception as error:
    print(error)
print(len(asyncio.run(mcp.list_tools())))
"""


@KINDS
def test_a_name_that_is_taken_is_refused_and_nothing_is_added(kind: tuple[str, ...]):
    said = run_python("-c", TAKEN.format(*kind)).stdout.splitlines()
    assert said == [
        "this server has a tool py_wait_job already; give it another name, because add_job_tools adds one",
        "1",
    ]


WRONG = """
from mcp.server.mcpserver import MCPServer
from python_mcp_server import add_job_tools, create_server, smart_async
mcp = MCPServer("author")

@mcp.tool()
@smart_async
def right() -> int:
    return 1

@smart_async
@mcp.tool()
def wrong() -> int:
    return 1

def both() -> int:
    return 1

other = MCPServer("other")
other.tool(name="plain")(both)
other.tool()(smart_async(both))
for server in (mcp, other, create_server(), "mcp"):
    try:
        print(add_job_tools(server))
    except Exception as error:
        print(error)
"""


def test_a_tool_under_the_decorator_is_refused_by_its_name():
    said = run_python("-c", WRONG).stdout.splitlines()
    assert said[0].startswith(
        "the tool 'wrong' is undecorated, because @smart_async stands above @mcp.tool()"
    )
    assert said[1:] == ["None", "None", "server is 'mcp'; it must be an MCPServer of mcp, or a FastMCP"]


HANGS = """
    import asyncio
    from fastmcp.server.providers import Provider
    class Hangs(Provider):
        async def _get_tool(self, name, version=None):
            if name == "py_wait_job":
                await asyncio.Event().wait()
    mcp.add_provider(Hangs())
"""
FAILS = """
    from fastmcp.server.transforms import Transform
    class Fails(Transform):
        async def get_tool(self, name, call_next, *, version=None):
            if name == "py_wait_job":
                raise RuntimeError("no such tool")
            return await call_next(name, version=version)
    {}.add_transform(Fails())
"""
MOUNTED = """
    child = FastMCP("child")
    add_job_tools(child)
    mcp.mount(child)
"""
NAMED = "; call py_wait_job with this job_id for the result"


@pytest.mark.parametrize(
    ("addition", "ending"),
    [
        (HANGS + MOUNTED, NAMED),
        (FAILS.format("mcp") + MOUNTED, NAMED),
        (FAILS.format("mcp.local_provider"), "has it"),
    ],
    ids=["other-provider-hangs", "transform-of-the-server", "transform-of-its-own-tools"],
)
def test_a_fastmcp_handle_comes_whatever_its_providers_do(addition: str, ending: str, tmp_path: Path):
    go = tmp_path / "go"

    async def main():
        async with connected(written(tmp_path, FASTMCP, addition.strip())) as client:
            late = data(await client.call_tool("waits", {"path": str(go)}))
            assert late["job_id"]
            assert late["message"].endswith(ending)
            go.touch()

    run(main())
