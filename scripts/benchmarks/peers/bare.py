"""A bare server of the SDK: an `async def` echo, one that notifies, and two bodies as plain `def` tools."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from benchmarks.bodies import burn, repeat

server = MCPServer("bare")
server.tool()(burn)
server.tool()(repeat)


@server.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool()
async def notify(count: int, ctx: Context[Any, Any]) -> None:
    """Send as many notifications of progress."""
    for step in range(count):
        await ctx.report_progress(step, count, "on the way")


if __name__ == "__main__":
    server.run("stdio")
