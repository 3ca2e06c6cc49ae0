"""A child's output: files that it appends to, and a bounded view of them for a reader.

The view never reads a file whole: it takes the head and the tail, and counts lines of the middle
in pieces.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

TIMEOUT_MARK: Final = b"[TIMEOUT]"
_NOTE_CHARS: Final = 200
"""Kept free for the line about what is left out."""
_PIECE_BYTES: Final = 1 << 20
_CONTINUATION: Final = range(0x80, 0xC0)
_LEADS: Final = {2: range(0xC0, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF8)}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a result shows of one stream.

    Attributes:
        text: All of it, or head and tail with a line in the middle that says what is missing.
        total_bytes: How much there is.
        cut: Whether something is missing.
    """

    text: str
    total_bytes: int
    cut: bool


@contextmanager
def open_stream(path: Path) -> Generator[int]:
    """Open a file to append to, private to this user, as a descriptor."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def mark_timeout(path: Path) -> None:
    """End a stream with `[TIMEOUT]`, on a line of its own."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
        newline = b"\n" if end and file.read(1) != b"\n" else b""
        file.write(newline + TIMEOUT_MARK)


def excerpt(path: Path, *, start: int, limit_chars: int, job_id: str | None) -> Excerpt:
    """Return a bounded view of a stream from `start` on.

    Args:
        path: The file; one that is not there is empty.
        start: Where this reader's part of the file begins, in bytes.
        limit_chars: How long the text may be.
        job_id: The job whose `py_job_output` reads the rest; None where it will be gone.
    """
    total = max(0, size_of(path) - start)
    if total == 0:
        return Excerpt("", 0, cut=False)
    with path.open("rb") as file:
        file.seek(start)
        if total <= 4 * limit_chars:
            text = file.read(total).decode("utf-8", errors="replace")
            if len(text) <= limit_chars:
                return Excerpt(text, total, cut=False)
        return _head_and_tail(file, start, total, limit_chars, job_id)


def _head_and_tail(file: BinaryIO, start: int, total: int, limit_chars: int, job_id: str | None) -> Excerpt:
    half = max(limit_chars - _NOTE_CHARS, limit_chars // 2) // 2
    file.seek(start)
    head = _head(file.read(half))
    file.seek(start + total - half)
    tail = _tail(file.read(half))
    begin, end = start + len(head), start + total - len(tail)
    note = _note(file.name, begin, end, _lines(file, begin, end), job_id)
    parts = (head.decode("utf-8", errors="replace"), note, tail.decode("utf-8", errors="replace"))
    return Excerpt("".join(parts), total, cut=True)


def _head(block: bytes) -> bytes:
    """Cut a head back to a whole line where that costs at most half, else to a whole character."""
    line_end = block.rfind(b"\n") + 1
    if line_end > len(block) // 2:
        return block[:line_end]
    for back in range(1, min(4, len(block)) + 1):
        if block[-back] not in _CONTINUATION:
            return block[:-back] if _character_bytes(block[-back]) > back else block
    return block


def _character_bytes(lead: int) -> int:
    """Return how long a UTF-8 character is that begins with this byte."""
    return next((length for length, leads in _LEADS.items() if lead in leads), 1)


def _tail(block: bytes) -> bytes:
    """Cut a tail to where a line begins where that costs at most half, else a character."""
    line_start = block.find(b"\n") + 1
    if 0 < line_start <= len(block) // 2:
        return block[line_start:]
    skipped = 0
    while skipped < min(3, len(block)) and block[skipped] in _CONTINUATION:
        skipped += 1
    return block[skipped:]


def _lines(file: BinaryIO, begin: int, end: int) -> int:
    """Count the lines of which at least a byte lies between two offsets."""
    file.seek(begin)
    left, ends, last = end - begin, 0, b"\n"
    while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
        ends += piece.count(b"\n")
        last = piece[-1:]
        left -= len(piece)
    return ends + (last != b"\n")


def _note(name: str, begin: int, end: int, lines: int, job_id: str | None) -> str:
    left_out = f"{end - begin} bytes in {lines} {'line' if lines == 1 else 'lines'} left out"
    if job_id is None:
        return f"\n[... {left_out} ...]\n"
    stream = Path(name).name
    call = f'py_job_output(job_id="{job_id}", stream="{stream}", offset={begin})'
    return f"\n[... {left_out}; {call} reads the rest ...]\n"
