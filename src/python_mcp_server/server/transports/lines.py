"""A client's lines: over pipes or a socket on the event loop itself, without a thread or a copy beyond the
line; through threads where an event loop cannot wait.

Knows no SDK. A `LineConnection` is the protocol of the one socket, or of the writing pipe; that of the
reading pipe only passes on what comes, for its end is not the end of the way back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from anyio import to_thread

if TYPE_CHECKING:
    from python_mcp_server.server.transports.stdio import StdioPipes

LINE_LIMIT_BYTES: Final = 64 * 1024 * 1024
_QUEUE_BYTES: Final = 4 * 1024 * 1024  # of whole lines that nobody has taken yet; then reading pauses


class LineTooLong(Exception):
    """A line went over the limit; it was skipped, the next one can be read."""


class Lines(Protocol):
    """Where a client's lines come from and go to."""

    async def read_line(self) -> bytes | None:
        """Return the next line; None when there will be none."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of it."""
        ...

    def stop(self) -> None:
        """End the reading."""
        ...


class LineFiles:
    """Lines of a terminal or a file, which an event loop cannot wait for: threads read and write them.

    Args:
        wire: Both ends; they stay open.
        limit_bytes: The longest line that is kept.
    """

    def __init__(self, wire: StdioPipes, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._source = os.fdopen(wire.read_fd, "rb", closefd=False)
        self._sink = os.fdopen(wire.write_fd, "wb", buffering=0, closefd=False)
        self._limit_bytes = limit_bytes
        self._writing = asyncio.Lock()
        self._stopped = False

    async def read_line(self) -> bytes | None:
        """Return the next line, without its end; None when there will be none.

        Raises:
            LineTooLong: This line went over the limit.
        """
        if self._stopped:
            return None
        read = await to_thread.run_sync(self._read, abandon_on_cancel=True)
        if len(line := read.removesuffix(b"\n")) > self._limit_bytes:
            raise LineTooLong
        return line if read else None

    def _read(self) -> bytes:
        line = part = self._source.readline(self._limit_bytes + 2)
        while len(part) > self._limit_bytes + 1 and not part.endswith(b"\n"):
            part = self._source.readline(self._limit_bytes + 2)
        return line

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            BrokenPipeError: The other side is gone.
        """
        async with self._writing:
            await to_thread.run_sync(self._write, data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._sink.write(rest) :]
        except OSError as error:  # a terminal that hung up says EIO
            raise BrokenPipeError(str(error)) from error

    def stop(self) -> None:
        """End the reading, once the line is there that a thread waits for."""
        self._stopped = True


class LineConnection(asyncio.Protocol):
    """Reads lines and writes bytes.

    Args:
        limit_bytes: The longest line that is kept.
    """

    def __init__(self, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lines: deque[bytes | None] = deque()  # None stands for a line that was too long
        self._queued_bytes = 0
        self._partial = bytearray()
        self._skipping = False
        self._ended = False
        self._lost = asyncio.Event()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None

    async def open(self, wire: StdioPipes) -> None:
        """Take both ends of the wire; they are closed with this connection."""
        loop = asyncio.get_running_loop()
        if wire.one_socket:
            os.close(wire.write_fd)
            both, _ = await loop.connect_accepted_socket(lambda: self, socket.socket(fileno=wire.read_fd))
            self._reader = self._writer = both
            return
        self._writer, _ = await loop.connect_write_pipe(lambda: self, os.fdopen(wire.write_fd, "wb", 0))
        incoming = os.fdopen(wire.read_fd, "rb", 0)
        self._reader, _ = await loop.connect_read_pipe(lambda: _Incoming(self), incoming)

    async def read_line(self) -> bytes | None:
        """Return the next line, without its end; None when there will be none.

        Raises:
            LineTooLong: This line went over the limit.
        """
        while not self._lines:
            if self._ended:
                return None
            self._readable.clear()
            await self._readable.wait()
        line = self._lines.popleft()
        if line is None:
            raise LineTooLong
        self._queued_bytes -= len(line)
        if self._queued_bytes <= _QUEUE_BYTES and self._reader is not None and not self._ended:
            self._reader.resume_reading()
        return line

    async def write(self, data: bytes) -> None:
        """Write all of it; wait while the other side does not read.

        Raises:
            BrokenPipeError: The other side is gone.
        """
        if self._writer is None or self._lost.is_set() or self._writer.is_closing():
            raise BrokenPipeError("the client closed its end")
        self._writer.write(data)
        await self._writable.wait()

    def stop(self) -> None:
        """End the reading at once: what came and was not read yet is dropped."""
        self._lines.clear()
        self._end()

    async def close(self, flush_s: float) -> None:
        """Close both ends, after what was written is out or this time is over."""
        self._end()
        if self._reader is not None and not isinstance(self._reader, asyncio.WriteTransport):
            self._reader.close()
        if self._writer is None:
            return
        self._writer.close()
        try:
            async with asyncio.timeout(flush_s):
                await self._lost.wait()
        except TimeoutError:
            self._writer.abort()

    def data_received(self, data: bytes) -> None:
        """Split what came into lines."""
        searched = len(self._partial)
        self._partial += data
        if b"\n" not in data:
            self._bound_partial()
            return
        start, end = 0, self._partial.find(b"\n", searched)
        while end >= 0:
            self._queue(bytes(self._partial[start:end]))
            start, end = end + 1, self._partial.find(b"\n", end + 1)
        del self._partial[:start]
        self._bound_partial()
        self._readable.set()
        if self._queued_bytes > _QUEUE_BYTES and self._reader is not None:
            self._reader.pause_reading()

    def _queue(self, line: bytes) -> None:
        if self._skipping or len(line) > self._limit_bytes:
            self._skipping = False
            self._lines.append(None)
            return
        self._queued_bytes += len(line)
        self._lines.append(line)

    def _bound_partial(self) -> None:
        if len(self._partial) > self._limit_bytes or self._skipping:
            self._skipping = bool(self._partial)
            self._partial.clear()

    def eof_received(self) -> bool:
        """Count a last line without an end, and keep the way back open for answers."""
        if self._partial:
            self._queue(bytes(self._partial))
            self._partial.clear()
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nothing can be read or written any more."""
        self._end()
        self._lost.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The other side does not keep up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    def _end(self) -> None:
        self._ended = True
        self._readable.set()


class _Incoming(asyncio.Protocol):
    """The reading end of two pipes."""

    def __init__(self, lines: LineConnection) -> None:
        self._lines = lines

    def data_received(self, data: bytes) -> None:
        self._lines.data_received(data)

    def eof_received(self) -> bool:
        return self._lines.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lines.eof_received()
