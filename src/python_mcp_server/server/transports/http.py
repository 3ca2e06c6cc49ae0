"""Streamable HTTP through uvicorn, guarded on every route, and run so that it ends.

The SDK checks Host and Origin on its own route only, knows no plain token, and its runner waits for
ever for an open stream.
"""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    RequestBodyLimitMiddleware,
    TransportSecuritySettings,
)
from starlette.responses import JSONResponse, PlainTextResponse, Response

from python_mcp_server.errors import PoolClosed
from python_mcp_server.jobs.health import Condition, Health, Problem
from python_mcp_server.server.exit_guard import ExitGuard
from python_mcp_server.server.principals import TokenHolder
from python_mcp_server.server.sdk.messages import NotAMessage, check_notification
from python_mcp_server.server.sdk.private import low_level
from python_mcp_server.server.transports.access import Access, Refusal
from python_mcp_server.server.transports.connections import Connections, HttpConnection, most_connections
from python_mcp_server.server.transports.sessions import SessionLimit
from python_mcp_server.version import __version__

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_GRACE_S: Final = 1  # an open stream of events never ends by itself
_KEEP_ALIVE_S: Final = 75  # longer than proxies keep idle connections: closing first would lose requests
_ACCEPTED_AT_ONCE: Final = 64  # by asyncio, before the first of them is counted
_BACKLOG: Final = 1024
_END_S: Final = 2.8  # from a signal to the exit, also where a thread or the loop is stuck
_TICKS: Final = 10  # of uvicorn, a second
_HEALTH: Final = "/healthz"
_LARGEST_BODY: Final = DEFAULT_MAX_REQUEST_BODY_SIZE  # the SDK's, which refuses with 413

_CONFIG: Final[dict[str, Any]] = {
    "backlog": _ACCEPTED_AT_ONCE,
    "timeout_graceful_shutdown": _GRACE_S,
    "timeout_keep_alive": _KEEP_ALIVE_S,
    "log_config": None,
    "lifespan": "on",
    "ws": "none",
    "proxy_headers": False,
    "server_header": False,
}

_log: Final = logging.getLogger(__name__)


def serve_http(
    server: MCPServer[Any],
    listener: socket.socket,
    access: Access,
    on_start: Callable[[], None],
    on_stop: Callable[[], Awaitable[None]],
    *,
    health: Callable[[], Awaitable[Health]],
    find_principal: Callable[[str], str] = str,
    max_connections: int = 0,
    on_second: Callable[[], object] = bool,
) -> None:
    """Serve until SIGTERM or SIGINT. The process ends within three seconds of the signal.

    Args:
        server: The server; its lifespan is entered here.
        listener: Where clients connect; closed at the end.
        access: What their requests must show.
        on_start: Called when clients are served, and a signal ends the server in order.
        on_stop: Awaited first when a signal asks to stop, while answers can still be sent.
        health: Returns what is wrong, within seconds.
        find_principal: Returns the name in records of the principal that had this name in older versions; may
            block.
        max_connections: The setting.
        on_second: Called once a second.

    Raises:
        InvalidInput: So many connections cannot be open.
    """
    connections = Connections(most_connections(max_connections))
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard does it
    app = AccessMiddleware(
        server.streamable_http_app(transport_security=unchecked), access, find_principal, health
    )
    http = cast("type[HttpConnection]", functools.partial(HttpConnection, connections))
    config = uvicorn.Config(app, http=http, **_CONFIG)

    async def stop() -> None:
        await on_stop()
        _end_listening(server)

    runner = _Server(config, on_start, stop, on_second)
    with listener, runner.capture_signals():  # a signal that comes while the loop is made breaks it
        runner.run(sockets=[listener])


def _end_listening(server: MCPServer[Any]) -> None:
    """End the listening requests, so that their clients get the last message."""
    served = low_level(server).get_request_handler("subscriptions/listen")
    if served is not None and isinstance(served.handler, ListenHandler):
        served.handler.close()


class AccessMiddleware:
    """Stands before every route: Host and Origin, then the token. Answers `/healthz` itself.

    A client with the token is, to the SDK, a user like those of its own verifiers: its sessions and jobs are
    its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        find_principal: Callable[[str], str],
        health: Callable[[], Awaitable[Health]],
    ) -> None:
        self._app = AuthContextMiddleware(
            SessionLimit(RequestBodyLimitMiddleware(MessageCheck(app), _LARGEST_BODY))
        )
        self._access = access
        self._health = health
        old = access.old_principal
        self._holder = None if old is None else TokenHolder(functools.partial(find_principal, old))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the ASGI protocol."""
        if scope["type"] == "lifespan":
            await self._serve(scope, receive, send)
            return
        healthz = scope["path"] == _HEALTH
        reached = (scope.get("server") or (None,))[0]
        refusal = self._access.refusal(scope["headers"], reached, open_to_all=healthz)
        if refusal is not None:
            await _refuse(refusal, scope)(scope, receive, send)
        elif healthz:
            await (await _health(scope["method"], self._health))(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._holder is not None:
            await self._holder.look_up()
            scope = {**scope, "user": self._holder}
        await self._app(scope, receive, send)


class MessageCheck:
    """Refuses requests that the SDK would take for notifications, because their id is not valid."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the ASGI protocol, whose body comes in one piece."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        first: Message | None = await receive()
        try:
            check_notification(first.get("body", b""))
        except NotAMessage as fault:
            answer = fault.error.model_dump(by_alias=True, exclude_unset=True)
            await JSONResponse(answer, HTTPStatus.BAD_REQUEST)(scope, receive, send)
            return

        async def replay() -> Message:
            nonlocal first
            message, first = first, None
            return await receive() if message is None else message

        await self._app(scope, replay, send)


def _refuse(refusal: Refusal, scope: Scope) -> Response:
    address = (scope.get("client") or ("an unknown address",))[0]
    _log.info(
        "refused a request of %s with %d: %s",
        address,
        refusal.status,
        refusal.text,
        extra={"kind": (address, refusal.status)},
    )
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else None
    return PlainTextResponse(f"{refusal.text}\n", refusal.status, headers)


async def _health(method: str, health: Callable[[], Awaitable[Health]]) -> Response:
    """Return the health without details, because no token is asked for; 503 where the server cannot serve."""
    if method not in ("GET", "HEAD"):
        return PlainTextResponse("GET it\n", 405, {"Allow": "GET, HEAD"})
    try:
        found = await health()
    except PoolClosed as error:
        found = Health((Problem("server", str(error), "Ask again when it has started.", failing=True),))
    told = found.to_json(details=False)
    told = {"status": told["status"], "version": __version__, "problems": told["problems"]}
    status = 503 if found.status is Condition.FAILING else 200
    return JSONResponse(told, status, headers={"Cache-Control": "no-store"})


class _Server(uvicorn.Server):
    """Reports when it serves, and lets calls be answered before it closes their connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]],
        on_second: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._on_second = on_second
        self._guard = ExitGuard(_END_S)
        self._asked: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # uvicorn has one figure for this and for what is accepted at once
        if not self.should_exit:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; this is called between any two instructions."""
        self._guard.arm(128 + sig)
        if self._asked is None and self.started:
            self._asked = sig
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; after a second signal uvicorn would leave the lifespan to a cancel, which logs a traceback."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    async def on_tick(self, counter: int) -> bool:
        """Check ten times a second whether to stop."""
        if self._asked is not None and not self.should_exit:
            await self._on_stop()
            super().handle_exit(self._asked, None)
        if counter % _TICKS == 0:
            self._on_second()
        return await super().on_tick(counter)
