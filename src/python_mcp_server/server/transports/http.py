"""Where the server listens: taken before the SDK is loaded, so that a refusal comes at once.

Who may speak to the server over HTTP: by which name of the server, from which page, with which token.

Knows headers and no SDK, so that a setting that cannot be meant is refused before the SDK is loaded.
A web page of somebody else can make a browser send requests to this machine, also under a name that
it has pointed here (DNS rebinding); so Host and Origin must name this server, whatever is asked.


Streamable HTTP through uvicorn: guarded on every route, and run so that it ends.

The SDK checks Host and Origin on its own route only, knows no plain token, and its runner waits for
ever for an open stream.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    RequestBodyLimitMiddleware,
    TransportSecuritySettings,
)
from starlette.responses import JSONResponse, PlainTextResponse, Response

from python_mcp_server import __version__
from python_mcp_server.errors import InvalidInput
from python_mcp_server.server.sdk.messages import NotAMessage, check_notification
from python_mcp_server.server.sdk.private import low_level
from python_mcp_server.settings import variable

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_NOT_OURS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: An address of this machine, or a name of one.
        port: 0 takes a free one.

    Raises:
        InvalidInput: The address is not of this machine, or the port cannot be taken.
    """
    if not host:
        raise InvalidInput(f"host is {host!r}; it must be an address of this machine, such as 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = _address_of(host, family)
    try:
        return socket.create_server((address[0], port, *address[2:]), family=family)
    except OverflowError as exc:
        raise InvalidInput(f"port is {port}; it must be 0 to 65535") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        if exc.errno in _NOT_OURS:
            raise InvalidInput(f"host is {host!r}; it is no address of this machine: {reason}") from exc
        raise InvalidInput(f"port is {port}; {host} cannot listen there: {reason}") from exc


def _address_of(host: str, family: socket.AddressFamily) -> tuple[Any, ...]:
    try:
        return socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM)[0][4]
    except (socket.gaierror, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InvalidInput(f"host is {host!r}; no address is found for it: {reason}") from exc


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can connect, whatever name the address was given by."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(host: str, listener: socket.socket) -> str:
    """Return what clients are to be given."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/mcp"


_TOKEN_BYTES: Final = 32
_SHORTEST_TOKEN: Final = 16
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/?#@\[\]\\]+))(?::\d{0,5})?")
_ORIGIN: Final = re.compile(r"https?://(.+)", re.IGNORECASE)
_BEARER: Final = re.compile(rb"bearer +([^\s]+) *", re.IGNORECASE)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served: the HTTP status, and a sentence."""

    status: HTTPStatus
    text: str


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must show.

    Attributes:
        names: The names and addresses, in lower case, that the server may be reached by, beside the
            address that the connection was made to.
        token_digest: Of the token that is asked for; None where none is.
    """

    names: frozenset[str] = _LOOPBACK_NAMES
    token_digest: bytes | None = None

    @property
    def principal(self) -> str | None:
        """Who has the token; None where none is asked for."""
        return None if self.token_digest is None else f"http-token:{self.token_digest.hex()[:16]}"

    def refusal(self, headers: Headers, reached: str | None, *, open_to_all: bool = False) -> Refusal | None:
        """Return why a request is refused, or None.

        Args:
            headers: Its headers, with names in lower case.
            reached: The server's address that its connection was made to.
            open_to_all: Whether it needs no token.
        """
        listed = list(headers)
        own = self.names | {reached} if reached else self.names
        if (host := _only(listed, b"host")) is None or _name(host) not in own:
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST, f"Host is {host or ''!r:.100}; this server has no such name"
            )
        if not all(_from_one_of(own, origin) for origin in _all(listed, b"origin")):
            return Refusal(HTTPStatus.FORBIDDEN, "Origin is a page of another server")
        if open_to_all or self._has_token(listed):
            return None
        return Refusal(HTTPStatus.UNAUTHORIZED, "an access token is needed: Authorization: Bearer <token>")

    def _has_token(self, headers: list[tuple[bytes, bytes]]) -> bool:
        if self.token_digest is None:
            return True
        given = [value for name, value in headers if name == b"authorization"]
        match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        return match is not None and hmac.compare_digest(_digest(match[1]), self.token_digest)


def grant(host: str, allowed_hosts: Iterable[str], token: str) -> Access:
    """Return the access to a server.

    Args:
        host: The address or name that it listens at.
        allowed_hosts: Further names.
        token: What clients must show; empty for nothing.

    Raises:
        InvalidInput: A name is none, or the token cannot be sent or is too short to be one.
    """
    names = {_checked_name(name) for name in allowed_hosts}
    if token:
        _check_token(token)
    own = {name} if (name := _name(f"[{host}]" if ":" in host else host)) else set[str]()
    return Access(_LOOPBACK_NAMES | names | own, _digest(token.encode()) if token else None)


def new_token() -> str:
    """Return a token of 256 random bits."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _check_token(token: str) -> None:
    fits = token.isascii() and token.isprintable() and " " not in token
    if not (fits and len(token) >= _SHORTEST_TOKEN):
        raise InvalidInput(
            f"{variable('http_token')} cannot be a token; "
            f"it must be {_SHORTEST_TOKEN} or more letters, digits or signs of ASCII, without spaces"
        )


def _checked_name(name: str) -> str:
    found = _name(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
    if found is None or "*" in name or _has_port(name):
        raise InvalidInput(
            f"{variable('http_allowed_hosts')} names {name!r}; "
            "it must be host names or addresses, without scheme and port, with commas between them"
        )
    return found


def _has_port(name: str) -> bool:
    return name.count(":") == 1 or "]:" in name


def _name(authority: str) -> str | None:
    """Return the name in `name:port` in the one way to write it, or None."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    name = (match[1] or match[2]).lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name if match[2] else None


def _from_one_of(names: frozenset[str], origin: str) -> bool:
    match = _ORIGIN.fullmatch(origin)
    return match is not None and _name(match[1]) in names


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _only(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    values = _all(headers, name)
    return values[0] if len(values) == 1 else None


_GRACE_S: Final = 1  # an open stream of events never ends by itself
_KEEP_ALIVE_S: Final = 75  # longer than proxies keep idle connections: who closes first loses no request
_HEALTH: Final = "/healthz"
_LARGEST_BODY: Final = DEFAULT_MAX_REQUEST_BODY_SIZE  # the SDK's, which refuses with 413

_log: Final = logging.getLogger(__name__)


def serve_http(
    server: MCPServer[Any],
    listener: socket.socket,
    access: Access,
    on_start: Callable[[], None],
    on_stop: Callable[[], Awaitable[None]],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        server: The server; its lifespan is entered here.
        listener: Where clients connect; closed at the end.
        access: What their requests must show.
        on_start: Called when clients are served, and a signal ends the server in order.
        on_stop: Awaited first when a signal asks to stop, while answers can still be sent.
    """
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard does it
    app = AccessMiddleware(server.streamable_http_app(transport_security=unchecked), access)
    config = uvicorn.Config(
        app,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        log_config=None,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
    )

    async def stop() -> None:
        await on_stop()
        _end_listening(server)

    runner = _Server(config, on_start, stop)
    with listener, runner.capture_signals():  # a signal that comes while the loop is made breaks it
        runner.run(sockets=[listener])


def _end_listening(server: MCPServer[Any]) -> None:
    """Give those who listen for changes their last word."""
    served = low_level(server).get_request_handler("subscriptions/listen")
    if served is not None and isinstance(served.handler, ListenHandler):
        served.handler.close()


class AccessMiddleware:
    """Stands before every route: Host and Origin, then the token. Answers `/healthz` itself.

    Who shows the token is, to the SDK, a user like those of its own verifiers: their sessions and
    their jobs are theirs alone.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = AuthContextMiddleware(RequestBodyLimitMiddleware(MessageCheck(app), _LARGEST_BODY))
        self._access = access
        self._user = _user(access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the ASGI protocol."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        healthz = scope["path"] == _HEALTH
        reached = (scope.get("server") or (None,))[0]
        refusal = self._access.refusal(scope["headers"], reached, open_to_all=healthz)
        if refusal is not None:
            await _refuse(refusal)(scope, receive, send)
        elif healthz:
            await _health(scope["method"])(scope, receive, send)
        else:
            await self._app({**scope, **self._user}, receive, send)


class MessageCheck:
    """Refuses requests that the SDK would take for notifications, because their id is none.

    Args:
        app: Serves the others.
    """

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


def _user(access: Access) -> dict[str, AuthenticatedUser]:
    if access.principal is None:
        return {}
    return {"user": AuthenticatedUser(AccessToken(token="", client_id=access.principal, scopes=[]))}


def _refuse(refusal: Refusal) -> Response:
    _log.info("refused a request with %d: %s", refusal.status, refusal.text)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else None
    return PlainTextResponse(f"{refusal.text}\n", refusal.status, headers)


def _health(method: str) -> Response:
    if method not in ("GET", "HEAD"):
        return PlainTextResponse("GET it\n", 405, {"Allow": "GET, HEAD"})
    return JSONResponse({"status": "ok", "version": __version__}, headers={"Cache-Control": "no-store"})


class _Server(uvicorn.Server):
    """Tells when it serves, and lets calls be answered before it closes their connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._asked: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of a signal; called between any two instructions."""
        if self._asked is None and self.started:
            self._asked = sig
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether to stop."""
        if self._asked is not None and not self.should_exit:
            await self._on_stop()
            super().handle_exit(self._asked, None)
        return await super().on_tick(counter)
