"""Runs our server in this process: what `python-mcp-server serve` does.

The order matters: the client's pipes are taken first, so that nothing started later can touch them;
the manager comes before the SDK, whose import takes half a second; the log is set up before the
SDK's server, which would set up its own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.processes import inherited
from python_mcp_server.server.logs import configure_logging
from python_mcp_server.server.transports.access import grant, is_loopback, listen, new_token, url_of
from python_mcp_server.server.transports.lines import take_over_stdio
from python_mcp_server.settings import Settings, given_text, variable

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from python_mcp_server.jobs.manager import JobManager

_LEAVE_S: Final = 1.0  # for what Python does at exit; a stuck thread must not keep the process
_OBJECTS_BETWEEN_COLLECTIONS: Final = 100_000
"""While modules are loaded, whose objects stay: the usual 700 cost 70 ms, and no collection at all 1 MB."""


def run_stdio(settings: Settings | None = None) -> int:
    """Serve over stdin and stdout until the client leaves or a signal comes.

    Returns:
        The exit code. The caller should exit with it at once: a thread sees to it that the process
        ends within a second.
    """
    inherited.repair_inherited_state()
    pipes = take_over_stdio()
    server, manager = _build(settings)
    from python_mcp_server.server.app import close_in_time
    from python_mcp_server.server.transports.stdio import serve_stdio

    code = asyncio.run(serve_stdio(server, pipes, lambda: close_in_time(manager)))
    sys.stdout.flush()
    _leave_soon(code)
    return code


def run_http(host: str = "127.0.0.1", port: int = 8000, settings: Settings | None = None) -> None:
    """Serve over streamable HTTP until SIGTERM or SIGINT. The address is printed on stderr.

    An address that others can reach is served with an access token only: that of the settings, or a
    new one, which is printed on stderr and nowhere else. So is any address where the token's variable is
    there and blank, because somebody meant to ask for a token.

    Raises:
        InvalidInput: The address is not of this machine, or cannot be taken, or a setting is wrong.
    """
    inherited.repair_inherited_state()
    settings = settings or Settings.from_environ()
    grant(host, settings.http_allowed_hosts, settings.http_token)
    listener = listen(host, port)
    open_to_all = is_loopback(listener) and not _token_is_blank()
    made = "" if settings.http_token or open_to_all else new_token()
    access = grant(host, settings.http_allowed_hosts, settings.http_token or made)
    server, manager = _build(settings)
    from python_mcp_server.server.app import close_in_time
    from python_mcp_server.server.transports.http import serve_http

    url = url_of(host, listener)
    serve_http(server, listener, access, lambda: _announce(url, made), lambda: close_in_time(manager))


def _token_is_blank() -> bool:
    """Whether the token's variable is there, and blank."""
    text = os.environ.get(variable("http_token"))
    return text is not None and given_text(text) is None


def _announce(url: str, made_token: str) -> None:
    """Say where to connect. The log has none of it, for the token is shown once."""
    lines = [f"python-mcp-server: {url}"]
    if made_token:
        lines.append(f"python-mcp-server: access token, for this run: {made_token}")
    sys.stderr.write("\n".join([*lines, ""]))
    sys.stderr.flush()


def _build(settings: Settings | None) -> tuple[MCPServer[Any], JobManager]:
    settings = settings or Settings.from_environ()
    os.environ.pop(variable("http_token"), None)  # what scripts inherit, they can read
    configure_logging(settings)
    from python_mcp_server.jobs.manager import JobManager

    manager = JobManager(settings=settings)
    thresholds = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        from python_mcp_server.server.app import create_server, owner_of

        server = create_server(manager, lifespan=owner_of(manager))
    finally:
        gc.set_threshold(*thresholds)
    gc.freeze()
    return server, manager


def _leave_soon(code: int) -> None:
    def leave() -> None:
        logging.getLogger(__name__).warning("a thread does not end; leaving without it")
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(_LEAVE_S, leave)
    timer.name = "exit guard"
    timer.daemon = True
    timer.start()
