"""The connections of the HTTP server: how many there are, and how long each may take to ask.

uvicorn bounds neither: its `limit_concurrency` answers 503 once a request has come, so a silent connection
counts and stays, and it has no time-out for a head or a body. Where there is no room, the connection that has
waited longest without a request gives way to the new one, so silent connections keep no client out. A
connection whose request is being served is closed only where its client reads nothing of a large answer,
which would stay in memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from python_mcp_server.errors import InvalidInput
from python_mcp_server.processes.inherited import open_files
from python_mcp_server.server.transports.access import LARGEST_HEAD
from python_mcp_server.settings import variable

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_S: Final = 15.0
BODY_S: Final = 60.0
BODY_BYTES_PER_S: Final = 10_000
"""What has come of a body gives the rest more time, as `MinRate` of Apache's mod_reqtimeout does. A time for
the whole body shuts slow clients out; one between two reads, as nginx has it, lets a drip go on for days."""
_MOST_BODY_S: Final = 600.0
"""The largest body takes 480 s at that rate; a body that is refused as too large may never end."""
READ_S: Final = 60.0
"""As nginx's `send_timeout`."""
_FREE_CHUNKS: Final = 200
_CHUNK_BYTES: Final = 64
"""How large chunks are on average, beyond so many of any size; guessed: clients send some KB at once."""
_MOST: Final = 4096
_SHARE: Final = 4
"""A quarter of the descriptors, because workers and jobs take some too, and a burst is accepted at once."""
_IPV6_HOST_BITS: Final = 64

_log: Final = logging.getLogger(__name__)


class Phase(Enum):
    """The state of a connection. `HttpConnection._enter` makes each change.

        HEAD -> BODY -> SERVED -> KEPT -> HEAD ...

    A refused request may be answered before its body has come: it is then in BODY, and served no more.
    """

    HEAD = "its next request has not come whole"
    BODY = "the body of its request has not come whole"
    SERVED = "its request is being answered"
    KEPT = "its client may ask again, within uvicorn's time for it"


