"""The server's ends of a worker's wires: they read and write frames beside an event loop."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from python_mcp_server.pool.protocol import HEADER, READ_SIZE, WINDOWS, FrameParser

if TYPE_CHECKING:
    import asyncio

_log: Final = logging.getLogger(__name__)


FrameHandler = Callable[[bytes, bytes], None]


def _handle(on_frame: FrameHandler, kind: bytes, payload: bytes) -> None:
    """Pass a frame to its handler; an error of the handler must not stop the frames behind it."""
    try:
        on_frame(kind, payload)
    except Exception:  # noqa: BLE001  a listener may fail in any way
        _log.exception("a frame of kind %r could not be handled", kind)


class LoopReader:
    """Reads a wire through the event loop's own reader; never blocks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, on_frame: FrameHandler) -> None:
        self._loop = loop
        self._fd = fd
        self._on_frame = on_frame
        self._parser = FrameParser()
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._readable)

    def _readable(self) -> bool:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            _log.debug("a wire was closed under its reader: %s", error)
            data = b""
        if not data:
            self.close()
        for kind, payload in self._parser.feed(data):
            _handle(self._on_frame, kind, payload)
        return bool(data)

    def drain(self) -> None:
        """Read the frames that have arrived, without waiting."""
        while self._fd >= 0 and self._readable():
            pass

    def close(self) -> None:
        """Stop reading; the descriptor stays open, because another object owns it."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1


class ThreadReader:
    """Reads a wire with a thread, where the loop cannot watch it (Windows)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, on_frame: FrameHandler
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._run, name="worker-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                frame = self._connection.recv_bytes()
                self._loop.call_soon_threadsafe(_handle, self._on_frame, frame[:1], frame[1:])
        except (EOFError, OSError, RuntimeError):
            return  # the worker is gone, the wire was closed, or the loop was

    def drain(self) -> None:
        """Wait a moment for frames that are on their way."""
        self._thread.join(0.2)

    def close(self) -> None:
        """Stop reading; the thread ends when the wire is closed."""


class LoopWriter:
    """Writes frames to a worker without ever blocking the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self._loop = loop
        self._connection = connection
        self._fd = -1 if WINDOWS else connection.fileno()
        self._waiting: deque[memoryview] = deque()
        self._closed = False
        if self._fd >= 0:
            os.set_blocking(self._fd, False)

    def send(self, frame: bytes) -> None:
        """Send a frame, or as much as fits now, and the rest when the pipe has room.

        Raises:
            BrokenPipeError: The worker is gone; its death is also noticed elsewhere.
        """
        if self._closed:  # the number of its descriptor may belong to another file by now
            raise BrokenPipeError
        if self._fd < 0:
            self._loop.run_in_executor(None, self._connection.send_bytes, frame[HEADER:])
            return
        if self._waiting:
            self._waiting.append(memoryview(frame))
            return
        rest = self._write(memoryview(frame))
        if rest:
            self._waiting.append(rest)
            self._loop.add_writer(self._fd, self._writable)

    @property
    def unsent(self) -> int:
        """Return how many bytes wait for room in the pipe."""
        return sum(len(rest) for rest in self._waiting)

    def _write(self, data: memoryview) -> memoryview:
        try:
            return data[os.write(self._fd, data) :]
        except BlockingIOError:
            return data

    def _writable(self) -> None:
        try:
            rest = self._write(self._waiting[0])
        except BrokenPipeError:
            self.close()
            return
        if rest:
            self._waiting[0] = rest
            return
        self._waiting.popleft()
        if not self._waiting:
            self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """Stop sending; the descriptor stays open, because another object owns it."""
        self._closed = True
        if self._waiting:
            self._loop.remove_writer(self._fd)
            self._waiting.clear()
