"""Streamable HTTP through uvicorn, run so that it ends: the SDK's own runner waits for ever for an
open stream."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_GRACE_S: Final = 1  # an open stream of events never ends by itself


def serve_http(server: MCPServer[Any], host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until SIGTERM or SIGINT. The address is printed on stderr once it accepts connections.

    Args:
        server: The server; its lifespan is entered here.
        host: A loopback address or "localhost".
        port: 0 takes a free one.

    Raises:
        InvalidInput: The address is not loopback, or cannot be taken.
    """
    listener = _listen(host, port)
    with listener:
        app = server.streamable_http_app(host=host)
        config = uvicorn.Config(app, timeout_graceful_shutdown=_GRACE_S, log_config=None, lifespan="on")
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"python-mcp-server: http://{shown}:{listener.getsockname()[1]}/mcp\n")
        sys.stderr.flush()
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    if not _loopback(host):
        raise InvalidInput(
            f"host is {host!r}; without access tokens only this machine may connect, so use 127.0.0.1 or ::1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as exc:
        raise InvalidInput(f"port is {port}; {host} cannot listen there: {exc}") from exc


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
