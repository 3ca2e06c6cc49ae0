"""A FastMCP server: decorated tools answer as undecorated ones, and as tasks for clients that take tasks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError

from python_mcp_server import JobManager
from tests.acceptance.support import MODERN, connected, data, refusal
from tests.helpers import ROOT, environment, eventually, run, task_client
from tests.helpers.task_client import Task, TaskClient

if TYPE_CHECKING:
    from mcp_types import CallToolResult

BODIES = """
import datetime, os, time
from typing import TYPE_CHECKING, Any
from fastmcp.utilities.types import Image
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from python_mcp_server import report_progress, request_input

def an_int(n: int) -> int:
    return n

def a_dict(n: int) -> dict[str, Any]:
    return {"n": n}

def a_bare_dict(n: int) -> dict:
    return {"n": n, "when": datetime.date(2026, 1, n)}

def undeclared(n):
    return [n, {"n": n}]

class Row(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    row_count: int

def a_model(n: int) -> Row:
    return Row(row_count=n)

def models(n: int) -> list[Row]:
    return [Row(row_count=n)]

class Secret(Row):
    hidden_part: int = 7

def a_subclass(n: int) -> Row:
    return Secret(row_count=n)

def a_picture_and_a_model(n: int):
    return [Image(data=b"png", format="png"), Row(row_count=n)]

def a_text(n: int) -> str:
    return f"[{n}]"

def some_bytes(n: int) -> bytes:
    return b"abc"

def a_picture(n: int) -> Image:
    return Image(data=b"png", format="png")

def a_picture_and_text(n: int) -> list:
    return ["see", Image(data=b"png", format="png")]

def nothing(n: int) -> None:
    return None

KINDS = [an_int, a_dict, a_bare_dict, undeclared, a_model, models, a_text, some_bytes, a_picture,
         a_picture_and_text, a_subclass, a_picture_and_a_model, nothing]

def waits(path: str) -> str:
    with open(path + ".starts", "a") as file:
        file.write("x")
    while not os.path.exists(path):
        report_progress(1, 2, "waiting for the file")
        time.sleep(0.02)
    return path

def raises() -> int:
    raise ValueError("the body said no")

def asks(path: str) -> str:
    with open(path + ".starts", "a") as file:
        file.write("x")
    form = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    return (request_input("Which colour?", form).content or {})["colour"]
"""
TOOLS = """
from __future__ import annotations

from fastmcp import Context, FastMCP
from python_mcp_server import TasksExtension, smart_async

import authors_bodies as bodies

mcp = FastMCP("author")
mcp.add_extension(TasksExtension().for_fastmcp())

for body in bodies.KINDS:
    mcp.tool(smart_async(body))
    mcp.tool(body, name="plain_" + body.__name__)

mcp.tool(smart_async(default_timeout=0.2)(bodies.waits))
mcp.tool(smart_async(bodies.raises))
mcp.tool(smart_async(bodies.asks))

@mcp.tool
@smart_async()
async def with_context(n: int, ctx: Context) -> int:
    await ctx.report_progress(n, 10, "from the context")
    return n

if __name__ == "__main__":
    mcp.run(show_banner=False)
"""
KINDS = [
    "an_int", "a_dict", "a_bare_dict", "undeclared", "a_model", "models", "a_text", "some_bytes", "a_picture",
    "a_picture_and_text", "a_subclass", "a_picture_and_a_model", "nothing",
]  # fmt: skip
ADDED = ["async_mode", "job_label"]
OLDEST = Path(sys.prefix) / "fastmcp-lowest"
"""The oldest FastMCP that the project allows, where scripts/ have set up the environment."""

VERSIONS = ["pinned", "oldest"] if OLDEST.is_dir() or OLDEST.parent == ROOT / ".venv" else ["pinned"]


@pytest.fixture(params=VERSIONS)
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    """What makes a server run with one version of FastMCP."""
    return {"PYTHONPATH": str(OLDEST)} if request.param == "oldest" else {}


@pytest.fixture
def author(tmp_path: Path) -> Path:
    (tmp_path / "authors_bodies.py").write_text(BODIES)
    path = tmp_path / "authors_server.py"
    path.write_text(TOOLS)
    return path


def said(result: CallToolResult) -> dict[str, Any]:
    """What a call answered, without what the protocol adds to each answer."""
    told = result.model_dump(by_alias=True, exclude_none=True)
    meta = {key: each for key, each in told.pop("_meta", {}).items() if not key.startswith("io.modelcontext")}
    return told | meta


def test_a_decorated_tool_answers_as_undecorated_or_with_a_task(
    author: Path, tmp_path: Path, env: dict[str, str]
):
    go, never = tmp_path / "go", tmp_path / "never"
    tasks = TaskClient(lambda _task: go.touch())
    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))
        await asyncio.sleep(0)

    async def main():
        async with connected(author, env=env, mode=MODERN, extensions=[tasks]) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            for kind in ("an_int", "a_dict", "with_context"):
                assert list(tools[kind].input_schema["properties"]) == ["n", *ADDED], kind
            for kind in ("an_int", "a_dict"):
                schema = tools[kind].output_schema or {}
                assert (schema["type"], len(schema["anyOf"])) == ("object", 2)
            for kind in KINDS:
                plain = await client.call_tool(f"plain_{kind}", {"n": 3})
                assert not plain.is_error
                assert said(await client.call_tool(kind, {"n": 3})) == said(plain), kind
                later = await client.call_tool(kind, {"n": 3, "async_mode": True})
                assert said(later) == said(plain), kind
            assert [task.status for task in tasks.made] == ["working"] * len(KINDS)
            tasks.made.clear()
            go.unlink()
            answer = await client.call_tool("with_context", {"n": 3}, progress_callback=hear)
            assert data(answer) == {"result": 3}
            assert (3, 10) in heard
            assert "ValueError: the body said no" in refusal(await client.call_tool("raises", {}))
            assert tasks.made == []

            assert data(await client.call_tool("waits", {"path": str(go)})) == {"result": str(go)}
            assert [task.status for task in tasks.made] == ["working"]
            assert (tasks.made[0].model_extra or {})["ttlMs"] is None
            doomed = await client.session.call_tool("waits", {"path": str(never)}, allow_claimed=True)
            assert isinstance(doomed, Task)
            await asyncio.to_thread(eventually, Path(f"{never}.starts").exists)
            await task_client.cancel(client.session, doomed.task_id)
            assert (await task_client.ended(client.session, doomed.task_id))["status"] == "cancelled"
            with pytest.raises(MCPError, match="Task unknown not found"):
                await task_client.get(client.session, "unknown")

    run(main())
    assert [Path(f"{path}.starts").read_text() for path in (go, never)] == ["x", "x"]


@pytest.mark.thorough
def test_a_fastmcp_client_gets_results_errors_and_a_lasting_job_handle(author: Path, tmp_path: Path):
    import fastmcp
    from fastmcp.client.transports import StdioTransport

    go, question = tmp_path / "go", tmp_path / "question"

    async def answer(message: str, response_type: Any, _params: object, _context: object) -> Any:
        assert message == "Which colour?"
        return response_type(colour="green")

    async def main() -> str:
        way = StdioTransport(sys.executable, [str(author)], env=environment(), keep_alive=False)
        async with fastmcp.Client(way, elicitation_handler=answer) as client:
            for kind in ("an_int", "a_dict"):
                plain = await client.call_tool(f"plain_{kind}", {"n": 3})
                ours = await client.call_tool(kind, {"n": 3})
                assert ours.structured_content == plain.structured_content, kind
            failed = await client.call_tool("raises", {}, raise_on_error=False)
            assert failed.is_error
            assert "ValueError: the body said no" in str(failed.content)
            told = await client.call_tool("asks", {"path": str(question)})
            assert told.structured_content == {"result": "green"}
            handle: dict[str, Any] = (
                await client.call_tool("waits", {"path": str(go)})
            ).structured_content or {}
            assert handle["status"] in ("running", "pending")
            await asyncio.to_thread(eventually, Path(f"{go}.starts").exists)
            return handle["job_id"]

    async def after(job_id: str) -> None:
        async with JobManager() as manager:
            go.touch()
            job, timed_out = await manager.wait(job_id, 60)
            assert not timed_out
            assert (job.status.value, job.result) == ("completed", str(go))

    run(after(run(main())))
    assert [Path(f"{path}.starts").read_text() for path in (go, question)] == ["x", "x"]
