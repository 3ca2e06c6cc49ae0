"""One stdio connection with 50 calls in flight, 40 of them blocked: the others are answered meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import LEGACY, MODERN, Server, serving
from tests.helpers import eventually
from tests.helpers.marks import thorough
from tests.helpers.task_client import TASKS

CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}
BURNING, SLEEPING, OTHERS = 3, 37, 10
SERVER = """
import asyncio, os, sys
from python_mcp_server.server.transports.lines import take_over_stdio

def begin(path):
    with open(path + ".starts", "a") as file:
        file.write("x")

def burns(path: str) -> str:
    begin(path)
    while not os.path.exists(path):
        pass
    return "burnt"

async def sleeps(path: str) -> str:
    begin(path)
    while not os.path.exists(path):
        await asyncio.sleep(0.1)
    return "slept"

if __name__ == "__main__":
    wire = take_over_stdio()
    from mcp.server.mcpserver.tools import Tool
    from python_mcp_server import JobManager, create_server, smart_async
    from python_mcp_server.server.app import close_in_time, owner_of
    from python_mcp_server.server.transports.stdio import serve_stdio
    manager = JobManager()
    tools = [
        Tool.from_function(smart_async(default_timeout=600, manager=manager)(burns)),
        Tool.from_function(smart_async(default_timeout=600, manager=manager, isolation="inline")(sleeps)),
    ]
    server = create_server(manager, tools=tools, lifespan=owner_of(manager))
    sys.exit(asyncio.run(serve_stdio(server, wire, lambda: close_in_time(manager))))
"""


@contextmanager
def blocked(tmp_path: Path, version: str) -> Generator[tuple[Server, str, Path, list[int]]]:
    """Run a server with a job and 40 blocked calls; yield it, the job, what ends the calls, and the calls."""
    program, go, never = tmp_path / "busy_server.py", tmp_path / "go", tmp_path / "never"
    program.write_text(SERVER)
    meta = CAPABLE if version == MODERN else {}
    with serving(tmp_path, program) as server:
        server.open(version)
        job = server.call("burns", {"path": str(never), "async_mode": True}, **meta)
        tools = ["burns"] * BURNING + ["sleeps"] * SLEEPING
        calls = [
            server.ask("tools/call", {"name": tool, "arguments": {"path": str(go)}}, **meta) for tool in tools
        ]
        eventually(Path(f"{never}.starts").exists)
        eventually(lambda: starts(go) == BURNING + SLEEPING)
        yield server, job.get("taskId") or job["structuredContent"]["job_id"], go, calls
        assert (starts(go), starts(never)) == (BURNING + SLEEPING, 1)


def starts(path: Path) -> int:
    begun = Path(f"{path}.starts")
    return len(begun.read_text()) if begun.exists() else 0


def answers(server: Server, count: int) -> dict[int, Any]:
    """Read as many answers, in the order in which they come."""
    found: dict[int, Any] = {}
    while len(found) < count:
        message = server.message()
        if "method" not in message:
            found[message["id"]] = message["result"]
    return found


def end_all(server: Server, go: Path, calls: list[int]) -> None:
    go.touch()
    ended = answers(server, len(calls))
    assert sorted(ended) == calls
    texts = [ended[number]["structuredContent"]["result"] for number in calls]
    assert texts == ["burnt"] * BURNING + ["slept"] * SLEEPING


def test_ping_get_and_cancel_are_answered_while_40_calls_are_blocked(tmp_path: Path):
    with blocked(tmp_path, MODERN) as (server, task, go, calls):
        asked = [server.ask("tasks/cancel", {"taskId": task}, **CAPABLE)]
        asked += [server.ask("tasks/get", {"taskId": task}, **CAPABLE) for _ in range(4)]
        asked += [server.ask("server/discover", {}) for _ in range(OTHERS - len(asked))]
        found = answers(server, OTHERS)
        assert sorted(found) == asked  # and none of the forty
        assert {found[number]["taskId"] for number in asked[1:5]} == {task}

        def status() -> str:
            return server.request("tasks/get", {"taskId": task}, **CAPABLE)["result"]["status"]

        eventually(lambda: status() == "cancelled")
        end_all(server, go, calls)


@pytest.mark.parametrize("version", [thorough(LEGACY[0]), thorough(LEGACY[-1])])
def test_older_protocol_versions_are_answered_while_calls_are_blocked(tmp_path: Path, version: str):
    with blocked(tmp_path, version) as (server, job_id, go, calls):
        job = {"arguments": {"job_id": job_id}}
        asked = [server.ask("ping") for _ in range(5)]
        asked += [server.ask("tools/call", {"name": "py_job_status", **job}) for _ in range(4)]
        asked.append(server.ask("tools/call", {"name": "py_cancel_job", **job}))
        found = answers(server, OTHERS)
        assert sorted(found) == asked
        assert found[asked[-1]]["structuredContent"]["status"] == "cancelled"
        end_all(server, go, calls)
