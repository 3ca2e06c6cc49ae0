"""Text files that others wrote: with a byte order mark, in another encoding, half merged, too large.

A line ends at LF, CRLF and CR, as for every tool that wrote such a file; `str.splitlines` knows seven more
ends, which are text here.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import read_regular

MOST_BYTES: Final = 1 << 20
"""The largest file of settings; guessed: ten times what a large project has. Such a file can take 3 s."""
MOST_DATA_BYTES: Final = 256 << 20
"""The largest list of arguments."""
MOST_SCRIPT_BYTES: Final = 16 << 20
WAY_OUT: Final = "correct it, or run a script without it by use_uv=false"
"""Advice on a file that stops everything in its directory, also the script that would repair it."""
_MOST_PARTS: Final = 16
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
    """Return the lines of a text, without their ends; a line end at the very end does not begin another
    line.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def decode(data: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or the encoding of the byte order mark; Windows programs often write UTF-16."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors)
    return data.decode("utf-8", errors)


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
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise InvalidInput(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


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
        before = error.object[: error.start].decode(error.encoding, "replace")
        encoding = error.encoding.upper()[:6].removesuffix("-")
        raise InvalidInput(f"{name} cannot be read: line {_line_at(before)} is not {encoding}") from None


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
