"""The events of a store in a Redis stream: each is written with its record, in one script.

So none is ever missing or twice, and nothing is mended. A position is the id of an entry.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from python_mcp_server.model import Job
from python_mcp_server.store.events import JobEvent
from python_mcp_server.store.journal import Journal, Position, counted, decoded_event
from python_mcp_server.store.redis.connection import RedisServer

MOST_EVENTS: Final = 100_000
"""Some 400 bytes each, so 40 MB of the server's memory."""
_PAGE: Final = 1000
_CLOCKS: Final = timedelta(minutes=1)
"""Guessed: the clock of the server, by which entries are found, differs by less from that of its clients."""
_DOING: Final = "read the events of the jobs"


class EventStream(Journal):
    """Reads the events of one store. Every method may be called from any thread of any process."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("", _no_lock)
        self._server = server
        self._key = f"{server.address.key_prefix}events"

    @contextmanager
    def noting(self, job: Job, former: Job | None = None) -> Generator[Job]:
        """Yield the job with its transition counted, for the block to write it with `entry`."""
        job, is_transition = counted(job, former)
        yield job
        if is_transition:
            for tell in tuple(self.listeners):
                tell()

    def mend(self, job: Job, number: int) -> None:
        """Do nothing: a record is never without its event."""

    def start_of(self, since: datetime) -> tuple[Position, bool]:
        """Return a position before the events since this time, and whether the stream goes back so far."""
        position = Position(max(0, int((since - _CLOCKS).timestamp() * 1000)), 0)
        first = self._entries("XRANGE", "-", "+", 1)
        return position, not first or _position(first[0]) <= position or not self._is_trimmed()

    def _is_trimmed(self) -> bool:
        facts = self._server.command(_DOING, "XINFO", "STREAM", self._key)
        known: dict[str, Any] = {_text(key): value for key, value in dict(facts).items()}
        return int(known.get("entries-added", 0)) != int(known["length"])  # a server before 7.0 does not tell

    def end(self) -> Position:
        """Return the position after the last event."""
        last = self._entries("XREVRANGE", "+", "-", 1)
        return _position(last[0]) if last else Position(0, 0)

    def read(self, position: Position) -> tuple[list[JobEvent], Position]:
        """Return the next events, up to 1000, and the position to go on from.

        Raises:
            StoreError: The server is away, or refuses.
        """
        entries = self._entries("XRANGE", f"({position.number}-{position.offset}", "+", _PAGE)
        events = [decoded_event(entry[1][b"event"], _position(entry)) for entry in entries]
        found = [event for event in events if event is not None]
        return found, _position(entries[-1]) if entries else position

    def _entries(self, command: str, first: str, last: str, count: int) -> list[Any]:
        return self._server.command(_DOING, command, self._key, first, last, "COUNT", count)


def entry(job: Job, former: Job | None) -> bytes:
    """Return the event of a record that is written now; empty where its state is the same."""
    if job.event is None or (former is not None and job.event is former.event):
        return b""
    return json.dumps(JobEvent.of(job, job.event).to_json(), separators=(",", ":")).encode()


def _position(found: Any) -> Position:
    number, _, offset = found[0].decode().partition("-")
    return Position(int(number), int(offset))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _no_lock(name: str) -> Any:
    raise NotImplementedError(name)
