"""Where lines begin in a file that grows: counts of lines at every so many bytes, kept beside the file.

Whoever reads goes on with the count where the last reader left it, without a lock: an entry follows from
the file alone, so all who write one write the same bytes to the same place. The index serves speed only. It
is never trusted blindly: each entry carries a checksum of the bytes before it, and where a file was cut
and has grown again, it is made anew.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BLOCK: Final = 1 << 18
"""Bytes from one entry to the next: counting the lines of so many takes some 0.1 ms."""
SUFFIX: Final = ".lines"
_ENTRY: Final = struct.Struct("<QII")  # lines ended before it, checksum, mark
_MARK: Final = 0x314C504D
_CHECKED: Final = 64  # bytes before an entry that its checksum is of
_SAVE_AT: Final = 256  # entries; 64 MiB are counted again at worst after a kill

_log: Final = logging.getLogger(__name__)


class LineIndex:
    """The lines of one open file. Counts from 1, in bytes from the start of the file."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._file = descriptor
        self._path = Path(f"{path}{SUFFIX}")
        self.size = os.fstat(descriptor).st_size
        self._counts = [0]
        self._checks: list[bytes] = []
        self._saved = 0
        if self.size >= BLOCK:
            self._load()

    def lines_before(self, offset: int) -> int:
        """Return how many lines end before this byte."""
        offset = min(offset, self.size)
        block = offset // BLOCK
        while len(self._counts) <= block:
            self._extend()
        return self._counts[block] + self.read(block * BLOCK, offset).count(b"\n")

    def start_of(self, line: int) -> int | None:
        """Return the byte at which a line begins; None where there are fewer lines."""
        ends = line - 1  # that come before it
        if ends <= 0:
            return 0
        while self._counts[-1] < ends and len(self._counts) <= self.size // BLOCK:
            self._extend()
        block = bisect_left(self._counts, ends) - 1
        data = self.read(block * BLOCK, min(self.size, (block + 1) * BLOCK))
        place = _nth_end(data, ends - self._counts[block])
        return None if place is None or block * BLOCK + place >= self.size else block * BLOCK + place

    def start_from_end(self, lines: int) -> int:
        """Return where the last so many lines begin; an unfinished one counts."""
        position, left = self.size, lines
        if self.size and self.read(self.size - 1, self.size) == b"\n":
            left += 1  # the one at the very end
        while position > 0:
            begin = max(0, position - BLOCK)
            data = self.read(begin, position)
            ends = data.count(b"\n")
            if ends >= left:
                return begin + (_nth_end(data, ends - left + 1) or 0)
            position, left = begin, left - ends
        return 0

    def save(self) -> None:
        """Keep what was counted; without it the next reader counts again."""
        entries = [
            _ENTRY.pack(count, zlib.crc32(check), _MARK)
            for count, check in zip(self._counts[self._saved + 1 :], self._checks, strict=True)
        ]
        if not entries:
            return
        try:
            anew = 0 if self._saved else os.O_TRUNC
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | anew | getattr(os, "O_BINARY", 0), 0o600
            )
            with open(descriptor, "wb", buffering=0) as file:
                file.seek(self._saved * _ENTRY.size)
                file.write(b"".join(entries))
        except OSError:
            _log.debug("the lines counted of %s are not kept", self._path, exc_info=True)
        self._saved, self._checks = len(self._counts) - 1, []

    def _extend(self) -> None:
        begin = (len(self._counts) - 1) * BLOCK
        data = self.read(begin, begin + BLOCK)
        self._counts.append(self._counts[-1] + data.count(b"\n"))
        self._checks.append(data[-_CHECKED:])
        if len(self._checks) == _SAVE_AT:
            self.save()

    def _load(self) -> None:
        try:
            kept = self._path.read_bytes()
        except OSError:
            return  # nobody has counted yet
        known = min(len(kept) // _ENTRY.size, self.size // BLOCK)
        last = 0
        for count, check, mark in _ENTRY.iter_unpack(kept[: known * _ENTRY.size]):
            if mark != _MARK or not 0 <= count - self._counts[-1] <= BLOCK:
                break
            self._counts.append(count)
            last = check
        self._saved = len(self._counts) - 1
        if self._saved < known or not self._fits(last):
            self._counts, self._saved = [0], 0

    def _fits(self, check: int) -> bool:
        """Whether the file is still what the last entry was made of."""
        end = self._saved * BLOCK
        return self._saved == 0 or zlib.crc32(self.read(end - _CHECKED, end)) == check

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from `begin` up to `end`, or up to the end of the file."""
        os.lseek(self._file, begin, os.SEEK_SET)
        pieces: list[bytes] = []
        while begin < end and (piece := os.read(self._file, end - begin)):
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)


@contextmanager
def lines_of(path: Path) -> Generator[LineIndex]:
    """Open the index of a file that is there, and keep what is counted meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        index = LineIndex(descriptor, path)
        yield index
        index.save()
    finally:
        os.close(descriptor)


def _nth_end(data: bytes, number: int) -> int | None:
    """Return where the line after the `number`th line end begins, by halving; None where there are fewer."""
    if data.count(b"\n") < number:
        return None
    begin, end = 0, len(data)
    while end - begin > 1:
        middle = (begin + end) // 2
        ends = data.count(b"\n", begin, middle)
        if ends >= number:
            end = middle
        else:
            begin, number = middle, number - ends
    return end
