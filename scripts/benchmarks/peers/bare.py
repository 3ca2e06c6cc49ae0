"""A bare server of the SDK: an `async def` echo, and a CPU-bound body as a plain `def` tool."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

from benchmarks.bodies import burn

server = MCPServer("bare")
server.tool()(burn)


@server.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    server.run("stdio")
