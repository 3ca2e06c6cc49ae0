"""The wires of a lane: one multiprocessing queue up, two pipes down, and frames on them.

A frame is one kind byte and a payload, in the framing of `multiprocessing.Connection`, so that both
ends may also be read with `recv_bytes` where a loop cannot watch them. The queue is written by one
process only, so its lock is never waited for; a dead worker leaves at most half a frame, which
nobody waits for either.

    front                                          worker
    LoopWriter  ── calls    (pipe) ──────────────▶ main thread, blocking
    LoopWriter  ── control  (pipe) ──────────────▶ control thread, blocking
    LoopReader  ◀─ progress, outcome (queue) ───── UpWriter, one lock, never blocks on progress
"""

from __future__ import annotations

import os
import select
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import asyncio

WINDOWS: Final = sys.platform == "win32"
READ_SIZE: Final = 1 << 16
"""Measured: from 128 KiB on each read maps and unmaps its buffer, which costs more than the read."""

_LONG: Final = 0x7FFFFFFF
_HEADER: Final = 4
_LONG_HEADER: Final = 12
PIPE_ATOM: Final = 512 if WINDOWS else select.PIPE_BUF
"""A write of at most this many bytes goes through whole or not at all."""


class Kind:
    """The first byte of a frame."""

    CALL: Final = b"C"  # down: a pickled Call
    IMPORT: Final = b"I"  # down: names of modules to load while idle
    KEEP: Final = b"K"  # control: finish this job without a parent
    RECORD: Final = b"D"  # control: this job is durable now, its folder takes the output
    CANCEL: Final = b"X"  # control: raise JobCancelled in this job's body
    READY: Final = b"R"  # up: the worker takes calls
    PROGRESS: Final = b"P"  # up: a JobProgress
    OUTCOME: Final = b"O"  # up: the last word on a call


@dataclass(frozen=True, slots=True)
class WorkerEnds:
    """What a worker gets: it travels once, while the process is being started."""

    calls: Any
    control: Any
    up: Any


@dataclass(frozen=True, slots=True)
class FrontEnds:
    """What the front keeps."""

    calls: Any
    control: Any
    up: Any


def open_channel(context: Any) -> tuple[FrontEnds, WorkerEnds]:
    """Make the wires of one lane from a multiprocessing context."""
    calls_in, calls_out = context.Pipe(duplex=False)
    control_in, control_out = context.Pipe(duplex=False)
    up = context.SimpleQueue()
    return FrontEnds(calls_out, control_out, up), WorkerEnds(calls_in, control_in, up)


def close_ends(ends: FrontEnds | WorkerEnds) -> None:
    """Close all wires of one side."""
    for end in (ends.calls, ends.control, ends.up):
        end.close()


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """Return the frame as bytes for the wire."""
    size = len(payload) + 1
    header = struct.pack("!i", size) if size <= _LONG else struct.pack("!iQ", -1, size)
    return header + kind + payload


class FrameParser:
    """Cuts a stream of bytes into frames; keeps what is not whole yet."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take the next bytes; yield each whole frame as kind and payload."""
        buffer = self._buffer
        if not buffer and len(data) >= _HEADER and struct.unpack_from("!i", data)[0] == len(data) - _HEADER:
            yield data[4:5], data[5:]  # one whole frame and nothing else: nearly always
            return
        buffer += data
        while (bounds := self._bounds()) is not None:
            start, end = bounds
            kind = bytes(buffer[start : start + 1])
            with memoryview(buffer) as view:  # a slice of the buffer itself would copy it twice
                payload = bytes(view[start + 1 : end])
            del buffer[:end]
            yield kind, payload

    def _bounds(self) -> tuple[int, int] | None:
        buffer = self._buffer
        if len(buffer) < _HEADER:
            return None
        size, start = struct.unpack_from("!i", buffer)[0], _HEADER
        if size < 0:
            if len(buffer) < _LONG_HEADER:
                return None
            size, start = struct.unpack_from("!Q", buffer, _HEADER)[0], _LONG_HEADER
        return (start, start + size) if len(buffer) >= start + size else None


class Reader(Protocol):
    """Reads frames for the front until it is closed."""

    def drain(self) -> None:
        """Read what is there now, without waiting."""

    def close(self) -> None:
        """Stop reading."""


FrameHandler = Callable[[bytes, bytes], None]


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
        if not data:
            self.close()
        for kind, payload in self._parser.feed(data):
            self._on_frame(kind, payload)
        return bool(data)

    def drain(self) -> None:
        """Read what is there now, without waiting."""
        while self._fd >= 0 and self._readable():
            pass

    def close(self) -> None:
        """Stop reading; the descriptor stays open, for it is not ours."""
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
        self._thread = threading.Thread(target=self._run, name="lane-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                frame = self._connection.recv_bytes()
                self._loop.call_soon_threadsafe(self._on_frame, frame[:1], frame[1:])
        except (EOFError, OSError, RuntimeError):
            return  # the worker is gone, the wire was closed, or the loop was

    def drain(self) -> None:
        """Wait a moment for what is on its way."""
        self._thread.join(0.2)

    def close(self) -> None:
        """Stop reading; the thread ends with the wire."""


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
            BrokenPipeError: The worker is gone; its death is noticed elsewhere too.
        """
        if self._closed:  # the number of its descriptor may be somebody else's by now
            raise BrokenPipeError
        if self._fd < 0:
            self._loop.run_in_executor(None, self._connection.send_bytes, frame[_HEADER:])
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
        """How many bytes wait for room in the pipe."""
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
        """Send no more; the descriptor stays open, for it is not ours."""
        self._closed = True
        if self._waiting:
            self._loop.remove_writer(self._fd)
            self._waiting.clear()


class UpWriter:
    """The worker's end of the queue. Any of its threads may write; a forked child may not."""

    def __init__(self, queue: Any) -> None:
        self._connection: Connection = queue._writer  # the queue's own put would pickle and may block
        self._lock = threading.Lock()
        self._pid = os.getpid()
        if not WINDOWS:
            os.set_blocking(self._connection.fileno(), False)

    def offer(self, frame: bytes) -> bool:
        """Send a frame of at most `PIPE_ATOM` bytes if the pipe has room for it now.

        Returns:
            Whether it was sent; False also for half the world being gone.
        """
        if os.getpid() != self._pid:
            return False
        with self._lock:
            try:
                if WINDOWS:
                    self._connection.send_bytes(frame[_HEADER:])
                else:
                    os.write(self._connection.fileno(), frame)
            except (BlockingIOError, BrokenPipeError):
                return False
        return True

    def send(self, frame: bytes) -> None:
        """Send a frame of any size and wait until it is through.

        Raises:
            BrokenPipeError: The front is gone.
        """
        with self._lock:
            if WINDOWS:
                self._connection.send_bytes(frame[_HEADER:])
                return
            data, fd = memoryview(frame), self._connection.fileno()
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError:
                    select.select([], [fd], [])
