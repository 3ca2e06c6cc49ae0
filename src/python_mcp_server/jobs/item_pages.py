"""Pages of a job's items: by number, all of them or those that a filter names, live while the job runs.

`items` has the form of the files. A page costs the same wherever it lies: the index leads to within a step of
its first item.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from python_mcp_server.errors import InvalidInput, quoted
from python_mcp_server.items import INDEX, ITEMS, PAIR
from python_mcp_server.jobs.asked import check_text, check_whole
from python_mcp_server.jobs.output import Wanted, read_lines
from python_mcp_server.regular import NotRegular, own_file
from python_mcp_server.runner.output import LineReader, open_lines
from python_mcp_server.store.contract import SHOWN_RESULT_BYTES

MOST_ITEMS: Final = 10_000
PAGE_BYTES: Final = 65_536
"""Of JSON in one page; a larger item comes alone."""

_SCANNED_BYTES: Final = 1 << 23
"""Of items that a filter looks at for one page: 0.1 to 0.5 s. The next page continues there."""
_LINE_BYTES: Final = 100
"""A line takes as long as so many bytes more."""
_MOST_LINE_BYTES: Final = 32 << 20
"""The longest line that a filter looks into: an item of `py_map_script`."""
_NOTE_BYTES: Final = 200
"""About the size of a sentence that stands for an item."""
_POLL_S: Final = 0.2
"""Between two looks for more items while a reader waits."""
_SIMPLE: Final = (str, int, float, type(None))


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Some items of a job, in the order in which they were emitted.

    Attributes:
        items: The items. One of more than 500 kB, and one that is not JSON, is a mapping with the one key
            `left_out`, a sentence that says how to read it.
        next_offset: The number of the item at which the next page begins. With a filter, also a page before
            the last one may be empty.
        total: How many items there are so far, without a filter.
        eof: Whether the job has ended and no item comes after this page.
    """

    items: list[Any]
    next_offset: int
    total: int
    eof: bool


@dataclass(frozen=True, slots=True)
class WantedItems:
    """A reader's request for items.

    Attributes:
        offset: The number of the item to start at, from 0; below 0 it counts from the end.
        limit: The most items of a page.
        where: Mapping of a field of an item (`"status"`, or `"file.name"` within a field) to its value: a
            text, a number, true, false or null. Only items that have all of these are returned.
        pattern: A regular expression; only items in whose JSON it is found are returned.
    """

    offset: int = 0
    limit: int = 100
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pattern: str | None = None

    def check(self) -> None:
        """Refuse a request that is not valid.

        Raises:
            InvalidInput: The text names the value.
        """
        check_whole(offset=self.offset, limit=self.limit)
        check_text(pattern=self.pattern)
        if not isinstance(cast("object", self.where), Mapping):
            raise InvalidInput(f"where is {self.where!r:.160}; it must be values by field")
        if not 0 < self.limit <= MOST_ITEMS:
            raise InvalidInput(f"limit is {self.limit}; it must be between 1 and {MOST_ITEMS} items")
        for name, value in self.where.items():
            if not isinstance(value, _SIMPLE):
                raise InvalidInput(
                    f"where has {quoted(repr(value))} for {quoted(name)}; "
                    "give a text, a number, true, false or null"
                )
        if self.where and self.pattern is not None:
            raise InvalidInput(
                f"where and pattern ({quoted(self.pattern)}) are both given; give one of the two"
            )
        Wanted(ITEMS, pattern=self.pattern).check()

    def words(self) -> list[bytes]:
        """Return what the JSON of each item that `where` names has in it, so that others need not be read. A
        number, and a text with other characters than ASCII's printable ones, may be written in several ways.
        """
        return [
            json.dumps(value).encode()
            for value in self.where.values()
            if value is None
            or isinstance(value, bool)
            or (isinstance(value, str) and value.isascii() and value.isprintable())
        ]

    def takes(self, item: Any) -> bool:
        """Whether `where` names this item."""
        return all(_same(_part(item, name), value) for name, value in self.where.items())


def pause_s(page: ItemPage, deadline: float) -> float | None:
    """Return how long a reader that waits for items waits before its next look; None where the page is its
    answer.

    Args:
        page: What the reader found.
        deadline: The end of the wait, by the monotonic clock.
    """
    left_s = deadline - time.monotonic()
    if page.items or page.eof or not left_s > 0:  # also where the caller gave no number
        return None
    return 0.0 if page.next_offset < page.total else min(left_s, _POLL_S)


def count_items(folder: Path) -> int:
    """Return how many items lie in the folder of a job. Blocks; a missing file has none, and so has anything
    else that the body has put there.
    """
    try:
        with _open_items(folder) as found:
            return found.total()
    except (FileNotFoundError, IsADirectoryError, NotRegular):
        return 0


def whole_bytes(folder: Path) -> int:
    """Return the size of a job's items without a last one that is not whole. Blocks."""
    try:
        with _open_items(folder) as found:
            return found.size
    except FileNotFoundError:
        return 0


def read_items(folder: Path, wanted: WantedItems, job_id: str, *, ended: bool) -> ItemPage:
    """Return a page of items. Blocks; a missing file has none.

    Args:
        folder: The job's folder.
        wanted: The request.
        job_id: For the sentence that stands for a very large item.
        ended: Whether the job has ended, so that no items come.

    Raises:
        InvalidInput: The pattern is not a valid regular expression, or takes too long.
        ToolchainError: The search for the pattern cannot be run.
    """
    try:
        with _open_items(folder) as found:
            total = found.total()
            first = max(0, total + wanted.offset) if wanted.offset < 0 else wanted.offset
            if first >= total:
                return ItemPage([], first, total, ended)
            if wanted.pattern is not None:
                items, after = _matching(folder, found, range(first, total), wanted, job_id)
            else:
                items, after = _taken(found.lines(first), first, wanted, job_id)
    except FileNotFoundError:
        return ItemPage([], max(0, wanted.offset), 0, ended)
    return ItemPage(items, after, total, ended and after >= total)


