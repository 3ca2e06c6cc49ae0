"""Pages of whole lines of a job's output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs import output
from python_mcp_server.jobs.output import LinePage, Wanted, read_lines


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def read(stream: Path, data: bytes, *, ended: bool = True, **wanted: Any) -> LinePage:
    stream.write_bytes(data)
    asked = Wanted(**wanted)
    asked.check()
    return read_lines(stream, asked, ended=ended)


def test_a_page_ends_with_a_whole_line(stream: Path) -> None:
    page = read(stream, b"one\ntwo\nthree\n", limit=10)
    assert page == LinePage("one\ntwo\n", 8, 14, eof=False)
    assert read(stream, b"one\ntwo\nthree\n", offset=8) == LinePage("three\n", 14, 14, eof=True)


def test_while_a_job_runs_its_last_line_is_told_apart_until_it_is_whole(stream: Path) -> None:
    running = read(stream, b"one\n10%\r20%", ended=False)
    assert running == LinePage("one\n", 4, 11, eof=False, unfinished="20%")
    assert read(stream, b"one\n10%\r20%\r100%\n", ended=False, offset=4) == LinePage(
        "100%\n", 17, 17, eof=False
    )
    assert read(stream, b"one\n10%\r20%", offset=4) == LinePage("20%", 11, 11, eof=True)


def test_the_text_is_made_readable_unless_it_is_wanted_as_it_was_written(stream: Path) -> None:
    data = b"\x1b[32mok\x1b[0m \xff\n"
    assert read(stream, data).text == "ok \ufffd\n"
    assert read(stream, data, raw=True).text == "\x1b[32mok\x1b[0m \ufffd\n"


def test_a_page_shows_the_rows_that_a_terminal_would_show(stream: Path) -> None:
    data = b"begin\n" + b"".join(b"\router\n\rinner %d\x1b[A" % n for n in range(20)) + b"\n\x1b[Kend\n"
    assert read(stream, data).text == "begin\nouter\nend\n"
    later = read(stream, data, line=10)
    assert (later.text, later.first_line) == ("outer\nend\n", 10)
    assert read(stream, data, pattern="inner 19").text == "22: inner 19\n"


def test_a_line_longer_than_a_page_is_cut_at_a_character(stream: Path) -> None:
    data = "\N{SNOWMAN}".encode() * 4 + b"\n"
    first = read(stream, data, limit=7, ended=False)
    assert (first.text, first.next_offset) == ("\N{SNOWMAN}" * 2, 6)
    assert read(stream, data, limit=2, ended=False).next_offset == 2  # narrower than a character, it goes on


@settings(max_examples=60)
@given(st.text("ab\n\N{SNOWMAN}", max_size=60), st.integers(4, 20), st.booleans())
def test_the_pages_together_are_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, limit: int, ended: bool
) -> None:
    stream = tmp_path_factory.mktemp("pages") / "stdout"
    data, offset, pages = text.encode(), 0, b""
    while True:
        page = read(stream, data, ended=ended, offset=offset, limit=limit, raw=True)
        pages += data[offset : page.next_offset]
        assert page.text == data[offset : page.next_offset].decode()
        if page.next_offset == offset:
            break
        offset = page.next_offset
    assert data == pages + (page.unfinished or "").encode()
    assert page.eof == ended


def test_an_offset_below_zero_counts_from_the_end_and_starts_with_a_line(stream: Path) -> None:
    data = b"one\ntwo\nthree\n"
    assert read(stream, data, offset=-8).text == "three\n"
    assert read(stream, data, offset=-6).text == "three\n"
    assert read(stream, data, offset=-3).text == "ee\n"
    assert read(stream, data, offset=-100).text == data.decode()


def test_a_line_is_found_by_its_number_from_both_ends(stream: Path) -> None:
    data = b"one\ntwo\nthree\nfour"
    assert read(stream, data, line=2, limit=5) == LinePage("two\n", 8, 18, eof=False, first_line=2)
    assert read(stream, data, line=-2) == LinePage("three\nfour", 18, 18, eof=True, first_line=3)
    assert read(stream, data, line=-99).first_line == 1
    assert read(stream, data, line=5) == LinePage("", 18, 18, eof=True, total_lines=4)
    assert read(stream, b"", line=1) == LinePage("", 0, 0, eof=True, first_line=1)
    assert read_lines(stream.with_name("none"), Wanted(line=3), ended=False) == LinePage("", 0, 0, eof=False)


def test_lines_that_match_come_with_their_numbers(stream: Path) -> None:
    data = b"".join(b"line %d\n" % number for number in range(1, 1001))
    assert read(stream, data, pattern="^line .*99$", line=200) == LinePage(
        "".join(f"{number}: line {number}\n" for number in range(299, 1001, 100)),
        len(data), len(data), eof=True, first_line=200, matches=8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [("(", "no regular expression: missing"), ("a{4294967295}{9}", "no regular expression"),
     ("", "pattern has 0 characters"), ("x" * 1001, "pattern has 1001 characters")],
)  # fmt: skip
def test_an_invalid_pattern_is_refused(stream: Path, pattern: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        read(stream, b"x\n", pattern=pattern)


@pytest.mark.parametrize("kill_s", [0.3, 60.0])
def test_a_pattern_that_comes_to_no_end_is_given_up(
    stream: Path, monkeypatch: pytest.MonkeyPatch, kill_s: float
) -> None:
    monkeypatch.setattr(output, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(output, "_KILL_S", kill_s)
    with pytest.raises(InvalidInput, match=r"pattern '\(a\+\)\+b' came to no end on"):
        read(stream, b"fine\n" + b"a" * 60 + b"\n", pattern="(a+)+b")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [({"line": 0}, "line is 0; the first line is 1"), ({"line": 2, "offset": 3}, "line is 2 and offset is 3"),
     ({"limit": 0}, "limit is 0"), ({"stream": "log"}, "stream is 'log'")],
)  # fmt: skip
def test_impossible_values_are_refused_by_value(wanted: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Wanted(**wanted).check()
