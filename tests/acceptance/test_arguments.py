"""Text stays text and null means the default, in our tools and in those of authors, over real stdio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import MODERN, connected, data, refusal
from tests.acceptance.test_fastmcp import OLDEST, VERSIONS

BODIES = """
from pydantic import BaseModel

class Size(BaseModel):
    width: int

def echo(
    text: str, note: str | None = "none", names: list[str] | None = None, env: dict[str, str] = {"A": "1"},
    number: int = 3, flag: bool = True, size: Size = Size(width=1), anything=None,
) -> list[str]:
    return [repr(each) for each in (text, note, names, env, number, flag, size, anything)]
"""
SDK = """
from mcp.server.mcpserver import MCPServer
from python_mcp_server import smart_async
import authors_echo

mcp = MCPServer("author", log_level="CRITICAL")
mcp.tool()(smart_async(authors_echo.echo))
mcp.run()
"""
FASTMCP = """
from fastmcp import FastMCP
from python_mcp_server import smart_async
import authors_echo

mcp = FastMCP("author")
mcp.tool(smart_async(authors_echo.echo))
mcp.run(show_banner=False)
"""
SERVERS = [pytest.param(SDK, {}, id="mcp")] + [
    pytest.param(FASTMCP, {"PYTHONPATH": str(OLDEST)} if version == "oldest" else {}, id=f"fastmcp-{version}")
    for version in VERSIONS
]
CALLS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["'none'", "None", "{'A': '1'}", "3", "True", "Size(width=1)", "None"]),
    (
        {"note": "null", "names": ["null", "[1]"], "env": {"A": "null"}, "anything": "[1]"},
        ["'null'", "['null', '[1]']", "{'A': 'null'}", "3", "True", "Size(width=1)", "'[1]'"],
    ),
    (
        dict.fromkeys(("note", "names", "env", "number", "flag", "size", "anything")),
        ["None", "None", "{'A': '1'}", "3", "True", "Size(width=1)", "None"],
    ),
    (
        {"note": 3.5, "names": ["a", 1, 2.5], "env": {"A": 3}, "number": 7, "flag": False},
        ["'3.5'", "['a', '1', '2.5']", "{'A': '3'}", "7", "False", "Size(width=1)", "None"],
    ),
    ({"names": "[1]"}, ["'none'", "['1']", "{'A': '1'}", "3", "True", "Size(width=1)", "None"]),
    (
        {"names": '["a"]', "env": '{"B": "2"}', "number": "7", "flag": "false", "size": '{"width": 2}'},
        ["'none'", "['a']", "{'B': '2'}", "7", "False", "Size(width=2)", "None"],
    ),
]


@pytest.mark.parametrize(("program", "env"), SERVERS)
async def test_arguments_reach_a_decorated_body_as_they_are_meant(
    program: str, env: dict[str, str], tmp_path: Path
):
    (tmp_path / "authors_echo.py").write_text(BODIES)
    server = tmp_path / "authors_server.py"
    server.write_text(program)

    async with connected(server, env=env, mode=MODERN) as client:
        for arguments, expected in CALLS:
            for text in ("null", '{"a": 1}'):
                told = data(await client.call_tool("echo", {"text": text} | arguments))
                assert told["result"] == [repr(text), *expected], arguments
        assert (await client.call_tool("echo", {"text": None})).is_error
        for wrong in ([True], [None], [["a"]], "[true]", "a"):
            assert (await client.call_tool("echo", {"text": "", "names": wrong})).is_error
        assert data(await client.call_tool("echo", {"text": 12}))["result"][0] == "'12'"


async def test_our_tools_take_text_as_text_and_null_as_the_default(tmp_path: Path):
    async with connected(mode="legacy") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        names = tools["py_run_script_in_dir"].input_schema["properties"]
        code = "import os, sys; print(sys.argv[1:], os.environ['A'], 'value: null')"
        given = {"directory": str(tmp_path), "script_content": code, "use_uv": "false"}
        given |= {"args": '["null", "[1]"]', "env_vars": {"A": "{}"}}
        told = data(await client.call_tool("py_run_script_in_dir", dict.fromkeys(names) | given))
        assert told["stdout"] == "['null', '[1]'] {} value: null\n"
        handle = data(await client.call_tool("py_run_script_in_dir", given | {"async_mode": True}))
        job_id = handle["job_id"]
        await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60})
        page = data(await client.call_tool("py_job_output", {"job_id": job_id, "pattern": "null"}))
        assert page["matches"] == 1
        listed = {"status_filter": None, "limit": None}
        assert data(await client.call_tool("py_list_jobs", listed))["total"] >= 1
        assert "job_id is null" in refusal(await client.call_tool("py_job_status", {"job_id": None}))


async def test_a_version_that_is_a_number_with_a_fraction_is_refused(tmp_path: Path):
    run = {"directory": str(tmp_path), "script_content": "print(1)"}
    lone = {"script_content": "print(1)"}
    saved = {"script_name": "one", "source": "print(1)"}
    async with connected(mode=MODERN) as client:
        for tool, name, given in (
            ("py_run_script_in_dir", "python_version", run),
            ("py_run_script_with_dependencies", "python_version", lone),
            ("py_benchmark_script", "python_version", lone),
            ("py_save_script", "requires_python", saved),
        ):
            said = refusal(await client.call_tool(tool, given | {name: 3.10}))
            assert said.startswith(f'{name} is the number 3.1; it must be a text such as "3.10"'), tool
        assert not (await client.call_tool("py_run_script_in_dir", run | {"python_version": 3})).is_error


async def test_no_error_repeats_the_value_of_a_variable(tmp_path: Path):
    secret = "hunter2-very-secret"
    odd: tuple[Any, ...] = (
        secret, [secret], {"A": [secret]}, {"A": {"x": secret}}, {"A": secret, "B": None}, {"A=B": secret},
        {"A": f"{secret}\0"},
    )  # fmt: skip
    async with connected(mode=MODERN) as client:
        for given in odd:
            arguments = {"directory": str(tmp_path), "script_content": "print(1)", "env_vars": given}
            said = refusal(await client.call_tool("py_run_script_in_dir", arguments))
            assert "env_vars" in said
            assert secret not in said
