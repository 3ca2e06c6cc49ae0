"""The output of a job: pages by byte offset, or whole readable lines, from a byte or a line on or by a
pattern. The output is live while the job runs, and complete afterwards.
"""

from __future__ import annotations

import codecs
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.items import ITEMS
from python_mcp_server.jobs.asked import check_text, check_whole
from python_mcp_server.regular import own_file
from python_mcp_server.runner import search as line_search
from python_mcp_server.runner.output import LineReader, on_screen, open_lines, whole_characters

RESULT: Final = "result"
"""The JSON of a job's result, one line, which is read by offset alone."""

STREAMS: Final = ("stdout", "stderr", "failures", ITEMS)
"""Files in a job's folder; `failures` is written by `py_run_tests` alone, `items` by `emit` and
`py_map_script`."""
READABLE: Final = (*STREAMS, RESULT)
"""What pages are read of."""
_WIDEST: Final = 4  # bytes of the widest character in UTF-8
MAX_PAGE_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class OutputPage:
    """A piece of output.

    Attributes:
        text: Decoded as UTF-8; invalid bytes are replaced.
        next_offset: Where the next page begins, in bytes.
        total_bytes: The present size of the output.
        eof: Whether the job ended and this page reaches its end.
    """

    text: str
    next_offset: int
    total_bytes: int
    eof: bool


def check_page(stream: str, limit: int) -> None:
    """Refuse a page that is not valid.

    Raises:
        InvalidInput: The text names the value.
    """
    if stream not in READABLE:
        raise InvalidInput(f"stream is {stream!r}; it must be one of {', '.join(READABLE)}")
    check_whole(limit=limit)
    if not 0 < limit <= MAX_PAGE_BYTES:
        raise InvalidInput(f"limit is {limit}; it must be between 1 and {MAX_PAGE_BYTES} bytes")


def read_page(path: Path, offset: int, limit: int, *, ended: bool) -> OutputPage:
    """Read one page as it was written. Blocks; a missing file counts as empty.

    Args:
        path: The file.
        offset: The byte to start at; below 0 it counts from the end.
        limit: The most bytes.
        ended: Whether the output is complete.
    """
    try:
        with open(path, "rb", opener=own_file) as file:
            return page_of(file, offset, limit, ended=ended)
    except FileNotFoundError:
        return OutputPage("", max(0, offset), 0, ended)


def page_of(file: BinaryIO, offset: int, limit: int, *, ended: bool) -> OutputPage:
    """Return one page of an open file; the arguments are those of `read_page`."""
    check_whole(offset=offset)
    total = file.seek(0, 2)
    offset = max(0, total + offset) if offset < 0 else offset
    file.seek(min(offset, total))  # the kernel refuses numbers that are too large
    data = file.read(limit)
    total = file.seek(0, 2)
    offset = min(offset, total)
    at_end = offset + len(data) >= total
    text, used = _decode(data, final=(at_end and ended) or limit < _WIDEST)
    return OutputPage(text, offset + used, total, ended and offset + used >= total)


def _decode(data: bytes, *, final: bool) -> tuple[str, int]:
    """Decode whole characters only, so that no page cuts one in two."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])


_SEARCH_S: Final = 3.0
"""How long the search for one page may take: 5 million short lines. The next page continues there."""
_PATIENCE_S: Final = 6.0
"""How long a search may take in all: only a pattern that does not end on a line takes longer."""
_KILL_S: Final = 10.0
"""Where the system has no timers, the search does not end by itself."""
_PATTERN_CHARS: Final = 1_000
_CONTINUATION: Final = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reader's request for output.

    Attributes:
        stream: One of `READABLE`.
        offset: The byte to start at; below 0 it counts from the end.
        limit: The most bytes of a page.
        line: The line to start at in place of `offset`, from 1; below 0 it counts from the end.
        pattern: A regular expression; only lines in which it is found are returned.
        raw: Whether the text is returned as it was written, with colours and overwritten states.
    """

    stream: str = "stdout"
    offset: int = 0
    limit: int = 65536
    line: int | None = None
    pattern: str | None = None
    raw: bool = False

    def check(self) -> None:
        """Refuse a request that is not valid.

        Raises:
            InvalidInput: The text names the value.
        """
        check_page(self.stream, self.limit)
        if self.line == 0:
            raise InvalidInput("line is 0; the first line is 1, the last one is -1")
        if self.stream == RESULT and (self.line is not None or self.pattern is not None):
            raise InvalidInput(
                f"stream is {RESULT!r}, which is one line of JSON; give offset and limit alone"
            )
        if self.line is not None and self.offset:
            raise InvalidInput(f"line is {self.line} and offset is {self.offset}; give one of the two")
        check_text(pattern=self.pattern)
        if self.pattern is not None and not 0 < len(self.pattern) <= _PATTERN_CHARS:
            raise InvalidInput(
                f"pattern has {len(self.pattern)} characters; it must have 1 to {_PATTERN_CHARS}"
            )


