"""Items over real stdio: a tool emits, its client reads them while it runs, and after a restart."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import Server, serving
from tests.helpers import eventually, python, run_python
from tests.helpers.command_line import command

TOOLS = """
import os, time
from mcp.server.mcpserver import MCPServer
from python_mcp_server import add_job_tools, emit, smart_async

mcp = MCPServer("scanner")

@mcp.tool()
@smart_async()
def scan(folder: str) -> str:
    for number in range(30):
        emit({"n": number, "status": "failed" if number % 10 == 3 else "fine", "text": "ä"})
    emit({"n": 30, "text": "half \\ud800"})
    while not os.path.exists(folder + "/go"):
        time.sleep(0.01)
    emit({"n": 31, "data": "x" * 600_000})
    return "scanned"

add_job_tools(mcp)
if __name__ == "__main__":
    mcp.run()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "scanner.py"
    path.write_text(TOOLS, "utf-8")
    return path


def answer(server: Server, tool: str, **arguments: Any) -> dict[str, Any]:
    told = server.call(tool, arguments)
    assert not told.get("isError"), told
    return told["structuredContent"]


def refusal(server: Server, **arguments: Any) -> str:
    told = server.call("py_job_output", arguments)
    assert told["isError"]
    return told["content"][0]["text"]


def test_a_client_pages_items_while_the_tool_runs_and_after_a_restart(program: Path, tmp_path: Path):
    with serving(tmp_path, program) as first:
        first.open()
        job_id = answer(first, "scan", folder=str(tmp_path), async_mode=True)["job_id"]
        items = {"job_id": job_id, "stream": "items"}
        eventually(lambda: answer(first, "py_job_output", **items, wait_seconds=1)["total"] == 31)
        page = answer(first, "py_job_output", **items, offset=2, limit=2)
        assert page == {
            "items": [{"n": 2, "status": "fine", "text": "ä"}, {"n": 3, "status": "failed", "text": "ä"}],
            "next_offset": 4,
            "total": 31,
            "eof": False,
        }
        failed = answer(first, "py_job_output", **items, pattern='"status": "failed"')
        assert [item["n"] for item in failed["items"]] == [3, 13, 23]
        assert answer(first, "py_job_output", **items, offset=-1)["items"] == [
            {"n": 30, "text": "half \ufffd"}
        ]
        empty = answer(first, "py_job_output", **items, offset=31, wait_seconds=0.1)
        assert (empty["items"], empty["next_offset"], empty["eof"]) == ([], 31, False)
        assert "give offset, an item's number from 0" in refusal(first, **items, line=3)
        assert "limit is 0" in refusal(first, **items, limit=0)
        os.killpg(first.process.pid, signal.SIGKILL)
    with serving(tmp_path, program) as second:
        second.open()
        (tmp_path / "go").touch()
        assert answer(second, "py_wait_job", job_id=job_id, timeout_seconds=60)["job"]["result"] == "scanned"
        last = answer(second, "py_job_output", **items, offset=31, wait_seconds=60)
        assert (last["next_offset"], last["total"], last["eof"]) == (32, 32, True)
        assert "raw=true, line=32) reads its text in pages" in last["items"][0]["left_out"]
        raw = answer(second, "py_job_output", **items, raw=True, line=32, limit=1_000)
        assert raw["text"].startswith('{"n": 31, "data": "xxx')
        assert (len(raw["text"]), raw["first_line"]) == (1_000, 32)


def test_the_command_line_shows_items_as_lines_of_json(program: Path, tmp_path: Path):
    with serving(tmp_path, program) as server:
        server.open()
        job_id = answer(server, "scan", folder=str(tmp_path), async_mode=True)["job_id"]
        words = ("-m", "python_mcp_server", "jobs", "output", job_id, "--stream", "items")
        with python(*words, "--follow") as reader:
            assert reader.stdout is not None
            first = [json.loads(reader.stdout.readline())["n"] for _ in range(31)]
            assert "31 (jobs output" in command("jobs", "show", job_id).stdout
            (tmp_path / "go").touch()
            rest = [json.loads(line)["n"] for line in reader.stdout]
            assert reader.wait(60) == 0
    assert first + rest == list(range(32))
    assert len(run_python(*words).stdout.splitlines()) == 32


def test_the_command_line_leaves_out_a_torn_line(program: Path, tmp_path: Path, home: Path):
    with serving(tmp_path, program) as server:
        server.open()
        job_id = answer(server, "scan", folder=str(tmp_path), async_mode=True)["job_id"]
        (tmp_path / "go").touch()
        answer(server, "py_wait_job", job_id=job_id, timeout_seconds=60)
    (path,) = home.glob(f"output/*/{job_id}/items")
    with path.open("ab") as file:
        file.write(b'{"torn')
    told = command("jobs", "output", job_id, "--stream", "items").stdout
    assert [json.loads(line)["n"] for line in told.splitlines()] == list(range(32))
    assert command("jobs", "output", job_id, "--stream", "items", "--limit", "5").stdout == '{"n":'
