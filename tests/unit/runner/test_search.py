"""Lines as a reader sees them, and the search in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner import search
from python_mcp_server.runner.search import Search, readable


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"plain \xe2\x98\x83\n", "plain \N{SNOWMAN}\n"),
        (b"\x1b[1;31mred\x1b[0m\x1b[K\n", "red\n"),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b(B\n", "ab\n"),
        (b"cut off \x1b[3", "cut off "),
        (b"\x1b", ""),
        (b"  0%|  |\r 50%|# |\r100%|##|\nnext\n", "100%|##|\nnext\n"),
        (b"100%\r    \r", "100%"),
        (b"windows\r\nlines\r\n", "windows\nlines\n"),
        (b"\r\n", "\n"),
        (b"1/3\b\b\b2/3\b\b\b3/3\n", "3/3\n"),
        (b"\b\bx", "x"),
        (b"a\x00b\x07\tc\x7f", "a\0b\tc"),
        (b"\xff\xfe\r\xc3", "\ufffd"),
    ],
)
def test_text_reads_as_it_stands_on_a_screen(written: bytes, seen: str) -> None:
    assert readable(written) == seen


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_shown_text_keeps_its_lines_and_steers_no_terminal(data: bytes) -> None:
    text = readable(data)
    assert text.count("\n") == data.count(b"\n")
    assert not any(ord(char) < 32 and char not in "\0\t\n" for char in text)


def find(path: Path, data: bytes, pattern: str, **more: Any) -> dict[str, Any]:
    path.write_bytes(data)
    wish = {"path": str(path), "pattern": pattern, "offset": 0, "line": 1, "end": len(data), "ended": True,
            "limit": 10_000, "seconds": 60}  # fmt: skip
    return Search(wish | more).run()


def test_matching_lines_come_with_their_numbers(tmp_path: Path) -> None:
    data = b"one\n\x1b[31mtwo\x1b[0m\nthree\ntwo two"
    assert find(tmp_path / "f", data, "^two") == {
        "lines": ["2: two\n", "4: two two\n"],
        "next_offset": len(data),
    }
    assert find(tmp_path / "f", data, "two$", offset=4, line=2, ended=False) == {
        "lines": ["2: two\n"],
        "next_offset": data.rindex(b"two two"),
    }


def test_a_search_goes_on_where_the_room_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_BLOCK", 64)
    data = b"".join(b"line %d\n" % number for number in range(1, 501))
    found: list[str] = []
    offset = 0
    while offset < len(data):
        answer = find(
            tmp_path / "f", data, "7$", offset=offset, line=data.count(b"\n", 0, offset) + 1, limit=40
        )
        assert answer["next_offset"] > offset
        found += answer["lines"]
        offset = answer["next_offset"]
    assert found == [f"{number}: line {number}\n" for number in range(7, 501, 10)]


def test_a_search_stops_in_time_and_has_always_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_BLOCK", 5)
    assert find(tmp_path / "f", b"a\n" * 10, "a", seconds=-1) == {
        "lines": ["1: a\n", "2: a\n"],
        "next_offset": 4,
    }
    monkeypatch.setattr(search, "_BLOCK", 100)
    monkeypatch.setattr(search, "_LINES_A_LOOK", 3)
    assert find(tmp_path / "f", b"b\n" * 10, "a", seconds=-1) == {"lines": [], "next_offset": 6}


def test_a_line_beyond_all_bounds_is_searched_in_its_head_and_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_BLOCK", 1000)
    monkeypatch.setattr(search, "_LONGEST", 5000)
    data = b"first\nhead" + b"x" * 20_000 + b"end\nlast head\n"
    assert find(tmp_path / "f", data, "end") == {"lines": [], "next_offset": len(data)}
    found = find(tmp_path / "f", data, "head")["lines"]
    assert [line.partition(":")[0] for line in found] == ["2", "3"]
    assert found[0].endswith("[... 1000 more characters of this line ...]\n")
    assert found[1] == "3: last head\n"