def most_connections(wanted: int) -> int:
    """Return how many connections may be open at once.

    Args:
        wanted: The setting; 0 for a quarter of the descriptors that this process may open, at most 4,096.

    Raises:
        InvalidInput: The setting is more than half of these descriptors.
    """
    limit = open_files() or _MOST
    if wanted > limit // 2:
        raise InvalidInput(
            f"{variable('http_max_connections')} is {wanted}; it must be at most {limit // 2}, "
            f"half of the {limit} files that this process may open"
        )
    return wanted or max(1, min(_MOST, limit // _SHARE))


class Connections:
    """The open connections, each of which makes itself known here.

    One address, or one IPv6 network of 64 bits, may hold half of them. An address of this machine may hold
    all, because a proxy may stand there.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sources: dict[HttpConnection, str | None] = {}
        self._of_source: Counter[str | None] = Counter()
        self._silent: dict[HttpConnection, None] = {}  # these have asked nothing yet, the oldest first
        self._idle: dict[HttpConnection, None] = {}

    def admit(self, connection: HttpConnection) -> bool:
        """Return whether a new connection may stay; at the limit, an idle one is closed for it."""
        source = _source(connection.client)
        if source is not None and self._of_source[source] >= max(1, self._most // 2):
            admitted = self._make_room(c for c in self._waiting() if self._sources[c] == source)
        else:
            admitted = len(self._sources) < self._most or self._make_room(self._waiting())
        if admitted:
            self._sources[connection] = source
            self._of_source[source] += 1
        return admitted

    def note(self, connection: HttpConnection, *, idle: bool) -> None:
        """Note whether a connection waits for its client."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)
        if idle and connection in self._sources:
            (self._idle if connection.has_asked else self._silent)[connection] = None

    def remove(self, connection: HttpConnection) -> None:
        """Forget a connection that is closed; a second time does nothing."""
        self.note(connection, idle=False)
        if connection in self._sources:
            source = self._sources.pop(connection)
            self._of_source[source] -= 1
            if not self._of_source[source]:
                del self._of_source[source]

    def _waiting(self) -> Iterable[HttpConnection]:
        return chain(self._silent, self._idle)

    def _make_room(self, candidates: Iterable[HttpConnection]) -> bool:
        oldest = next(iter(candidates), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.end("it gave way to a new one, because too many are open")
        return True


def _source(client: tuple[str, int] | None) -> str | None:
    """Return what connections are counted by; None for this machine."""
    if client is None:
        return None
    address = ipaddress.ip_address(client[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), _IPV6_HOST_BITS), strict=False))
    return str(address)


class BoundedHttp(h11.Connection):
    """The state of a connection, which refuses bodies of many small chunks: h11 takes 20 us for each, so that
    one client would keep the loop busy with little data.
    """

    def __init__(self, largest_head: int) -> None:
        super().__init__(h11.SERVER, largest_head)
        self._chunks = self._bytes = 0

    def next_event(self) -> Any:
        """Return the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: What the client has sent is not valid, or its chunks are too small.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._bytes // _CHUNK_BYTES:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event


class HttpConnection(H11Protocol):
    """One connection of uvicorn's, with a time for its request to come whole."""

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.conn = BoundedHttp(LARGEST_HEAD)
        self._all = connections
        self._phase: Phase | None = None
        self._stalled = False
        self._since = 0.0
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def has_asked(self) -> bool:
        """Whether the head of a request has come."""
        return self.scope is not None  # pyright: ignore[reportUnnecessaryComparison]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or close it at the limit."""
        super().connection_made(transport)
        if self._all.admit(self):
            self._enter(Phase.HEAD)
        else:
            self.end("too many are open, and each of them is being served")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._stop_unread_timer()
        self._all.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        super().data_received(data)
        self._body_bytes += 0 if self._is_answered() else len(data)  # what is refused gets no more time
        self._enter(self._present_phase())

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._enter(self._present_phase())

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with 400, unless an answer has begun: there uvicorn would raise."""
        if self.has_asked:
            self.cycle.disconnected = True  # the application's answer would come after this one
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Note that the client reads nothing, so that it may give way, or is closed in the end."""
        super().pause_writing()
        self._note(stalled=True)
        self._watch_unread()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._note(stalled=False)
        if not self.transport.is_closing():
            self._stop_unread_timer()

    def shutdown(self) -> None:
        """End at the end of the server; where nothing can be answered any more, at once."""
        if self._stalled or self._phase is Phase.BODY:
            self.transport.abort()  # otherwise uvicorn would wait, and log a traceback
        else:
            super().shutdown()

    def end(self, reason: str) -> None:
        """Close the connection at once."""
        if not self.transport.is_closing():
            address = self.client[0] if self.client else "an unknown address"
            _log.info("closed a connection of %s: %s", address, reason, extra={"kind": (address, reason)})
        self.transport.abort()

    def _present_phase(self) -> Phase:
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY
        if not self._is_answered() or self.conn.their_state is not h11.IDLE:
            return Phase.SERVED
        return Phase.KEPT if self.has_asked and not self.conn.trailing_data[0] else Phase.HEAD

    def _is_answered(self) -> bool:
        return not self.has_asked or self.cycle is None or self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _enter(self, phase: Phase) -> None:
        if phase is not self._phase:
            self._stop_timer()
            self._phase = phase
            self._since = self.loop.time()
            self._body_bytes = 0
            if not self.transport.is_closing():
                self._check_time(phase)
        if self.transport.is_closing():  # which takes until the client has read all, however long that is
            self._watch_unread()
        self._note(stalled=self._stalled)

    def _check_time(self, phase: Phase) -> None:
        """End the connection where the time of its phase is over, else look again when it will be."""
        if (allowed_s := self._allowed_s(phase)) is None:
            return
        left_s = self._since + allowed_s - self.loop.time()
        if left_s > 0:
            self._timer = self.loop.call_later(left_s, self._check_time, phase)
        elif phase is Phase.KEPT and not self.transport.get_write_buffer_size():
            self.timeout_keep_alive_handler()
        elif phase is Phase.KEPT:
            self.end("its client has not read the answer")
        elif phase is Phase.HEAD:
            self.end(f"{phase.value} within {HEAD_S:g} s")
        else:
            self.end(f"{phase.value} within {BODY_S:g} s, and 1 s for each {BODY_BYTES_PER_S} bytes")

    def _allowed_s(self, phase: Phase) -> float | None:
        if phase is Phase.BODY:
            return min(BODY_S + self._body_bytes / BODY_BYTES_PER_S, _MOST_BODY_S)
        return {Phase.HEAD: HEAD_S, Phase.KEPT: float(self.timeout_keep_alive)}.get(phase)

    def _watch_unread(self) -> None:
        """End the connection in a while, unless its client reads by then; nothing is added meanwhile."""
        unread = self.transport.get_write_buffer_size()
        if unread and self._unread_timer is None:
            self._unread_timer = self.loop.call_later(READ_S, self._check_unread, unread)

    def _check_unread(self, before: int) -> None:
        self._unread_timer = None
        if self.transport.get_write_buffer_size() < before:
            self._watch_unread()
        else:
            self.end(f"its client has read nothing of an answer for {READ_S:g} s")

    def _note(self, *, stalled: bool) -> None:
        self._stalled = stalled
        waits = self._phase is not Phase.SERVED and self._is_answered()
        self._all.note(self, idle=waits or stalled or self.transport.is_closing())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
