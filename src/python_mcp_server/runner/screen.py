"""What stands on a terminal's screen after text was written that moves the cursor: nested progress bars,
tables that are drawn anew, a screen that is cleared.

A row is never wrapped and a row that scrolled away is kept, because the reader has no window. All else is
as a terminal does it. https://www.ecma-international.org/publications-and-standards/standards/ecma-48/
"""

from __future__ import annotations

import itertools
import re
from typing import Final

from python_mcp_server.runner.lines import readable

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
        """Take text with all that steers a terminal."""
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
        elif move == "K":
            self._erase_in_row(row)
        elif move == "J":
            self._erase_rows(row)
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
            return  # 3 is for rows that scrolled away; they stay
        self._erase_in_row(which)
        first = self._y + 1 if which == 0 else self._top
        last = self._y if which == 1 else len(self._rows)
        for row in self._rows[first:last]:
            row.clear()