@dataclass(frozen=True, slots=True)
class LinePage:
    """A piece of output, from the beginning of a line to the end of one.

    Attributes:
        text: Its lines. A line that is longer than a page is cut between two characters.
        next_offset: Where the next page begins, in bytes.
        total_bytes: The present size of the output.
        eof: Whether the job ended and this page reaches its end.
        first_line: The number of the first line, where lines were counted.
        total_lines: How many lines there are, where the requested line does not exist.
        matches: How many lines matched, where a pattern was given; each stands after its number.
        unfinished: The last line, as far as it was written; the next page has the whole line.
    """

    text: str
    next_offset: int
    total_bytes: int
    eof: bool
    first_line: int | None = None
    total_lines: int | None = None
    matches: int | None = None
    unfinished: str | None = None


def read_lines(path: Path, wanted: Wanted, *, ended: bool) -> LinePage:
    """Return the requested lines of a stream. Blocks; a missing file counts as empty.

    Raises:
        InvalidInput: The pattern is not a valid regular expression, or takes too long.
        ToolchainError: The search cannot be run.
    """
    try:
        with open_lines(path) as index:
            start = _start(index, wanted)
            if start is None:
                count = index.lines_before(index.size) + (index.read(index.size - 1, index.size) != b"\n")
                return LinePage("", index.size, index.size, ended, total_lines=count)
            if wanted.pattern is not None:
                return _matching(path, index, start, wanted, ended=ended)
            number = wanted.line if wanted.line is None or wanted.line > 0 else index.lines_before(start) + 1
            return _page(index, start, number, wanted, ended=ended)
    except FileNotFoundError:
        return LinePage("", 0, 0, ended)


def offset_of(path: Path, line: int) -> int:
    """Return the byte where a line starts; the end of the file where the line does not exist.

    Args:
        path: The file.
        line: The number of the line, from 1; below 0 it counts from the end.

    Raises:
        InvalidInput: The line is 0.
    """
    wanted = Wanted(line=line)
    wanted.check()
    try:
        with open_lines(path) as index:
            start = _start(index, wanted)
            return index.size if start is None else start
    except FileNotFoundError:
        return 0


def _start(index: LineReader, wanted: Wanted) -> int | None:
    """Return the byte to start at; None where the line does not exist."""
    if wanted.line is not None:
        if index.size == 0:
            return 0
        return index.start_of(wanted.line) if wanted.line > 0 else index.start_from_end(-wanted.line)
    if wanted.offset >= 0:
        return min(wanted.offset, index.size)
    start = max(0, index.size + wanted.offset)
    if start == 0 or index.read(start - 1, start) == b"\n":
        return start
    data = index.read(start, min(index.size, start + wanted.limit))
    line_start = data.find(b"\n") + 1
    if not 0 < line_start < len(data):
        line_start = len(data) - len(data.lstrip(_CONTINUATION))
    return start + line_start


def _page(index: LineReader, start: int, number: int | None, wanted: Wanted, *, ended: bool) -> LinePage:
    data = index.read(start, min(index.size, start + wanted.limit))
    at_end = start + len(data) >= index.size
    used = len(data) if at_end and ended else data.rfind(b"\n") + 1
    unfinished = data[used:] if at_end else b""
    if not used and len(data) == wanted.limit:  # a line longer than a page
        used, unfinished = whole_characters(data) or len(data), b""
    show = _as_written if wanted.raw else partial(on_screen, goes_on=start > 0)
    after = start + used
    return LinePage(
        show(data[:used]),
        after,
        index.size,
        ended and after >= index.size,
        first_line=number,
        unfinished=show(unfinished) if unfinished else None,
    )


def _as_written(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _matching(path: Path, index: LineReader, start: int, wanted: Wanted, *, ended: bool) -> LinePage:
    first = index.lines_before(start) + 1
    wish = {
        "path": 0,
        "pattern": wanted.pattern,
        "offset": start,
        "line": first,
        "end": index.size,
        "ended": ended,
        "limit": wanted.limit,
        "seconds": _SEARCH_S,
        "patience": _PATIENCE_S,
    }
    with open(path, "rb", opener=own_file) as file:
        answer = _search(wish, file)
    after = int(answer["next_offset"])
    found: list[str] = answer["lines"]
    return LinePage(
        "".join(found),
        after,
        index.size,
        ended and after >= index.size,
        first_line=first,
        matches=len(found),
    )


def _search(wish: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """Search in a process of its own, which can be killed, because a match blocks the whole interpreter."""
    program = [sys.executable, "-I", "-S", "-X", "utf8", line_search.__file__, json.dumps(wish)]
    try:
        done = subprocess.run(program, stdin=file, capture_output=True, timeout=_KILL_S, check=False)
    except subprocess.TimeoutExpired:
        raise _endless(wish["pattern"], "on one line") from None
    except OSError as error:
        raise ToolchainError(f"{sys.executable} cannot be started to search: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ToolchainError(f"the search ended with {done.returncode}: {said or 'it said nothing'}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise InvalidInput(f"pattern is {wish['pattern']!r}, no regular expression: {answer['error']}")
    if "stuck_at" in answer:
        raise _endless(wish["pattern"], f"on line {answer['stuck_at']}")
    return answer


def _endless(pattern: str, where: str) -> InvalidInput:
    return InvalidInput(
        f"pattern {pattern!r} came to no end {where} within {_PATIENCE_S:g} s; "
        "write it without a repetition inside a repetition"
    )