def _taken(
    lines: Iterator[tuple[int, bytes]], first: int, wanted: WantedItems, job_id: str
) -> tuple[list[Any], int]:
    """Return the items of a page among numbered lines, and the number after the last line looked at."""
    items, after = list[Any](), first
    room, unseen = PAGE_BYTES, _SCANNED_BYTES
    words = wanted.words()
    for number, line in lines:
        item, value = _shown(line, number, job_id) if all(word in line for word in words) else (None, None)
        if wanted.takes(value):
            room -= len(line) if item is value else _NOTE_BYTES
            if room < 0 and items:
                break
            items.append(item)
        after = number + 1
        unseen -= len(line) + _LINE_BYTES
        if len(items) == wanted.limit or unseen < 0:
            break
    return items, after


def _matching(
    folder: Path, found: _ItemFile, among: range, wanted: WantedItems, job_id: str
) -> tuple[list[Any], int]:
    """Return the items of a page in which the pattern is found, and the number where the search goes on."""
    search = Wanted(ITEMS, line=among.start + 1, pattern=wanted.pattern, limit=PAGE_BYTES)
    page = read_lines(folder / ITEMS, search, ended=False)
    numbers = [int(line.partition(":")[0]) - 1 for line in page.text.split("\n")[:-1]]
    there = [number for number in numbers if number in among]  # others came after the file was opened
    lines = (next(found.lines(number)) for number in there)
    items, after = _taken(lines, among.start, wanted, job_id)
    return items, found.number_at(page.next_offset) if len(items) == len(there) else after


class _ItemFile:
    """The items of a job in an open file.

    Attributes:
        size: The size of its whole lines, when it was opened.
    """

    def __init__(self, lines: LineReader, file: BinaryIO, index: BinaryIO | None) -> None:
        self._lines = lines
        self._file = file  # a descriptor of its own, because a buffer relies on its position
        self._index = index
        self._pairs = 0 if index is None else os.fstat(index.fileno()).st_size // PAIR.size
        end = lines.size
        whole = end > 0 and lines.read(end - 1, end) == b"\n"
        self.size = end if whole else lines.start_from_end(1)

    def total(self) -> int:
        """Return how many items there are."""
        return self.number_at(self.size)

    def number_at(self, offset: int) -> int:
        """Return how many items end at this byte or before."""
        number, begin = self._known(offset, of_bytes=True)
        return number + self._lines.ends_between(begin, min(offset, self.size))

    def lines(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield items as lines, each with its number, from a number below `total` on. A line that is too long
        is cut, and has no end.
        """
        known, begin = self._known(number, of_bytes=False)
        start = self._lines.start_of(number - known + 1, begin)
        if start is None:
            return
        self._file.seek(start)
        while start < self.size and (line := self._file.readline(_MOST_LINE_BYTES)):
            yield number, line
            start, number = start + len(line), number + 1
            while not line.endswith(b"\n") and (line := self._file.readline(_MOST_LINE_BYTES)):
                start += len(line)

    def _known(self, position: int, *, of_bytes: bool) -> tuple[int, int]:
        """Return the last pair of the index up to a position: how many items, and the byte after them."""
        at = bisect_right(range(self._pairs), position, key=lambda place: self._pair(place)[of_bytes])
        pair = self._pair(at - 1) if at else (0, 0)
        fits = 0 < pair[1] <= self.size and self._lines.read(pair[1] - 1, pair[1]) == b"\n"
        return pair if fits else (0, 0)

    def _pair(self, place: int) -> tuple[int, int]:
        index = cast("BinaryIO", self._index)
        index.seek(place * PAIR.size)
        return cast("tuple[int, int]", PAIR.unpack(index.read(PAIR.size)))


@contextmanager
def _open_items(folder: Path) -> Generator[_ItemFile]:
    path = folder / ITEMS
    with open_lines(path) as lines, open(path, "rb", opener=own_file) as file, ExitStack() as stack:
        index = None
        with suppress(OSError):  # pages are right without it
            index = stack.enter_context(open(folder / INDEX, "rb", opener=own_file))
        yield _ItemFile(lines, file, index)


def _shown(line: bytes, number: int, job_id: str) -> tuple[Any, Any]:
    """Return an item as a page has it, and its value for a filter."""
    call = f'py_job_output(job_id="{job_id}", stream="items", raw=true, line={number + 1})'
    if not line.endswith(b"\n"):
        return {
            "left_out": f"item {number} has more than {len(line)} bytes of JSON; {call} reads its text"
        }, None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {"left_out": f"item {number} is not JSON; {call} reads its text"}, None
    if len(line) > SHOWN_RESULT_BYTES:
        return {
            "left_out": f"item {number} has {len(line)} bytes of JSON; {call} reads its text in pages"
        }, value
    return value, value


_MISSING: Final = object()


def _part(item: Any, name: str) -> Any:
    """Return a field of an item by its dotted name, or `_MISSING`."""
    for step in name.split("."):
        if not isinstance(item, dict) or step not in item:
            return _MISSING
        item = cast("dict[str, Any]", item)[step]
    return item


def _same(found: Any, value: Any) -> bool:
    """Whether two JSON values are the same; in Python 1 equals true."""
    return found == value and isinstance(found, bool) == isinstance(value, bool)
