"""Text files of others: lines, marks, encodings."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.uv import sentence
from python_mcp_server.runner.textfile import (
    decode,
    read_bytes,
    read_lines,
    read_settings,
    read_text,
    split_lines,
)

SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb\rc\n\rd", ["a", "b", "c", "", "d"]),
        ("\n\n", ["", ""]),
        (SEPARATORS + "\n" + SEPARATORS, [SEPARATORS, SEPARATORS]),
    ],
)
def test_lines_end_at_lf_crlf_and_cr_only(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@pytest.mark.parametrize(
    "data",
    ["caf\xe9".encode(), "caf\xe9".encode("utf-8-sig"), "caf\xe9".encode("utf-16"),
     codecs.BOM_UTF16_BE + "caf\xe9".encode("utf-16-be")],
)  # fmt: skip
def test_the_mark_says_the_encoding_and_is_no_part_of_the_text(data: bytes) -> None:
    assert decode(data) == "caf\xe9"


def test_what_cannot_be_read_is_refused_by_name_and_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(InvalidInput, match="the file cannot be read: No such file or directory"):
        read_bytes(file, "the file")
    file.write_bytes(b"a\r\nb\rc\n\xff")
    with pytest.raises(InvalidInput, match="the file cannot be read: line 4 is not UTF-8"):
        read_text(file, "the file")
    with pytest.raises(InvalidInput, match="the file cannot be read: it is larger than 0 KiB"):
        read_bytes(file, "the file", 7)
    with pytest.raises(InvalidInput, match="the file cannot be read: Is a directory"):
        read_text(tmp_path, "the file")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_whole_wherever_a_read_ends(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [f"{number}\u20ac" * (number % 50) for number in range(3_000)]
    (tmp_path / "file").write_bytes(end.join(lines).encode(encoding))
    looks: list[None] = []
    assert list(read_lines(tmp_path / "file", "the file", lambda: looks.append(None))) == lines
    assert len(looks) > 2


@pytest.mark.parametrize("before", [1, 40_000])
def test_a_line_that_is_no_text_or_too_long_is_refused_by_number(tmp_path: Path, before: int) -> None:
    file = tmp_path / "file"
    for wrong, words in (
        (b"\xff\n", "is not UTF-8"),
        (b"x" * ((4 << 20) + 70_000), "is longer than 4 MiB"),
    ):
        file.write_bytes(b"a\r\n" * before + wrong)
        with pytest.raises(InvalidInput, match=f"the file cannot be read: line {before + 1} {words}"):
            list(read_lines(file, "the file", lambda: None))


@pytest.mark.parametrize("text", ["<<<<<<<\n", "x <<<<<<< HEAD\n", "=======\n", "<<<<<<<< HEAD\n"])
def test_only_the_marks_of_a_merge_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert read_settings(tmp_path / "file", "the file") == text


def test_what_uv_says_of_an_odd_path_stays_one_line() -> None:
    assert sentence("error: no `/a\u2028b`\n  cause: x\x85y\n") == "no `/a b`; x y"
