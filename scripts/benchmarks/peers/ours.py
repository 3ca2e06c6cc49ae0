"""Our server on its own transport, with the tools of its peers beside its own."""

from __future__ import annotations

import asyncio
import gc
import sys

from python_mcp_server.server.transports.lines import take_over_stdio


async def echo(text: str) -> str:
    """Return the text."""
    return text


def main() -> int:
    """Serve over stdin and stdout."""
    wire = take_over_stdio()
    from functools import partial

    from mcp.server.mcpserver.tools import Tool

    from benchmarks.bodies import BUDGET_S, beat, burn, repeat, rest
    from python_mcp_server import JobManager, create_server, smart_async
    from python_mcp_server.server.app import close_in_time, owner_of
    from python_mcp_server.server.transports.stdio import serve_stdio

    manager = JobManager()
    isolated = partial(smart_async, manager=manager)
    tools = [
        Tool.from_function(echo),
        Tool.from_function(isolated()(burn)),
        Tool.from_function(isolated()(repeat)),
        Tool.from_function(isolated(default_timeout=3600.0)(rest)),
        Tool.from_function(isolated(task="required")(beat)),
        Tool.from_function(isolated(default_timeout=BUDGET_S)(rest), name="hand_over"),
    ]
    server = create_server(manager, tools=tools, lifespan=owner_of(manager))
    gc.freeze()  # as `serve` does
    return asyncio.run(serve_stdio(server, wire, lambda: close_in_time(manager)))


if __name__ == "__main__":
    sys.exit(main())
