"""Pages of a job's output, by byte offset: live while it runs, whole afterwards."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput

STREAMS: Final = ("stdout", "stderr", "failures", "items")
"""Files in a job's folder; `failures` is written by `py_run_tests` alone, `items` by `py_map_script`."""
_WIDEST: Final = 4  # bytes of the widest character in UTF-8
MAX_PAGE_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class OutputPage:
    """A piece of output.

    Attributes:
        text: Decoded as UTF-8; what is none is replaced.
        next_offset: Where the next page begins, in bytes.
        total_bytes: What is there by now.
        eof: Whether the job ended and this page reaches its end.
    """

    text: str
    next_offset: int
    total_bytes: int
    eof: bool


def check_page(stream: str, limit: int) -> None:
    """Refuse a page that cannot be meant.

    Raises:
        InvalidInput: The text names the value.
    """
    if stream not in STREAMS:
        raise InvalidInput(f"stream is {stream!r}; it must be one of {', '.join(STREAMS)}")
    if not 0 < limit <= MAX_PAGE_BYTES:
        raise InvalidInput(f"limit is {limit}; it must be between 1 and {MAX_PAGE_BYTES} bytes")


def read_page(path: Path, offset: int, limit: int, *, ended: bool) -> OutputPage:
    """Read one page, as it was written. Blocks; a file that is not there is empty.

    Args:
        path: The file.
        offset: The byte to start at; below 0 it counts from the end.
        limit: The most bytes.
        ended: Whether nothing more will come.
    """
    try:
        with path.open("rb") as file:
            total = file.seek(0, 2)
            offset = max(0, total + offset) if offset < 0 else offset
            file.seek(min(offset, total))  # the kernel refuses numbers that are too large
            data = file.read(limit)
            total = file.seek(0, 2)
    except FileNotFoundError:
        return OutputPage("", max(0, offset), 0, ended)
    offset = min(offset, total)
    at_end = offset + len(data) >= total
    text, used = _decode(data, final=(at_end and ended) or limit < _WIDEST)
    return OutputPage(text, offset + used, total, ended and offset + used >= total)


def _decode(data: bytes, *, final: bool) -> tuple[str, int]:
    """Decode whole characters only, so that no page cuts one in two."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])
