"""The text that a reader sees of a stream's lines, and the program that searches them for a pattern.

The module imports nothing of the package, because it is a program too: a regular expression can take for ever
and holds its whole process meanwhile, so the search runs in a process that can be killed. The program gets a
request as JSON in its argument, and the file as its stdin. The library regex with its time-out was 6 to 30
times slower, and ended a pattern that explodes after 5.4 s instead of 2 s.
"""

from __future__ import annotations

import io
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
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
"""Bytes of a line that are searched; guessed: beyond it a line is data, not text."""
_SHOWN_CHARS: Final = 4_000
_LINES_A_LOOK: Final = 256
"""Between two looks at the clock."""


def readable(data: bytes) -> str:
    """Return text as a terminal leaves it on the screen: the last state of an overwritten line, without
    colours and control sequences. Bytes that are not UTF-8 are replaced.
    """
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
        wish: `path` (or the number of a descriptor), `pattern`, `offset` and the number `line` of the line
            there, `end` in bytes, `ended` (whether a last line without an end is whole), `limit` in bytes of
            the found lines, `seconds` after which it stops between two lines, but never before it has
            advanced.
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
        """Search whole lines; False where the time is over, or no room is left for a line."""
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
        """Make the next search begin at a line of this block."""
        self._next += sum(len(line) + 1 for line in block.split(b"\n", number)[:number])
        return False

    def _blocks(self, file: io.FileIO) -> Iterator[tuple[bytes, int]]:
        """Yield whole lines, many at once, and where the next begins; of a very long line only the head."""
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
    """Run the search that the argument requests, and write the found lines, or the error, as JSON."""
    wish = json.loads(sys.argv[1])
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
