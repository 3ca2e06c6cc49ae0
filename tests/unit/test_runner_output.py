"""The bounded view of a stream."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner.output import Excerpt, excerpt, mark_timeout, open_stream

NOTE = re.compile(rb"\n\[\.\.\. (\d+) bytes in (\d+) lines? left out.*?\.\.\.\]\n")


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def show(stream: Path, data: bytes, limit: int = 1000, start: int = 0) -> Excerpt:
    stream.write_bytes(data)
    return excerpt(stream, start=start, limit_chars=limit, job_id="abc")


def test_short_output_is_shown_whole(stream: Path) -> None:
    assert show(stream, b"one\ntwo\n") == Excerpt("one\ntwo\n", 8, cut=False)


def test_a_stream_that_was_never_written_is_empty(stream: Path) -> None:
    assert excerpt(stream, start=0, limit_chars=10, job_id=None) == Excerpt("", 0, cut=False)


def test_what_was_there_before_the_start_is_not_shown(stream: Path) -> None:
    assert show(stream, b"before\nafter\n", start=7).text == "after\n"


def test_bytes_that_are_no_utf8_are_replaced(stream: Path) -> None:
    assert show(stream, b"a\xff\xfeb").text == "a\ufffd\ufffdb"


def test_text_of_wide_characters_is_whole_up_to_the_limit_in_characters(stream: Path) -> None:
    text = "\N{SNOWMAN}" * 1000
    assert show(stream, text.encode()).text == text


def test_long_output_shows_head_and_tail_and_counts_the_rest_exactly(stream: Path) -> None:
    lines = [b"line %d\n" % number for number in range(5000)]
    shown = show(stream, b"".join(lines))
    head, left_out, tail = _parts(shown)
    assert len(shown.text) <= 1000
    assert shown.cut
    assert head.startswith(b"line 0\n")
    assert tail.endswith(b"line 4999\n")
    assert left_out == (len(b"".join(lines)) - len(head) - len(tail), 5000 - (head + tail).count(b"\n"))


def test_the_note_says_how_to_read_on_from_the_very_byte(stream: Path) -> None:
    shown = show(stream, b"before\n" + b"x\n" * 5000, start=7)
    head = _parts(shown)[0]
    call = f'py_job_output(job_id="abc", stream="stdout", offset={7 + len(head)})'
    assert call in shown.text


def test_outside_a_job_the_note_promises_nothing(stream: Path) -> None:
    stream.write_bytes(b"x\n" * 5000)
    assert "py_job_output" not in excerpt(stream, start=0, limit_chars=1000, job_id=None).text


@settings(max_examples=30)
@given(
    st.text(
        alphabet="a\n\N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}\N{PILE OF POO}", min_size=5, max_size=25
    ),
    st.integers(0, 3),
)
def test_a_cut_never_splits_a_character(
    tmp_path_factory: pytest.TempPathFactory, text: str, shift: int
) -> None:
    text = "x" * shift + text * 300
    stream = tmp_path_factory.mktemp("cut") / "stdout"
    shown = show(stream, text.encode(), limit=600)
    if shown.cut:
        head, left_out, tail = _parts(shown)
        data = text.encode()
        assert "\ufffd" not in shown.text
        assert data.startswith(head)
        assert data.endswith(tail)
        middle = data[len(head) : len(data) - len(tail)]
        assert left_out == (len(middle), middle.count(b"\n") + (not middle.endswith(b"\n")))


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"[TIMEOUT]"), (b"half a line", b"half a line\n[TIMEOUT]"), (b"a line\n", b"a line\n[TIMEOUT]")],
)
def test_a_timeout_ends_the_stream_on_a_line_of_its_own(stream: Path, before: bytes, after: bytes) -> None:
    stream.write_bytes(before)
    mark_timeout(stream)
    assert stream.read_bytes() == after


def test_a_stream_is_private_and_appended_to(stream: Path) -> None:
    stream.write_bytes(b"before ")
    stream.unlink()
    for word in (b"one ", b"two"):
        with open_stream(stream) as descriptor, open(descriptor, "wb", closefd=False) as file:
            file.write(word)
    assert stream.read_bytes() == b"one two"
    assert stream.stat().st_mode & 0o777 == 0o600


def _parts(shown: Excerpt) -> tuple[bytes, tuple[int, int], bytes]:
    data = shown.text.encode()
    note = NOTE.search(data)
    assert note is not None
    return data[: note.start()], (int(note[1]), int(note[2])), data[note.end() :]
