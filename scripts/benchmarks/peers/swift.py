"""The bare server, on our transport: what is left of the difference is not the transport's."""

from __future__ import annotations

import asyncio
import sys

from python_mcp_server.server.transports.lines import take_over_stdio


async def _nothing_to_end() -> None:
    """Nothing outlives this server."""


def main() -> int:
    """Serve over stdin and stdout."""
    wire = take_over_stdio()
    from benchmarks.peers.bare import server
    from python_mcp_server.server.transports.stdio import serve_stdio

    return asyncio.run(serve_stdio(server, wire, _nothing_to_end))


if __name__ == "__main__":
    sys.exit(main())
