"""The private parts of the SDK that are used: why a request was cancelled, whether its client wants progress,
the low-level server, its tools, and the connection of a request.

One more, `_pydantic_readable_typeddict`, is imported by `adapter` and `replies` themselves.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.dispatcher import as_request_id, coerce_request_id

from python_mcp_server.model import cut_label

if TYPE_CHECKING:
    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.mcpserver.tools import Tool
    from mcp.server.session import ServerSession

    from python_mcp_server.server.sdk.progress import Send

AnyContext = Context[Any, Any]

_TIME_OUT: Final = re.compile(r"time[sd]?[ _-]?out|deadline|too long", re.IGNORECASE)
_KEPT: Final = 256


def progress_sender(ctx: AnyContext | None) -> Send | None:
    """Return the function that sends progress to the caller of a request; None where the caller wants none.

    The reason of a cancel of this request is noted from now on.
    """
    if ctx is None or (request := request_of(ctx)) is None:
        return None
    channel = _channel(request)
    _note_cancel_reasons(channel)
    # a client in the same process gives a callback instead of a token
    in_process = getattr(channel, "_on_progress", None) is not None
    return ctx.report_progress if in_process or "progress_token" in (request.meta or {}) else None


def cancel_cause(ctx: AnyContext) -> str:
    """Return why this request was cancelled, as far as is known.

    Returns:
        "timeout" where the reason in the client's cancel names a time-out, "user" for any other cancel,
        "dropped" where the client sent none: its connection is gone, or the server is exiting.
    """
    request = request_of(ctx)
    channel = _channel(request)
    asked = getattr(channel, "cancel_requested", None)
    if asked is None or not asked.is_set():
        return "dropped"
    reasons = getattr(_dispatcher(channel), "_on_notify_intercept", None)
    if not isinstance(reasons, CancelReasons) or request is None:
        return "user"
    return "timeout" if _TIME_OUT.search(reasons.reason(request.request_id)) else "user"


def request_of(ctx: Any) -> ServerRequestContext[Any, Any] | None:
    """Return the request behind the SDK's `Context`, or behind FastMCP's; None outside of a request."""
    found: Any = None if ctx is None else ctx.request_context
    return getattr(found, "_srctx", found)


def client_name(ctx: AnyContext) -> str | None:
    """Return the name and the version that the client of a request gives itself; None where it gives none."""
    request = request_of(ctx)
    params = None if request is None else request.session.client_params
    if params is None:
        return None
    return cut_label(f"{params.client_info.name} {params.client_info.version}".strip())


def _note_cancel_reasons(channel: Any) -> None:
    """Listen to the connection's cancel notifications, because the SDK drops their reasons.

    The intercept is called before the cancelled task wakes, on every transport.
    """
    dispatcher = _dispatcher(channel)
    if dispatcher is not None and getattr(dispatcher, "_on_notify_intercept", ...) is None:
        dispatcher._on_notify_intercept = CancelReasons()  # noqa: SLF001


def _channel(request: ServerRequestContext[Any, Any] | None) -> Any:
    channel = getattr(getattr(request, "session", None), "_request_outbound", None)
    return getattr(channel, "_inner", channel)


def _dispatcher(channel: Any) -> Any:
    return getattr(channel, "_dispatcher", None)


def low_level(server: MCPServer[Any]) -> Server[Any]:
    """Return the server that runs on a pair of message streams, for transports of our own."""
    return server._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def tools_of(server: MCPServer[Any]) -> dict[str, Tool]:
    """Return the server's own mapping of names to tools: what is added to it is served."""
    return server._tool_manager._tools  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def connection_of(session: ServerSession) -> Connection:
    """Return the connection that a request came by; its `state` and `exit_stack` live as long as it."""
    return session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class CancelReasons:
    """The reasons that one connection's cancel notifications gave, the latest 256 of them."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[str | int, str] = OrderedDict()

    def __call__(self, method: str, params: Mapping[str, Any] | None) -> bool:
        """Look at one notification, and let it pass."""
        request_id = as_request_id((params or {}).get("requestId"))
        if method == "notifications/cancelled" and request_id is not None:
            self._reasons[coerce_request_id(request_id)] = str((params or {}).get("reason") or "")
            if len(self._reasons) > _KEPT:
                self._reasons.popitem(last=False)
        return False

    def reason(self, request_id: str | int | None) -> str:
        """Return the reason that the cancel of this request gave."""
        return "" if request_id is None else self._reasons.get(coerce_request_id(request_id), "")
