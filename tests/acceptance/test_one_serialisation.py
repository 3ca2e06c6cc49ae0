"""A call answers the same, however long it took and whoever is asked: the answer in time, the job's record,
the task, the job tools, the resource, and another server on the same home that does not have the tool."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from python_mcp_server import JobState
from tests.acceptance.support import MODERN, connected, data
from tests.helpers import ROOT, run, task_client
from tests.helpers.queueing import job_in
from tests.helpers.task_client import Task, TaskClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp import Client
    from mcp_types import CallToolResult

BODIES = """
import dataclasses, datetime, enum, functools, math, os, sys, time
from decimal import Decimal
from typing import Any, TypedDict
import numpy as np
from pydantic import BaseModel
from tests.helpers import odd_values
from tests.helpers.odd_values import Colour, Pair, Point, Row

if "mcp" in sys.modules:  # a worker that loads it takes seconds of a busy machine
    from mcp.server.mcpserver import Image
    from mcp_types import CallToolResult
else:
    Image = CallToolResult = None

def picture(data):
    from mcp.server.mcpserver import Image
    return Image(data=data, format="png")

ODD = {
    group: {kind: row[0] for kind, row in getattr(odd_values, group).items()}
    for group in ("LIKE_PYDANTIC", "BEYOND_PYDANTIC", "NOTED")
}

class Defaults(BaseModel):
    a: int
    b: int = 2

class Keys(TypedDict):
    left: float

def slow(function):
    @functools.wraps(function)
    def body(path: str | None = None):
        while path is not None and not os.path.exists(path):
            time.sleep(0.02)
        return function()
    del body.__wrapped__
    body.__annotations__["return"] = function.__annotations__.get("return", body)
    if body.__annotations__["return"] is body:
        del body.__annotations__["return"]
    body.__annotations__["path"] = str | None
    return body

@slow
def everything(): return ODD
@slow
def a_bare_dict() -> dict: return {"at": [datetime.timedelta(hours=1)], "n": np.int64(3), 1: math.nan}
@slow
def a_plain_dict() -> dict: return {"n": 1, "rows": [{"a": None}]}
@slow
def undeclared(): return {"n": 1, "rows": [{"a": None}]}
@slow
def a_dict() -> dict[str, Any]: return {"at": datetime.date(2026, 3, 1), "row": Row(row_count=1)}
@slow
def numpy_in_a_dict() -> dict[str, Any]:
    return {"n": np.int64(3), "row": Row(row_count=1, extra_part=np.arange(2))}
@slow
def a_lack() -> dict[str, Any]: return {"mean": math.nan, "most": [math.inf]}
@slow
def a_number() -> float: return 3
@slow
def no_number() -> float: return math.nan
@slow
def a_numpy_number() -> int: return np.int64(3)
@slow
def a_model() -> Row: return Row(row_count=1, extra_part=[Colour.RED])
@slow
def models() -> list[Row]: return [Row(row_count=1), Row(row_count=2)]
@slow
def filled_in() -> list[Defaults]: return [{"a": 1}]
@slow
def by_name() -> dict[str, Row]: return {"x": Row(row_count=1)}
@slow
def a_dataclass() -> Point: return Point(1, {"a": Colour.RED})
@slow
def a_typed_dict() -> Keys: return {"left": 1}
@slow
def a_set() -> set[int]: return {3}
@slow
def a_moment() -> datetime.datetime: return datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
@slow
def moments(): return [datetime.date(2026, 3, 1), None, "text", [Decimal("1.5")]]
@slow
def a_colour() -> Colour: return Colour.RED
@slow
def some_bytes() -> bytes: return b"abc"
@slow
def an_array(): return np.array([1.5, math.nan])
@slow
def a_text() -> str: return "[1]"
@slow
def nothing() -> None: return None
@slow
def a_picture() -> Image: return picture(b"png")
@slow
def pictures() -> list[Image] if Image else None: return [picture(b"1"), picture(b"2")]
@slow
def a_whole_answer() -> CallToolResult:
    from mcp_types import CallToolResult, TextContent
    return CallToolResult(content=[TextContent(type="text", text="see")], structured_content={"n": 1})
@slow
def misfit() -> int: return "many"

KINDS = [each for each in list(globals().values()) if getattr(each, "__module__", "") == __name__
         and callable(each) and "path" in getattr(each, "__annotations__", {})]
"""
TOOLS = """
from mcp.server.mcpserver import MCPServer
from python_mcp_server import TasksExtension, smart_async
import authors_kinds

mcp = MCPServer("author", extensions=[TasksExtension()], log_level="CRITICAL")
for body in authors_kinds.KINDS:
    mcp.tool(name="plain_" + body.__name__)(body)
    mcp.tool()(smart_async(default_timeout=0.5 if body.__name__ == "everything" else 30)(body))
