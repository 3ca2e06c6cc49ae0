"""Text that moves the cursor, as it stands on a screen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner.output import on_screen
from python_mcp_server.runner.search import readable


def bars(outer: int, inner: int) -> bytes:
    """Two bars as tqdm draws them, the inner one below the outer and gone at its end."""
    written = b""
    for i in range(outer):
        written += b"\router %d of %d" % (i, outer)
        for j in range(inner):
            written += b"\n\rinner %d of %d\x1b[A" % (j, inner)
        written += b"\n\r" + b" " * 20 + b"\r\x1b[A"
    return written + b"\router %d of %d\n" % (outer, outer)


TABLE = b"a 0\nb 0\n" + b"".join(b"\x1b[2A\x1b[2Ka %d\n\x1b[2Kb %d\n" % (n, n) for n in range(1, 9))


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (bars(3, 200), "outer 3 of 3\n"),
        (b"begin\n" + bars(2, 2) + b"end\n", "begin\nouter 2 of 2\nend\n"),
        (TABLE, "a 8\nb 8\n"),
        (b"one\ntwo\nthree\n\x1b[2Fnew\n", "one\nnew\nthree"),
        (b"one\ntwo\x1b[1A\x1b[1D!", "on!\ntwo"),
        (b"one\x1b[Btwo\x1b[Ethree", "one\n   two\nthree"),
        (b"old old\r\x1b[Knew\n", "new\n"),
        (b"abcdef\x1b[3G\x1b[1Kx", "  xdef"),
        (b"wrong\x1b[2K\rright", "right"),
        (b"[      ]\r[\x1b[2C=\x1b[sx\x1b[u>", "[  =>  ]"),
        (b"\x1b7a\x1b8b\x1bEc\x1bMd", "bd\nc"),
        (b"a\nb\nc\x1b[2;1Hx\x1b[J", "a\nx"),
        (b"a\nb\nc\x1b[2;2H\x1b[1J", "\n\nc"),
        (b"frame 1\nmore\n\x1b[H\x1b[2Jframe 2\n", "frame 2\n"),
        (b"frame 1\n\x1bcframe 2\n", "frame 2\n"),
        (b"1\b2\x1b[31m3\x1b[0m\x1b[K\r\n4", "23\n4"),
        (b"\x1b[999Aa\x1b[999Db\x1b[Ac", "bc"),
        (b"a\x1b[3J\x1b[9Kb", "ab"),
        (b"wide \xe2\x98\x83\r\x1b[5Cx\xff\xc3", "wide x\ufffd\ufffd"),
        (b"\x1b[;Ha\x1b[0;0Hb\x1b[Bc", "b\n c"),
    ],
)
def test_text_that_moves_the_cursor_reads_as_a_terminal_shows_it(written: bytes, seen: str) -> None:
    assert on_screen(written) == seen


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"\rinner 100\x1b[A\router 9\n\rinner 101", "outer 9\ninner 101"),
        (b"\x1b[3Ax\n\n\ny", "x\n\n\ny"),
        (b"\x1b[2A\x1b[2Ba\n", "a\n"),
        (b"a\x1b[Hb", "b"),
        (b"10%\n", "10%\n"),
    ],
)
def test_text_from_the_middle_may_write_in_rows_before_it(written: bytes, seen: str) -> None:
    assert on_screen(written, goes_on=True) == seen


def test_rows_that_scrolled_away_stay_as_they_are() -> None:
    rows = b"".join(b"row %d\n" % number for number in range(200))
    shown = on_screen(rows + b"\x1b[999A\x1b[2Jnew\n").split("\n")
    assert shown[:151] == [f"row {number}" for number in range(151)]
    assert shown[151:] == ["new", ""]


@pytest.mark.parametrize("written", [b"plain\n", b"10%\r20%\n\x1b[1mbold\x1b[0m", b"\x1b[?25l\x1b[m\xff"])
def test_without_moves_each_line_stays_a_line(written: bytes) -> None:
    assert on_screen(written) == readable(written)


PIECES = [
    b"\x1b[A",
    b"\x1b[9999B",
    b"\x1b[9999C",
    b"\x1b[3D",
    b"\x1b[H",
    b"\x1b[1J",
    b"\x1b[1K",
    b"\x1b[K",
    b"\x1bM",
    b"\x1bD",
    b"\x1b7",
    b"\x1b8",
    b"\n",
    b"\r",
    b"\b",
    b"word ",
    b"\xe2\x98",
    b"\x1b[",
    b"9;",
]


@settings(max_examples=100)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=60), st.booleans())
def test_nothing_that_steers_a_terminal_is_left_and_no_move_makes_a_flood(
    pieces: list[bytes], goes_on: bool
) -> None:
    text = on_screen(b"\x1b[A" + b"".join(pieces), goes_on=goes_on)
    assert not any(ord(char) < 32 and char not in "\0\t\n" for char in text)
    assert text.count("\n") < 50 * (len(pieces) + 1)
    assert max(map(len, text.split("\n"))) <= 200 + 5 * len(pieces)
