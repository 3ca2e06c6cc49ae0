"""The client's pipes, and the lines that come and go on them.

    take_over_stdio ──▶ StdioPipes ──▶ LineConnection (pipes, sockets) or LineFiles (terminals, files)

`serve` takes the pipes over before it does anything else: all that this process starts or loads afterwards
finds the null device at fd 0 and stderr at fd 1, so only the server can read a request or write a byte to the
client. This module imports nothing of the SDK, because importing that takes half a second, and the first
worker is started before.

A `LineConnection` reads and writes on the event loop, without a thread and without a copy beyond the
line. It is the asyncio protocol of the single socket, or of the writing pipe; the reading pipe has a
protocol of its own, because the end of the requests is not the end of the answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

LINE_LIMIT_BYTES: Final = 64 * 1024 * 1024
_QUEUE_BYTES: Final = 4 * 1024 * 1024  # of whole lines that are not read yet; then receiving pauses
_ABOVE_STANDARD: Final = 3


@dataclass(frozen=True, slots=True)
class StdioPipes:
    """The client's pipes, as close-on-exec descriptors that only the server knows."""

    read_fd: int
    write_fd: int

    @property
    def pollable(self) -> bool:
        """Whether an event loop can wait for both: they are pipes or sockets."""
        return sys.platform != "win32" and all(
            _pollable(os.fstat(fd)) for fd in (self.read_fd, self.write_fd)
        )

    @property
    def is_single_socket(self) -> bool:
        """Whether both are the same socket, as some launchers do it."""
        return _same(self.read_fd, self.write_fd) and stat.S_ISSOCK(os.fstat(self.read_fd).st_mode)


def take_over_stdio() -> StdioPipes:
    """Divert fd 0 to null and fd 1 to stderr, and return the client's pipes.

    Text that was printed before and lies in Python's buffer goes to stderr too.
    """
    pipes = StdioPipes(_private(0), _private(1))
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    _divert_stdout()
    sys.stdout.flush()
    return pipes


def _private(fd: int) -> int:
    if sys.platform == "win32":
        return os.dup(fd)
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)


def _divert_stdout() -> None:
    """Point fd 1 at stderr, or at null where stderr is the client's pipe too (`2>&1`)."""
    if not _same(1, 2):
        os.dup2(2, 1)
        return
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


def _same(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:  # fd 2 is closed: then there is no stderr to divert to either
        return True


def _pollable(status: os.stat_result) -> bool:
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)


class LineTooLong(Exception):
    """A line exceeded the limit; it was skipped, and the next one can be read."""


class Lines(Protocol):
    """The two directions of a client's lines."""

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
    """Lines of a terminal or a file, which an event loop cannot wait for: threads read and write them. Both
    ends stay open, and a line above `limit_bytes` is dropped.
    """

    def __init__(self, pipes: StdioPipes, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._source = os.fdopen(pipes.read_fd, "rb", closefd=False)
        self._sink = os.fdopen(pipes.write_fd, "wb", buffering=0, closefd=False)
        self._limit_bytes = limit_bytes
        self._writing = asyncio.Lock()
        self._stopped = False

    async def read_line(self) -> bytes | None:
        """Return the next line, without its end; None when there will be none.

        Raises:
            LineTooLong: This line exceeded the limit.
        """
        if self._stopped:
            return None
        from anyio import to_thread  # late, because only terminals and files need it

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
        from anyio import to_thread

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
        """End the reading, after the line that a thread waits for has come."""
        self._stopped = True


class LineConnection(asyncio.Protocol):
    """Reads lines, each of up to `limit_bytes`, and writes bytes."""

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

    async def open(self, pipes: StdioPipes) -> None:
        """Take both ends of the pipes; they are closed with this connection."""
        loop = asyncio.get_running_loop()
        if pipes.is_single_socket:
            os.close(pipes.write_fd)
            both, _ = await loop.connect_accepted_socket(lambda: self, socket.socket(fileno=pipes.read_fd))
            self._reader = self._writer = both
            return
        self._writer, _ = await loop.connect_write_pipe(lambda: self, os.fdopen(pipes.write_fd, "wb", 0))
        incoming = os.fdopen(pipes.read_fd, "rb", 0)
        self._reader, _ = await loop.connect_read_pipe(lambda: _Incoming(self), incoming)

    async def read_line(self) -> bytes | None:
        """Return the next line, without its end; None when there will be none.

        Raises:
            LineTooLong: This line exceeded the limit.
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
        """End the reading at once: lines that were not read yet are dropped."""
        self._lines.clear()
        self._end()

    async def close(self, flush_s: float) -> None:
        """Close both ends, after all written bytes are sent or this time is over."""
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
        """Split the received bytes into lines."""
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
        """Note that nothing can be read or written any more."""
        self._end()
        self._lost.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Note that the other side does not keep up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that the other side keeps up again."""
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
