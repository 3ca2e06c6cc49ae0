"""Bodies that declare their context in each way there is. FastMCP costs a second: import it in a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.dependencies import CurrentContext
from mcp.server.mcpserver import Context as SdkContext  # noqa: TC002  servers read the annotation

FASTMCP_CONTEXT: Any = CurrentContext()


def without(n: int) -> int:
    return n


def typed(n: int, ctx: Context) -> int:
    return n


def optional(n: int, ctx: Context | None = None) -> int:
    return n


def injected(n: int, ctx: Any = FASTMCP_CONTEXT) -> int:
    return n


def the_sdks(ctx: SdkContext[Any, Any], n: int) -> int:
    return n


async def waiting(n: int) -> int:
    await asyncio.sleep(0)
    return n


def parameters(fn: Callable[..., Any]) -> list[str]:
    """Return what clients are shown of a function's parameters."""
    server = FastMCP("unit")
    server.tool(fn)
    [tool] = asyncio.run(server.list_tools())
    return list(tool.parameters["properties"])
