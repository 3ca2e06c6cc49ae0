"""What clients send to follow jobs, before it reaches the SDK."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mcp.server.mcpserver import MCPServer

from python_mcp_server.server.resources import JobResources


@pytest.mark.parametrize(
    "params", [None, {"notifications": 5}, {"notifications": [5]}, {"notifications": {}}]
)
def test_a_listening_request_that_names_no_resources_goes_on_as_it_came(params: Any) -> None:
    server: MCPServer[Any] = MCPServer("test")
    JobResources(cast("Any", None)).install(server)
    listening: Any = server.middleware[-1]

    async def passed_on(ctx: Any) -> Any:
        return ctx

    request = SimpleNamespace(method="subscriptions/listen", params=params)
    assert asyncio.run(listening(request, passed_on)) is request
