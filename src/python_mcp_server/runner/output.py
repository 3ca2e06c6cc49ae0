"""The output of a child: files that it appends to, bounded excerpts of them, and their lines.

An excerpt never reads a long file whole: it takes the head and the tail, and counts the lines between.

Text that moves the cursor (nested progress bars, tables that are drawn anew, a screen that is cleared) is
shown as a terminal leaves it on its screen. A row is never wrapped, and a row that scrolled away is kept,
because the reader has no window. The library pyte took 17 s for 1 MB of nested progress bars, this 0.2 s.
https://www.ecma-international.org/publications-and-standards/standards/ecma-48/
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from python_mcp_server.regular import open_own, open_regular, own_file
from python_mcp_server.runner.search import readable

_HEIGHT: Final = 50
"""Rows that the cursor can reach, counted from the last one; guessed: a large window."""
_WIDTH: Final = 160
"""Columns that it can reach where nothing stands; guessed: more, and a few bytes make megabytes of blanks."""
_MOVES: Final = re.compile(rb"\x1b(?:\[[0-9;]*[A-HJKdfsu`]|[78DEMc])")
_TOKEN: Final = re.compile(
    r"(?P<control>[\n\r\b])"
    r"|\x1b\[(?P<numbers>[0-9;]*)(?P<move>[A-HJKdfsu`])"
    r"|\x1b(?P<single>[78DEMc])"
    r"|\x1b(?:\[[0-?]*[ -/]*(?:[@-~]|\Z)|[\]PX^_][^\x07\x1b\n]{0,4000}(?:\x07|\x1b\\)?|[ -/]*(?:[0-~]|\Z))"
    r"|[\x01-\x08\x0b-\x1f\x7f]"
)
_SINGLES: Final = {"7": "s", "8": "u", "D": "B", "E": "E", "M": "A", "c": "c"}
_STEPS: Final = {"A": (-1, 0), "B": (1, 0), "C": (0, 1), "D": (0, -1), "E": (1, None), "F": (-1, None)}
"""How a move changes row and column; None for the first column."""


def moves_cursor(data: bytes) -> bool:
    """Whether text moves the cursor to another row or column, or erases something."""
    return b"\x1b" in data and _MOVES.search(data) is not None


def on_screen(data: bytes, *, goes_on: bool = False) -> str:
    """Return text as a terminal leaves it on the screen, without colours.

    Where nothing moves the cursor, that is `readable`, which leaves each line a line.

    Args:
        data: The text.
        goes_on: Whether there is text before it, in whose rows it may write.
    """
    if not moves_cursor(data):
        return readable(data)
    screen = _Screen(goes_on=goes_on)
    screen.write(data.decode("utf-8", "replace"))
    return screen.text


class _Screen:
    """Rows of characters, and where the cursor is: row `y` and column `x`, both from 0."""

    def __init__(self, *, goes_on: bool) -> None:
        self._goes_on = goes_on
        self._above = 0  # rows that were put before the first one
        self._rows: list[list[str]] = [[]]
        self._y = self._x = 0
        self._saved = (0, 0)

    @property
    def text(self) -> str:
        rows = ["".join(row).rstrip(" ") for row in self._rows]
        while len(rows) > self._y + 1 and not rows[-1]:
            rows.pop()
        blank = itertools.takewhile(lambda row: not row, rows[: self._above])
        return "\n".join(rows[sum(1 for _ in blank) :])

    def write(self, text: str) -> None:
        """Write text with control sequences."""
        at = 0
        for token in _TOKEN.finditer(text):
            if token.start() > at:
                self._put(text[at : token.start()])
            at = token.end()
            control, numbers, move, single = token.groups()
            if control == "\n":
                self._line_end()
            elif control:
                self._x = 0 if control == "\r" else max(0, self._x - 1)
            elif move or single:
                self._move(move or _SINGLES[single], numbers or "")
        self._put(text[at:])

    def _put(self, text: str) -> None:
        row = self._rows[self._y]
        if self._x > len(row):
            row += " " * (self._x - len(row))
        row[self._x : self._x + len(text)] = text
        self._x += len(text)

    def _line_end(self) -> None:
        self._y, self._x = self._y + 1, 0
        if self._y == len(self._rows):
            self._rows.append([])

    def _move(self, move: str, numbers: str) -> None:
        first, _, second = numbers.partition(";")
        row, column = (int(number[:4]) if number.isdecimal() else 0 for number in (first, second))
        count = max(1, row)
        if (step := _STEPS.get(move)) is not None:
            down, right = step
            if down * count + self._y < 0 and self._goes_on:
                self._add_above(-self._y - down * count)
            self._go(self._y + down * count, 0 if right is None else self._x + right * count)
        elif move in "Hf":
            self._go(self._top + count - 1, max(1, column) - 1)
        elif move in "G`d":
            self._go(*((self._top + count - 1, self._x) if move == "d" else (self._y, count - 1)))
        elif move == "s":
            self._saved = self._y, self._x
        elif move == "u":
            self._go(*self._saved)
        elif move in "KJ":
            (self._erase_in_row if move == "K" else self._erase_rows)(row)
        else:
            self._erase_rows(2)
            self._go(self._top, 0)

    def _add_above(self, count: int) -> None:
        """Put rows before the first one, as far as the cursor can reach."""
        count = max(0, min(count, _HEIGHT - len(self._rows)))
        self._rows[:0] = [[] for _ in range(count)]
        self._above += count
        self._y += count

    @property
    def _top(self) -> int:
        """The first row that the cursor can reach."""
        return max(0, len(self._rows) - _HEIGHT)

    def _go(self, y: int, x: int) -> None:
        """Move the cursor, at most to the edge."""
        top = self._top
        self._y = max(top, min(y, top + _HEIGHT - 1))
        while len(self._rows) <= self._y:
            self._rows.append([])
        self._x = max(0, min(x, max(_WIDTH, len(self._rows[self._y]))))

    def _erase_in_row(self, which: int) -> None:
        """Erase from the cursor on (0), up to it (1), or the whole row (2)."""
        row = self._rows[self._y]
        if which == 1:
            count = min(self._x + 1, len(row), _WIDTH)
            row[:count] = " " * count
        elif which in {0, 2}:
            del row[self._x if which == 0 else 0 :]

    def _erase_rows(self, which: int) -> None:
        """Erase rows below the cursor (0), above it (1) or all (2), and the one that it is in likewise."""
        if which not in {0, 1, 2}:
            return  # 3 erases rows that scrolled away; they stay here
        self._erase_in_row(which)
        first = self._y + 1 if which == 0 else self._top
        last = self._y if which == 1 else len(self._rows)
        for row in self._rows[first:last]:
            row.clear()


TIMEOUT_MARK: Final = b"[TIMEOUT]"
"""The last line of the stderr of a run that its time limit ended."""
_NOTE_CHARS: Final = 200
"""Kept free for the line about what is left out."""
_SHORT_BYTES: Final = 1 << 20
"""A stream up to this size is made readable whole, to see whether it fits then: progress bars shrink."""
_RAW_SHARE: Final = 16
"""How many bytes are looked at for each character of head and tail."""
_LINE_HEAD: Final = 200
"""Bytes of the beginning that a last line keeps whose middle is left out: there stands the type of an
exception."""
_CONTINUATION: Final = range(0x80, 0xC0)
_LEADS: Final = {2: range(0xC0, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF8)}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of one stream that a result shows.

    Attributes:
        text: All of it, or head and tail with a line in the middle that says what is missing; as a screen
            would show it, without colours.
        total_bytes: How much there is.
        cut: Whether something is missing.
    """

    text: str
    total_bytes: int
    cut: bool


