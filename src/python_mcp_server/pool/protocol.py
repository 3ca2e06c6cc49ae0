"""The pipes of a worker: one multiprocessing queue up, two pipes down, and the frames on them.

A frame is one kind byte and a payload, in the framing of `multiprocessing.Connection`, so that both ends may
also be read with `recv_bytes` where a loop cannot watch them. Only one process writes to the queue, so no
process waits for its lock. A dead worker leaves at most half a frame, and no reader waits for the rest.

    server                                         worker
    LoopWriter  ── calls    (pipe) ──────────────▶ main thread, blocking
    LoopWriter  ── control  (pipe) ──────────────▶ control thread, blocking
    LoopReader  ◀─ progress, questions, outcome ── UpWriter (queue), one lock, never blocks on progress

The server's ends are in `transport`.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from python_mcp_server.atomic import make_directory, remove_file, sync_directory, write_file
from python_mcp_server.regular import refuse_links

WINDOWS: Final = sys.platform == "win32"
READ_SIZE: Final = 1 << 16
"""Measured: from 128 KiB on, each read maps and unmaps its buffer, which costs more than the read."""

_LONG: Final = 0x7FFFFFFF
HEADER: Final = 4
"""Bytes before the kind, in a frame of usual size."""

_LONG_HEADER: Final = 12
PIPE_ATOM: Final = 512 if WINDOWS else select.PIPE_BUF
"""A write of at most this many bytes goes through whole or not at all."""


_UNBEGUN: Final = "unbegun"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Kind:
    """The first byte of a frame."""

    CALL: Final = b"C"  # down: a pickled Call
    IMPORT: Final = b"I"  # down: names of modules to load while idle
    MAIN: Final = b"M"  # down: load the main module, or why not; up: empty where it is loaded, else why not
    STATE: Final = b"S"  # down: what has changed in the server since the call before
    SHOW: Final = b"J"  # down: send the last outcome again, its value as JSON
    DETACH: Final = b"K"  # control: finish this job without a parent
    RECORD: Final = b"D"  # control: this job is durable now, its folder gets the output
    CANCEL: Final = b"X"  # control: raise JobCancelled in this job's body
    ANSWER: Final = b"A"  # control: the user's answer to a question, or why there is none
    FREE: Final = b"F"  # control: this process sends nothing more, as if it had ended
    READY: Final = b"R"  # up: the worker takes calls
    PROGRESS: Final = b"P"  # up: a JobProgress
    QUESTION: Final = b"Q"  # up: an event of one of the body's questions
    OUTCOME: Final = b"O"  # up: the outcome of a call


@dataclass(frozen=True, slots=True)
class WorkerPipes:
    """The ends that a worker gets, once, while its process is started."""

    calls: Any
    control: Any
    up: Any


@dataclass(frozen=True, slots=True)
class ServerPipes:
    """The ends that the server keeps."""

    calls: Any
    control: Any
    up: Any


def open_channel(context: Any) -> tuple[ServerPipes, WorkerPipes]:
    """Make the pipes of one worker from a multiprocessing context."""
    calls_in, calls_out = context.Pipe(duplex=False)
    control_in, control_out = context.Pipe(duplex=False)
    up = context.SimpleQueue()
    return ServerPipes(calls_out, control_out, up), WorkerPipes(calls_in, control_in, up)


def close_ends(ends: ServerPipes | WorkerPipes) -> None:
    """Close all wires of one side."""
    for end in (ends.calls, ends.control, ends.up):
        end.close()


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """Return the frame as bytes for the wire."""
    size = len(payload) + 1
    header = struct.pack("!i", size) if size <= _LONG else struct.pack("!iQ", -1, size)
    return header + kind + payload


class FrameParser:
    """Cuts a stream of bytes into frames; keeps an incomplete frame for the next bytes."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take the next bytes; yield each complete frame as kind and payload."""
        buffer = self._buffer
        if not buffer and len(data) >= HEADER and struct.unpack_from("!i", data)[0] == len(data) - HEADER:
            yield data[4:5], data[5:]  # one complete frame and nothing else: nearly always
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
        if len(buffer) < HEADER:
            return None
        size, start = struct.unpack_from("!i", buffer)[0], HEADER
        if size < 0:
            if len(buffer) < _LONG_HEADER:
                return None
            size, start = struct.unpack_from("!Q", buffer, HEADER)[0], _LONG_HEADER
        return (start, start + size) if len(buffer) >= start + size else None


class UpWriter:
    """The worker's end of the queue. Any of its threads may write; a forked child may not."""

    def __init__(self, queue: Any) -> None:
        self._connection: Connection = queue.writer
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._fd = self._connection.fileno()
        if not WINDOWS:
            os.set_blocking(self._fd, False)

    def offer(self, frame: bytes) -> bool:
        """Send a frame of at most `PIPE_ATOM` bytes if the pipe has room for it now.

        Returns:
            Whether it was sent; False also where the server is gone.
        """
        if os.getpid() != self._pid:
            return False
        with self._lock:
            try:
                if WINDOWS:
                    self._connection.send_bytes(frame[HEADER:])
                else:
                    os.write(self._fd, frame)
            except (BlockingIOError, BrokenPipeError):
                return False
        return True

    def send(self, frame: bytes) -> None:
        """Send a frame of any size and wait until it is written.

        Raises:
            BrokenPipeError: The server is gone.
        """
        with self._lock:
            if WINDOWS:
                self._connection.send_bytes(frame[HEADER:])
                return
            data = memoryview(frame)
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])


def unbegun_note(home: Path, job_id: str) -> str:
    """Return the file of the home that says, while it is there, that no worker has begun this job. It lies in
    no folder of the job, because most jobs need none.
    """
    return f"{home}/{_UNBEGUN}/{job_id}"


def mark_unbegun(note: str, *, fsync: bool = False) -> None:
    """Note that no worker has begun a job, before its record names one.

    Args:
        note: The file, by `unbegun_note`.
        fsync: Whether the note, and its removal, survive a loss of power.

    Raises:
        OSError: The note cannot be written.
    """
    directory = os.path.dirname(note)
    refuse_links(directory, 1)
    if fsync:
        make_directory(directory, fsync=True)
        write_file(note, b"fsync", fsync=True)
        return
    with suppress(FileExistsError):  # by an earlier start
        try:
            os.close(os.open(note, _NEW, 0o600))
        except FileNotFoundError:
            make_directory(directory)
            os.close(os.open(note, _NEW, 0o600))


def mark_begun(note: str) -> None:
    """Remove that note, if it is there; the worker calls this before it runs any part of the body.

    Raises:
        OSError: The note stays, so the body must not run, because another server would start it again.
    """
    try:
        fsync = os.stat(note).st_size > 0
    except FileNotFoundError:
        return
    if remove_file(note) and fsync:
        sync_directory(os.path.dirname(note))


def is_unbegun(note: str) -> bool:
    """Whether the note is there. Once the worker is dead, it means that the body has never begun."""
    return os.path.exists(note)  # False where it cannot be read: no second start
