"""Our server on its own transport, with the tools of the bare one beside its own."""

from __future__ import annotations

import asyncio
import sys

from python_mcp_server.server.claim import claim_stdio


async def echo(text: str) -> str:
    """Return the text."""
    return text


def main() -> int:
    """Serve over stdin and stdout."""
    wire = claim_stdio()
    from mcp.server.mcpserver.tools import Tool

    from benchmarks.bodies import burn
    from python_mcp_server import JobManager, create_server, smart_async
    from python_mcp_server.server.app import close_in_time, owner_of
    from python_mcp_server.server.stdio import serve_stdio

    manager = JobManager()
    tools = [Tool.from_function(echo), Tool.from_function(smart_async(manager=manager)(burn))]
    server = create_server(manager, tools=tools, lifespan=owner_of(manager))
    return asyncio.run(serve_stdio(server, wire, lambda: close_in_time(manager)))


if __name__ == "__main__":
    sys.exit(main())