@contextmanager
def open_stream(path: Path) -> Generator[int]:
    """Open a file to append to, private to this user, as a descriptor."""
    descriptor = open_own(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if the file does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def append_line(path: Path, text: bytes) -> None:
    """Append text to a stream, where it begins a line of its own."""
    newline = b"" if end_of(path, 1) in {b"", b"\n"} else b"\n"
    with open_stream(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
        file.write(newline + text)


def end_of(path: Path, most_bytes: int) -> bytes:
    """Return the last bytes of a file; no bytes if the file does not exist."""
    try:
        with open(path, "rb", opener=own_file) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
            return file.read(most_bytes)
    except FileNotFoundError:
        return b""


def excerpt(path: Path, *, start: int, limit_chars: int, job_id: str | None) -> Excerpt:
    """Return a bounded view of a stream from `start` on.

    Args:
        path: The file; a missing file counts as empty.
        start: Where this reader's part of the file begins, in bytes.
        limit_chars: How long the text may be.
        job_id: The job whose `py_job_output` reads the rest; None where the job will be gone.
    """
    total = max(0, size_of(path) - start)
    if total == 0:
        return Excerpt("", 0, cut=False)
    with open(path, "rb", buffering=0, opener=own_file) as file:
        file.seek(start)
        if total <= max(4 * limit_chars, _SHORT_BYTES):
            text = on_screen(file.read(total))
            if len(text) <= limit_chars:
                return Excerpt(text, total, cut=False)
        return _head_and_tail(file, start, total, limit_chars, job_id)


def cut_middle(text: str, limit_chars: int) -> str:
    """Return a text of about this length: head and tail, where it is longer, cut at whole lines.

    The tail gets two thirds, because the end of a traceback says what happened.
    """
    if len(text) <= limit_chars:
        return text
    head, tail = text[: limit_chars // 3], text[-(2 * limit_chars // 3) :]
    if (end := head.rfind("\n") + 1) > len(head) // 2:
        head = head[:end]
    if 0 < (start := tail.find("\n") + 1) < len(tail) // 2:
        tail = tail[start:]
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n[... {left_out} characters left out ...]\n{tail}"


def whole_characters(data: bytes) -> int:
    """Return how many bytes to keep so that no character at the end is cut in two."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] not in _CONTINUATION:
            wanted = next((length for length, leads in _LEADS.items() if data[-back] in leads), 1)
            return len(data) - back if wanted > back else len(data)
    return len(data)


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a stream: `closing`, and before it, where that begins within a line, the line's `opening`
    with so many bytes `hidden` between the two."""

    closing: bytes
    opening: bytes = b""
    hidden: int = 0

    @property
    def taken(self) -> int:
        return len(self.opening) + self.hidden + len(self.closing)

    @property
    def text(self) -> str:
        if not self.opening:
            return on_screen(self.closing, goes_on=True)
        between = f" [... {self.hidden} bytes of this line left out ...] "
        return readable(self.opening) + between + on_screen(self.closing)


def _head_and_tail(file: BinaryIO, start: int, total: int, limit_chars: int, job_id: str | None) -> Excerpt:
    half = max(limit_chars - _NOTE_CHARS, limit_chars // 2) // 2
    file.seek(start)
    head = _head(file.read(min(total, _RAW_SHARE * half)), half)
    begin, end = start + len(head), start + total
    rest = min(end - begin, _RAW_SHARE * half)
    file.seek(end - rest)
    whole = rest == end - begin and head[-1:] in {b"", b"\n"}
    tail = _tail(file.read(rest), half, whole=whole)
    if tail.opening and tail.taken == end - begin:  # nothing is left out but within this line
        head, begin, tail = head + tail.opening, begin + len(tail.opening), _Tail(tail.closing)
    end -= tail.taken
    if begin == end:
        return Excerpt(on_screen(head) + tail.text, total, cut=False)
    note = _note(file.name, begin, end, _lines(file, begin, end), job_id)
    return Excerpt(on_screen(head) + note + tail.text, total, cut=True)


def _head(block: bytes, room_chars: int) -> bytes:
    """Return the first lines for which there is room; if they take less than half of it, also the
    beginning of the next, up to a whole character."""
    whole = block[: block.rfind(b"\n") + 1]
    if moves_cursor(whole) and len(on_screen(whole)) <= room_chars:
        return whole
    taken, left = 0, room_chars
    for line in _raw_lines(block):
        shown = len(readable(line))
        if shown > left:
            return block[:taken] if 2 * left < room_chars else block[: taken + whole_characters(line[:left])]
        taken, left = taken + len(line), left - shown
    return block[:taken]


def _tail(block: bytes, room_chars: int, *, whole: bool) -> _Tail:
    """Return the last lines for which there is room; if they take less than half of it, also the end of
    the line before them, from a whole character on.
    """
    first = 0 if whole else block.find(b"\n") + 1
    if moves_cursor(block) and len(on_screen(block[first:], goes_on=True)) <= room_chars:
        return _Tail(block[first:])
    begin, left = len(block), room_chars
    lines = _raw_lines(block)
    while lines:
        line = lines.pop()
        complete = whole or bool(lines)
        shown = len(readable(line))
        if shown > left or not complete:
            return (
                _Tail(block[begin:])
                if 2 * left < room_chars
                else _with_end(line, block[begin:], left, complete)
            )
        begin, left = begin - len(line), left - shown
    return _Tail(block[begin:])


def _with_end(line: bytes, after: bytes, room: int, complete: bool) -> _Tail:
    """Return a tail that begins within this line; where there is room, with its beginning."""
    opening = line[: whole_characters(line[:_LINE_HEAD])] if complete and room > 4 * _LINE_HEAD else b""
    room -= 2 * len(opening)
    begin = max(len(opening), len(line) - room)
    while begin < len(line) and line[begin] in _CONTINUATION and begin < len(line) - room + 3:
        begin += 1
    return _Tail(line[begin:] + after, opening, begin - len(opening) if opening else 0)


def _raw_lines(block: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _lines(file: BinaryIO, begin: int, end: int) -> int:
    """Count the lines of which at least a byte lies between two offsets."""
    ends = LineReader(file.fileno()).ends_between(begin, end)
    file.seek(end - 1)
    return ends + (file.read(1) != b"\n")


def _note(name: str, begin: int, end: int, lines: int, job_id: str | None) -> str:
    left_out = f"{end - begin} bytes in {lines} {'line' if lines == 1 else 'lines'} left out"
    if job_id is None:
        return f"\n[... {left_out} ...]\n"
    stream = Path(name).name
    call = f'py_job_output(job_id="{job_id}", stream="{stream}", offset={begin})'
    return f"\n[... {left_out}; {call} reads the rest ...]\n"


_BLOCK: Final = 1 << 18
"""Bytes that are counted at once. Measured: a line in the middle of 5 million takes 23 to 65 ms."""


class LineReader:
    """The lines of one open file. Lines count from 1, offsets in bytes from the start of the file.

    Nothing is kept between two readers: counting from the start is fast enough, and a file that was cut or
    written anew needs no care.

    Attributes:
        size: The size of the file when the reader was made; what is written later is not seen.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        self.size = os.fstat(descriptor).st_size

    def lines_before(self, offset: int) -> int:
        """Return how many lines end before this byte."""
        return self.ends_between(0, offset)

    def ends_between(self, begin: int, end: int) -> int:
        """Return how many lines end between two offsets."""
        return sum(data.count(b"\n") for _, data in self._blocks(begin, end))

    def start_of(self, line: int, after: int = 0) -> int | None:
        """Return the byte at which a line begins; None where there are fewer lines.

        Args:
            line: The number of the line.
            after: The start of a line, which is the first one here.
        """
        left = line - 1  # line ends before it
        if left <= 0:
            return after
        for begin, data in self._blocks(after, self.size):
            ends = data.count(b"\n")
            if ends >= left:
                start = begin + _nth_end(data, left)
                return start if start < self.size else None
            left -= ends
        return None

    def start_from_end(self, lines: int) -> int:
        """Return where the last so many lines begin; an unfinished one counts."""
        position, left = self.size, lines
        if self.size and self.read(self.size - 1, self.size) == b"\n":
            left += 1  # the one at the very end
        while position > 0:
            begin = max(0, position - _BLOCK)
            data = self.read(begin, position)
            ends = data.count(b"\n")
            if ends >= left:
                return begin + _nth_end(data, ends - left + 1)
            position, left = begin, left - ends
        return 0

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from `begin` up to `end`, or up to the end of the file."""
        os.lseek(self._file, begin, os.SEEK_SET)
        pieces: list[bytes] = []
        while begin < end and (piece := os.read(self._file, end - begin)):
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)

    def _blocks(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes between two offsets block by block, each with its own offset."""
        while begin < end and (data := self.read(begin, min(end, begin + _BLOCK))):
            yield begin, data
            begin += len(data)


@contextmanager
def open_lines(path: Path) -> Generator[LineReader]:
    """Open a file that is there, to read its lines."""
    descriptor = open_regular(str(path), follow=False)
    try:
        yield LineReader(descriptor)
    finally:
        os.close(descriptor)


def _nth_end(data: bytes, number: int) -> int:
    """Return where the line after the `number`th line end begins, by halving; there are as many at least."""
    begin, end = 0, len(data)
    while end - begin > 1:
        middle = (begin + end) // 2
        ends = data.count(b"\n", begin, middle)
        if ends >= number:
            end = middle
        else:
            begin, number = middle, number - ends
    return end