mcp.run()
"""
EXACT = [
    "a_dict", "a_model", "models", "filled_in", "by_name", "a_dataclass", "a_typed_dict", "a_set", "a_moment",
    "moments", "a_colour", "some_bytes", "a_text", "nothing", "a_picture", "pictures", "a_whole_answer",
    "a_number", "a_plain_dict", "undeclared",
]  # fmt: skip
"""What the undecorated tool answers as it should."""

OTHERS = [
    "a_numpy_number",
    "numpy_in_a_dict",
    "a_bare_dict",
    "a_lack",
    "an_array",
    "no_number",
    "misfit",
    "everything",
]
MISFITS = ["no_number", "misfit"]
ORPHANS = ["everything", "by_name", "a_picture"]


@pytest.fixture
def author(tmp_path: Path) -> Path:
    (tmp_path / "authors_kinds.py").write_text(BODIES)
    path = tmp_path / "authors_server.py"
    path.write_text(TOOLS)
    return path


@asynccontextmanager
async def client_of(*program: Path, **env: str) -> AsyncGenerator[Client]:
    async with connected(*program, env=env, mode=MODERN, extensions=[TaskClient()]) as client:
        yield client


def said(result: CallToolResult | dict[str, Any]) -> dict[str, Any]:
    """What reaches the client, without what the protocol adds to each answer."""
    wire = result if isinstance(result, dict) else result.model_dump(by_alias=True, exclude_none=True)
    told = {key: wire.get(key) for key in ("content", "structuredContent")}
    return told | {"isError": bool(wire.get("isError"))}


def json_of(answer: dict[str, Any]) -> Any:
    """The value in an answer that has a text, or structured content."""
    structured = answer["structuredContent"]
    if structured is not None:
        return structured["result"] if structured.keys() == {"result"} else structured
    return json.loads(answer["content"][0]["text"])


async def readings(client: Client, job_id: str) -> list[Any]:
    """The result of a job that has ended, by every way that our own server has, and its note."""
    waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))["job"]
    status = data(await client.call_tool("py_job_status", {"job_id": job_id}))["job"]
    resource: Any = (await client.read_resource(f"job://{job_id}")).contents[0]
    shown = json.loads(resource.text)
    assert waited["status"] == "completed", waited
    return [(job["result"], job["result_note"]) for job in (waited, status, shown)]


async def task_of(client: Client, tool: str, path: Path | None = None) -> str:
    arguments = {"async_mode": True} | ({} if path is None else {"path": str(path)})
    made: Any = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(made, Task), made
    return made.task_id


async def check(author: Client, other: Client, tool: str) -> None:
    in_time = said(await author.call_tool(tool, {}))
    job_id = await task_of(author, tool)
    for client in (author, other):
        task = await task_client.ended(client.session, job_id)
        assert said(task["result"]) == in_time, (tool, client)
    results = await readings(other, job_id)
    assert all(each == results[0] for each in results), tool
    if tool in EXACT:
        assert in_time == said(await author.call_tool(f"plain_{tool}", {})), tool
    assert in_time["isError"] == (tool in MISFITS), (tool, in_time)
    if tool in (
        "a_dict",
        "a_model",
        "models",
        "filled_in",
        "by_name",
        "a_lack",
        "a_bare_dict",
        "a_plain_dict",
        "undeclared",
        "an_array",
        "numpy_in_a_dict",
    ):
        assert results[0][0] == json_of(in_time), tool


def test_a_call_answers_the_same_by_every_way(author: Path, tmp_path: Path):
    async def main() -> None:
        async with client_of(author, PYTHONPATH=str(ROOT)) as ours, client_of() as other:
            for tool in (*EXACT, *OTHERS):
                await check(ours, other, tool)
            go = tmp_path / "go"
            made: Any = await ours.session.call_tool("everything", {"path": str(go)}, allow_claimed=True)
            assert isinstance(made, Task)  # handed over at the end of its budget
            go.touch()
            task = await task_client.ended(other.session, made.task_id)
            assert said(task["result"]) == said(await ours.call_tool("everything", {}))

    run(main(), deadline_s=170)


def test_a_job_that_outlives_its_server_has_the_result_of_its_call(author: Path, home: Path, tmp_path: Path):
    go = tmp_path / "go"

    async def main() -> None:
        expected: dict[str, Any] = {}
        jobs: dict[str, str] = {}
        settings = {"PYTHONPATH": str(ROOT), "PYTHON_MCP_MAX_BACKGROUND_JOBS": "20"}
        async with client_of(author, **settings) as ours:
            for tool in ORPHANS:
                expected[tool] = said(await ours.call_tool(tool, {}))
                jobs[tool] = await task_of(ours, tool, go)
            for job_id in jobs.values():
                await asyncio.to_thread(job_in, home, job_id, JobState.RUNNING)
        go.touch()
        async with client_of() as other:
            for tool, job_id in jobs.items():
                task = await task_client.ended(other.session, job_id)
                assert said(task["result"]) == expected[tool], tool

    run(main(), deadline_s=170)
