"""The bounded view of a stream."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner.output import TIMEOUT_MARK, Excerpt, append_line, excerpt, open_stream

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


def test_progress_bars_and_colours_take_no_room(stream: Path) -> None:
    bar = b"".join(b"\r\x1b[32m%3d%%|%s|\x1b[0m" % (n, b"#" * n) for n in range(100))
    shown = show(stream, b"begin\n" + bar + b"\nend\n")
    assert shown == Excerpt("begin\n 99%|" + "#" * 99 + "|\nend\n", len(bar) + 11, cut=False)


def test_of_a_huge_progress_bar_the_last_state_is_at_the_end(stream: Path) -> None:
    data = b"begin\n" + b"".join(b"\r%6d of 200000" % n for n in range(200_000)) + b"\nend\n"
    shown = show(stream, data)
    assert shown.text.startswith("begin\n")
    assert shown.text.endswith("199999 of 200000\nend\n")
    assert len(shown.text) <= 1000


def nested_bars(count: int) -> bytes:
    return b"".join(b"\router %d\n\rinner %d\x1b[A" % (n // 100, n) for n in range(count))


def test_bars_below_each_other_take_the_rows_that_they_take_on_a_screen(stream: Path) -> None:
    data = b"begin\n" + nested_bars(1000) + b"\n\x1b[Kend\n"
    assert show(stream, data) == Excerpt("begin\nouter 9\nend\n", len(data), cut=False)


def test_of_a_flood_of_bars_below_each_other_head_and_tail_are_short(stream: Path) -> None:
    data = b"begin\n" + nested_bars(100_000) + b"\n\n" + b"last\n" * 20
    head, left_out, tail = _parts(show(stream, data))
    assert head.count(b"\n") < 4
    assert tail.startswith(b"outer 999\ninner 99999\nlast\n")
    assert tail.count(b"\n") == 22
    assert left_out[0] > 2_000_000


def test_the_end_of_a_traceback_is_shown_whole(stream: Path) -> None:
    frames = b"".join(b'  File "x.py", line %d, in f\n    f()\n' % n for n in range(2000))
    last = b"ValueError: " + b"v" * 20_000 + b"END\n"
    data = b"Traceback (most recent call last):\n" + frames + last
    shown = show(stream, data, limit=4000)
    head, (left_out, lines), tail = _parts(shown)
    assert head.startswith(b"Traceback (most recent call last):\n  File")
    assert tail.startswith(b"ValueError: vvv")
    assert tail.endswith(b"vEND\n")
    hidden = re.search(rb" \[\.\.\. (\d+) bytes of this line left out \.\.\.\] ", tail)
    assert hidden is not None
    assert len(head) + left_out + len(tail) - len(hidden[0]) + int(hidden[1]) == len(data)
    assert lines == 4001 - head.count(b"\n")
    assert len(shown.text) <= 4000


def test_the_note_stands_where_a_part_of_the_last_line_is_left_out(stream: Path) -> None:
    data = b"".join(b"frame %d\n" % n for n in range(120)) + b"ValueError: " + b"v" * 9_000 + b"\n"
    head, left_out, tail = _parts(show(stream, data, limit=2500))
    assert head.endswith(b"ValueError: " + b"v" * 188)
    assert left_out == (len(data) - len(head) - len(tail), 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"[TIMEOUT]"), (b"half a line", b"half a line\n[TIMEOUT]"), (b"a line\n", b"a line\n[TIMEOUT]")],
)
def test_a_timeout_ends_the_stream_on_a_line_of_its_own(stream: Path, before: bytes, after: bytes) -> None:
    stream.write_bytes(before)
    append_line(stream, TIMEOUT_MARK)
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
