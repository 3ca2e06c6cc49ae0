"""The server that the official conformance suite is run against: a tool author's, over our HTTP.

Prints its address once it listens.
"""

from __future__ import annotations

import socket
from typing import Any

from mcp.server.mcpserver import MCPServer

from python_mcp_server import TasksExtension
from python_mcp_server.functions import default_manager
from python_mcp_server.server.app import owner_of
from python_mcp_server.server.transports.access import Access
from python_mcp_server.server.transports.http import serve_http
from tests.conformance.fixture_rest import (
    add_completion,
    add_handshake_methods,
    add_prompts,
    add_resources,
)
from tests.conformance.fixture_tools import add_tools


def build() -> MCPServer[Any]:
    """Return the server."""
    tasks = TasksExtension()
    server: MCPServer[Any] = MCPServer(
        "conformance",
        version="1",
        extensions=[tasks],
        middleware=[tasks.listening],
        lifespan=owner_of(default_manager()),
    )
    add_tools(server)
    add_prompts(server)
    add_completion(server)
    add_resources(server)
    add_handshake_methods(server)
    return server


def main() -> None:
    """Serve on a free port until a signal comes."""
    server = build()
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    manager = default_manager()
    serve_http(server, listener, Access(), lambda: None, manager.close, health=manager.health)


if __name__ == "__main__":
    main()
