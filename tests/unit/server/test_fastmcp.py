"""A decorated function as FastMCP sees it: whatever context its body declares, clients see none of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as SdkToolError

from python_mcp_server import TasksExtension, context, smart_async
from python_mcp_server.server.sdk import adapter

SHOWN = ["n", "async_mode", "job_label"]


@pytest.fixture
def bodies() -> Any:
    from tests.helpers import fastmcp_bodies

    return fastmcp_bodies


def test_no_context_is_an_argument_of_the_tool(bodies: Any):
    for body in (bodies.without, bodies.typed, bodies.optional, bodies.injected, bodies.the_sdks):
        assert bodies.parameters(smart_async(body)) == SHOWN, body


def test_the_same_function_is_a_tool_of_the_sdks_server_still(bodies: Any):
    for body in (bodies.without, bodies.the_sdks):
        server = MCPServer("unit")
        server.tool()(smart_async(body))
        [tool] = asyncio.run(server.list_tools())
        assert list(tool.input_schema["properties"]) == SHOWN, body


def test_in_a_worker_the_module_of_a_tool_can_be_imported(bodies: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(context, "_here", type(context._here)())
    context.mark_worker()
    for body in (bodies.without, bodies.typed):
        assert bodies.parameters(smart_async(body)) == SHOWN, body


def test_what_fastmcps_own_errors_say_is_passed_on_as_it_is(bodies: Any):
    from fastmcp.exceptions import ToolError

    view = adapter.adapt(bodies.without)
    answer = view.error(ToolError("n is more than 10"))
    assert answer.is_error
    assert [block.text for block in answer.content] == ["n is more than 10"]  # type: ignore[union-attr]
    assert "ValueError: no" in str(view.error(ValueError("no")).content)
    with pytest.raises(SdkToolError):
        view.error(SdkToolError("the SDK knows what to do"))


def test_a_tool_of_fastmcp_is_refused_with_the_right_order(bodies: Any):
    server = bodies.FastMCP("unit")
    with pytest.raises(
        TypeError, match=r"'wrong', which a server has registered already.*above @smart_async"
    ):

        @smart_async
        @server.tool
        def wrong() -> None: ...


async def test_a_call_from_within_the_server_gets_the_result_itself(bodies: Any):
    server = bodies.FastMCP("unit")
    server.add_extension(TasksExtension().for_fastmcp())
    server.tool(smart_async(isolation="inline")(bodies.waiting))
    server.tool(smart_async(task="required")(bodies.typed))
    answer = await server.call_tool("waiting", {"n": 3})
    assert answer.structured_content == {"result": 3}
    refused = await server.call_tool("typed", {"n": 3})
    assert "typed answers with a task, and this server makes none" in str(refused.content)
