"""Bounds the sessions of the older versions of the protocol, which the SDK keeps for 30 minutes each.

The SDK bounds them over all clients only, and then refuses new ones. Here a client that opens many loses its
own oldest idle one, as if it had ended that session itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_SESSIONS: Final = 256
_ID: Final = b"mcp-session-id"
_LAST_EVENT: Final = b"last-event-id"

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _LegacySession:
    principal: str | None
    requests: int = 0


class SessionLimit:
    """Keeps at most 256 sessions of a principal, beside those with a request or a stream under way.

    `Last-Event-ID` is dropped: no events are kept, and where it is given the SDK answers nothing, which is a
    500. A client that wants to resume a stream gets a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._sessions: dict[bytes, _LegacySession] = {}  # the last one used is the last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the ASGI protocol."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != _LAST_EVENT]
        scope = {**scope, "headers": headers}
        given = dict(headers).get(_ID)
        if given is None:
            await self._open(scope, receive, send)
        else:
            await self._use(given, scope, receive, send)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened: bytes | None = None

        async def watch(message: Message) -> None:
            nonlocal opened
            if message["type"] == "http.response.start" and message["status"] < HTTPStatus.BAD_REQUEST:
                opened = dict(message.get("headers", ())).get(_ID)
                if opened is not None:
                    self._sessions[opened] = _LegacySession(_principal(scope))
            await send(message)

        await self._app(scope, receive, watch)
        if opened is not None:
            await self._end_oldest(scope)

    async def _use(self, session_id: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._sessions.get(session_id)
        if session is None or session.principal != _principal(scope):
            await self._app(scope, receive, send)
            return
        gone = False

        async def watch(message: Message) -> None:
            nonlocal gone
            if message["type"] == "http.response.start":
                ok = message["status"] < HTTPStatus.BAD_REQUEST
                gone = message["status"] == HTTPStatus.NOT_FOUND or (scope["method"] == "DELETE" and ok)
            await send(message)

        session.requests += 1
        try:
            await self._app(scope, receive, watch)
        finally:
            session.requests -= 1
            if self._sessions.pop(session_id, None) is not None and not gone:
                self._sessions[session_id] = session

    async def _end_oldest(self, scope: Scope) -> None:
        """End the principal's oldest idle session where it has too many."""
        own = [key for key, each in self._sessions.items() if each.principal == _principal(scope)]
        oldest = next((key for key in own if not self._sessions[key].requests), None)
        if len(own) <= MOST_SESSIONS or oldest is None:
            return
        del self._sessions[oldest]
        _log.info("ended the oldest idle session of a client that has more than %d", MOST_SESSIONS)
        kept = [pair for pair in scope["headers"] if pair[0] in (b"host", b"authorization")]
        ending = {**scope, "method": "DELETE", "headers": [*kept, (_ID, oldest)]}
        await self._app(ending, _nothing, _drop)


def _principal(scope: Scope) -> str | None:
    user: Any = scope.get("user")
    return None if user is None else user.username


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _drop(message: Message) -> None:
    """Take an answer that no client waits for."""
