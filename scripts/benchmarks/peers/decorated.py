"""The bare server with one line more: its CPU-bound tool is decorated."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

from benchmarks.bodies import burn
from python_mcp_server import smart_async

server = MCPServer("decorated")
server.tool()(smart_async(burn))


@server.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    server.run("stdio")
