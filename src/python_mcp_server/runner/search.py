"""What a reader sees of the lines of a stream, and the search in them.

Imports nothing of ours, for it is a program too: a regular expression can take for ever, holds its whole
process meanwhile, and must then be killed. The program reads what to find as JSON from stdin.


Where lines begin in a file that grows: counts of lines at every so many bytes, kept beside the file.

Whoever reads goes on with the count where the last reader left it, without a lock: an entry follows from
the file alone, so all who write one write the same bytes to the same place. The index serves speed only. It
is never trusted blindly: each entry carries a checksum of the bytes before it, and where a file was cut
and has grown again, it is made anew.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import struct
import sys
import time
import zlib
from bisect import bisect_left
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_UNREADABLE: Final = re.compile(rb"[\x01-\x08\x0b-\x1f\x7f]")
_ESCAPES: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*(?:[@-~]|\Z)"  # colours, and moves of the cursor
    rb"|[\]PX^_][^\x07\x1b\n]{0,4000}(?:\x07|\x1b\\)?"  # titles, links and other strings
    rb"|[ -/]*(?:[0-~]|\Z))"
)
_CONTROLS: Final = dict.fromkeys({*range(1, 32), 127} - {ord("\t"), ord("\n")})
_BLOCK: Final = 1 << 18
_LONGEST: Final = 1 << 16
"""Bytes of a line in which is searched; guessed: beyond it a line is data, not text."""
_SHOWN_CHARS: Final = 4_000
_LINES_A_LOOK: Final = 256
"""Between two looks at the clock."""


def readable(data: bytes) -> str:
    """Return text as a terminal leaves it on the screen, without colours: the last state of a line that
    was written over, nothing that steers a terminal. Bytes that are no UTF-8 are replaced."""
    if _UNREADABLE.search(data) is None:
        return data.decode("utf-8", "replace")
    text = _ESCAPES.sub(b"", data).decode("utf-8", "replace")
    if "\r" in text or "\b" in text:
        text = "\n".join(map(_last_state, text.split("\n")))
    return text.translate(_CONTROLS)


def _last_state(line: str) -> str:
    line = line.rstrip("\r")
    if "\r" in line:
        line = next((state for state in reversed(line.split("\r")) if state.strip(" \b")), "")
    if "\b" not in line:
        return line
    shown: list[str] = []
    for char in line:
        if char != "\b":
            shown.append(char)
        elif shown:
            shown.pop()
    return "".join(shown)


class Search:
    """One search through a file.

    Args:
        wish: `path`, `pattern`, `offset` and the number `line` of the line there, `end` in bytes, `ended`
            (whether a last line without an end is whole), `limit` in bytes of what is found, `seconds`
            after which it stops between two lines, never without having gone on.
    """

    def __init__(self, wish: dict[str, Any]) -> None:
        self._wish = wish
        self._left = int(wish["limit"])
        self._found: list[str] = []
        self.line = int(wish["line"]) - 1
        self._next = int(wish["offset"])
        self._until = time.monotonic() + wish["seconds"]

    def run(self) -> dict[str, Any]:
        """Return the lines found, each after its number, and the byte where the search is to go on."""
        matches = re.compile(self._wish["pattern"]).search
        with open(self._wish["path"], "rb", buffering=0) as file:
            for block, after in self._blocks(file):
                if not self._look(block, matches):
                    break
                self._next = after
                if time.monotonic() > self._until:
                    break
        return {"lines": self._found, "next_offset": self._next}

    def _look(self, block: bytes, matches: Any) -> bool:
        """Look through whole lines; False where the time is over, or no room is left for a line."""
        for number, text in enumerate(readable(block).removesuffix("\n").split("\n")):
            if number and not number % _LINES_A_LOOK and time.monotonic() > self._until:
                return self._stop(block, number)
            self.line += 1
            if matches(text) is None:
                continue
            shown = f"{self.line}: {_shown(text)}\n"
            self._left -= len(shown.encode())
            if self._left < 0 and self._found:
                return self._stop(block, number)
            self._found.append(shown)
        return True

    def _stop(self, block: bytes, number: int) -> bool:
        """Let the next search begin at a line of this block."""
        self._next += sum(len(line) + 1 for line in block.split(b"\n", number)[:number])
        return False

    def _blocks(self, file: io.FileIO) -> Iterator[tuple[bytes, int]]:
        """Yield whole lines, many at once, and where the next one begins; of a line beyond all bounds
        its head, alone."""
        position, end = self._next, self._wish["end"]
        file.seek(position)
        head = b""  # of a line whose end was not read yet
        while data := file.read(min(_BLOCK, end - position)):
            position += len(data)
            if len(head) == _LONGEST:
                first = data.find(b"\n") + 1
                if not first:
                    continue
                data = data[first:]
                yield head + b"\n", position - len(data)
                head = b""
            last = data.rfind(b"\n") + 1
            if last:
                yield head + data[:last], position - len(data) + last
                head = b""
            head = (head + data[last:])[:_LONGEST]
        if head and self._wish["ended"]:
            yield head, position


def _shown(line: str) -> str:
    more = len(line) - _SHOWN_CHARS
    return line if more <= 0 else f"{line[:_SHOWN_CHARS]} [... {more} more characters of this line ...]"


def main() -> None:
    """Search as stdin says and write what was found, or what is wrong, as JSON."""
    wish = json.load(sys.stdin)
    search = Search(wish)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _give_up)
        signal.setitimer(signal.ITIMER_REAL, wish["patience"])
    try:
        answer = search.run()
    except re.error as error:
        answer = {"error": str(error)}
    except (OverflowError, RecursionError) as error:
        answer = {"error": f"it is too large ({error})"}
    except TimeoutError:
        answer = {"stuck_at": search.line}
    json.dump(answer, sys.stdout)


def _give_up(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()

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
