"""Text files that others wrote: with a byte order mark, in another encoding, half merged, too large.

A line ends at LF, CRLF and CR, as for every tool that wrote such a file; `str.splitlines` knows seven more
ends, which are text here.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import open_regular, read_regular, too_large

MOST_BYTES: Final = 1 << 20
"""The largest file of settings; guessed: ten times what a large project has. Such a file can take 3 s."""
MOST_DATA_BYTES: Final = 64 << 20
"""The largest list of arguments: of 100,000 items 640 bytes each."""
_MOST_LINE_BYTES: Final = 4 << 20
"""The longest of its lines; Linux gives the arguments of a program 2 MiB."""
_BLOCK: Final = 1 << 16
MOST_SCRIPT_BYTES: Final = 16 << 20
WAY_OUT: Final = "correct it, or run a script without it by use_uv=false"
"""Advice on a file that stops everything in its directory, also the script that would repair it."""
_MOST_PARTS: Final = 16  # tomllib takes 33 s for a key of 20,000 parts, which 40 KB can hold
_KEY_PART: Final = r"""(?:"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|(?<![\w-])[\w-]+)"""
_DEEP_KEY: Final = re.compile(
    r'''(?s:"""(?:\\.|[^\\])*?(?:"{3,5}|\\?\Z))|(?s:\'{3}.*?(?:\'{3,5}|\Z))|\#[^\n]*'''
    rf"|(?P<key>(?:{_KEY_PART}[ \t]*\.[ \t]*){{{_MOST_PARTS}}})|{_KEY_PART}"
)
"""Finds texts and comments, which may say anything, and long keys.

What is not closed goes to the end, so that nothing is looked at twice.
"""
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END: Final = re.compile(r"\r\n?|\n")
_MERGE: Final = re.compile(r"(?:\A|[\r\n])(<{7} [^\r\n]*|>{7} [^\r\n]*)")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text without their ends; a line end at the very end begins no other line."""
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def decode(data: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or the encoding of the byte order mark; Windows programs often write UTF-16."""
    size, encoding = _mark_of(data)
    return data[size:].decode(encoding, errors)


def _mark_of(data: bytes) -> tuple[int, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return len(mark), encoding
    return 0, "utf-8"


def read_bytes(path: Path, name: str, most_bytes: int = MOST_DATA_BYTES) -> bytes:
    """Return the bytes of a file.

    Args:
        path: The file.
        name: The name of the file in the error.
        most_bytes: The largest allowed size.

    Raises:
        InvalidInput: The file cannot be read, is no regular file, or is too large.
    """
    try:
        return read_regular(str(path), most_bytes)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError | ValueError) -> InvalidInput:
    """Return the error of a file that cannot be read; a path with a NUL is a `ValueError`."""
    return InvalidInput(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")


def read_text(path: Path, name: str, most_bytes: int = MOST_DATA_BYTES) -> str:
    """Return the text of a file; its line ends stay.

    Raises:
        InvalidInput: The file cannot be read, is too large, or is not text; in the last case the line is
            named.
    """
    data = read_bytes(path, name, most_bytes)
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        raise _not_text(name, error, 0) from None


def read_lines(path: Path, name: str, check: Callable[[], None]) -> Iterator[str]:
    """Yield the lines of a text file without their ends, as they are read.

    Args:
        path: The file.
        name: The name of the file in the error.
        check: Called between two reads.

    Raises:
        InvalidInput: As for `read_text`, or a line is too long to be the arguments of a program.
    """
    number, rest = 0, ""
    try:
        for text in _decoded(path, check):
            *whole, rest = f"{rest}{text}".split("\n")
            for line in whole:
                number += 1
                yield line
            _check_line(rest, number + 1)
    except UnicodeDecodeError as error:
        raise _not_text(name, error, number) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None
    if rest:
        yield rest


def _check_line(begun: str, number: int) -> None:
    if len(begun) > _MOST_LINE_BYTES:
        raise ValueError(f"line {number} is longer than {_MOST_LINE_BYTES >> 20} MiB")


def _decoded(path: Path, check: Callable[[], None]) -> Iterator[str]:
    """Yield the text of a file in pieces, each line end as LF."""
    with open(open_regular(str(path)), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > MOST_DATA_BYTES:
            raise too_large(MOST_DATA_BYTES, str(path))
        data = file.read(_BLOCK)
        size, encoding = _mark_of(data)
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        left, data = MOST_DATA_BYTES, data[size:]
        while data:
            if (left := left - len(data)) < 0:  # it grows
                raise too_large(MOST_DATA_BYTES, str(path))
            yield decoder.decode(data)
            check()
            data = file.read(_BLOCK)
        yield decoder.decode(b"", final=True)


def _not_text(name: str, error: UnicodeDecodeError, lines: int) -> InvalidInput:
    """Return the error of a file that is not text, with the line, after so many that were read before."""
    number = lines + _line_at(error.object[: error.start].decode(error.encoding, "replace"))
    encoding = error.encoding.upper()[:6].removesuffix("-")
    return InvalidInput(f"{name} cannot be read: line {number} is not {encoding}")


def read_settings(path: Path, name: str, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a file of settings.

    Raises:
        InvalidInput: As for `read_text`, or the file has an unfinished merge.
    """
    text = read_text(path, name, most_bytes)
    if (mark := _MERGE.search(text)) is not None:
        number = _line_at(text[: mark.start(1)])
        raise InvalidInput(f"{name} cannot be read: line {number} is left of a merge ({mark[1][:40]!r})")
    return text


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a text in TOML.

    Raises:
        ValueError: It is not valid, or too deep: `tomllib` takes half a minute for a key of 20,000 parts.
    """
    import tomllib

    if any(found["key"] for found in _DEEP_KEY.finditer(text)):
        raise ValueError(f"a key has {_MOST_PARTS} parts or more")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _line_at(before: str) -> int:
    """Return the number of the line in which this text ends, counted from 1."""
    return len(_LINE_END.findall(before)) + 1
