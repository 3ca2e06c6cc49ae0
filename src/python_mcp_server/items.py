"""The items of a job: a file of JSON lines in its folder, which the body's own process appends to.

items          an item per line, in one write: a kill costs at most the line that is being written, and
               readers ignore a last line that has no end
items.index    pairs of numbers, 16 bytes each: how many items come before a byte of `items`, and that byte

The index makes item N cheap to find in a file of any size, and is never needed: readers count lines from its
last pair on, or from the start. `jobs.item_pages` has the readers. Bodies import this module through
`context`, so it must stay light.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from typing import Final

from python_mcp_server.errors import InvalidInput, NotInJob
from python_mcp_server.regular import open_own

ITEMS: Final = "items"
INDEX: Final = "items.index"
PAIR: Final = struct.Struct(">QQ")
INDEX_STEP_BYTES: Final = 1 << 18
"""Of items between two pairs of the index: a reader counts the lines of so many bytes in 0.1 ms."""

MOST_ITEM_BYTES: Final = 10_000_000
"""Of one item's JSON; guessed: beyond it an item is a file, and its path is the item."""

_APPEND: Final = os.O_WRONLY | os.O_APPEND
_log: Final = logging.getLogger(__name__)


class ItemLog:
    """Writes the items of one start of a body; the file begins anew with the first one. Threads may share it.

    Args:
        folder: The job's folder, which exists when the first item comes.
    """

    __slots__ = ("_closed", "_count", "_end", "_folder", "_indexed", "_lock", "_noted", "_pid")

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.RLock()  # a signal handler of the body may emit in the middle of an item
        self._pid = os.getpid()
        self._count = -1
        self._end = 0
        self._indexed: int | None = 0  # the last byte in the index; None once the index is given up
        self._noted = self._closed = False

    def add(self, item: object) -> None:
        """Append any value in its JSON form.

        Raises:
            InvalidInput: The JSON is too large.
            NotInJob: The body has ended, or runs in another process.
            OSError: The item cannot be written; nothing of it stays.
        """
        line, note = _line_of(item)
        if note is not None and not self._noted:
            self._noted = True
            _log.warning("an emitted item is not all JSON, and others may be so too: %s", note)
        self.append(line)

    def begin(self) -> None:
        """Make the file, or empty it."""
        with self._lock:
            for name in (INDEX, ITEMS):  # the index first: it must not tell of items that are gone
                descriptor = open_own(os.path.join(self._folder, name), _APPEND | os.O_CREAT)
                try:
                    os.ftruncate(descriptor, 0)
                finally:
                    os.close(descriptor)
            self._count = 0

    def append(self, line: bytes) -> None:
        """Append a line, which is JSON and has its end.

        Raises:
            NotInJob: As `add`.
            OSError: As `add`.
        """
        if os.getpid() != self._pid:
            raise NotInJob(
                "emit takes items only in the process of the body; let a child process return its items to "
                "the body, and emit them there"
            )
        with self._lock:
            if self._closed:
                raise NotInJob("emit takes no item once the body has ended; wait for its threads in the body")
            if self._count < 0:
                self.begin()
            self._note(_appended(os.path.join(self._folder, ITEMS), line), len(line))

    def close(self) -> None:
        """Take no more items."""
        with self._lock:
            self._closed = True

    def _note(self, start: int, size: int) -> None:
        """Count an item, and bring the index up to date where a step is complete."""
        if start != self._end:
            self._indexed = None  # other code writes to the file too, so the count is not that of the lines
        self._count, self._end = self._count + 1, start + size
        if self._indexed is None or self._end - self._indexed < INDEX_STEP_BYTES:
            return
        try:
            _appended(os.path.join(self._folder, INDEX), PAIR.pack(self._count, self._end))
            self._indexed = self._end
        except OSError:
            _log.debug("the items of %s have no further index", self._folder, exc_info=True)
            self._indexed = None


def drop_items(folder: str) -> None:
    """Remove what an earlier attempt of the job has emitted: the next one may emit nothing. Blocks.

    Raises:
        OSError: It cannot be removed.
    """
    if has_items(folder):
        ItemLog(folder).begin()


def has_items(folder: str) -> bool:
    """Whether the file of items is there; blocks."""
    return os.path.isfile(os.path.join(folder, ITEMS))


def _appended(path: str, data: bytes) -> int:
    """Append to a file that is there, all or nothing, and return the byte where the data begins."""
    descriptor = open_own(path, _APPEND)  # for each item: a body may close any descriptor that is kept
    try:
        start = os.lseek(descriptor, 0, os.SEEK_END)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, start)
            raise
        return start
    finally:
        os.close(descriptor)


def _line_of(item: object) -> tuple[bytes, str | None]:
    """Return an item as a line, and what its JSON leaves out."""
    import json  # a worker whose bodies emit nothing needs neither

    from python_mcp_server.jsonable import jsonable

    form, note = jsonable(item)
    try:
        data = json.dumps(form, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        data = json.dumps(form).encode()
    if len(data) > MOST_ITEM_BYTES:
        raise InvalidInput(
            f"emit got an item of {len(data)} bytes of JSON; it may have {MOST_ITEM_BYTES}; write a large "
            "one to a file in current_job().folder and emit its name"
        )
    return data + b"\n", note
