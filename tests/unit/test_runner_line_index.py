"""The index of lines: right whoever built it, and never trusted blindly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner import search
from python_mcp_server.runner.search import SUFFIX, lines_of


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK", 16)
    monkeypatch.setattr(search, "_CHECKED", 8)
    monkeypatch.setattr(search, "_SAVE_AT", 3)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def starts(data: bytes) -> list[int]:
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    return [0, *(end for end in ends if end < len(data))] if data else [0]


def check(stream: Path, data: bytes) -> None:
    """Every line, from both ends, and every offset."""
    expected = starts(data)
    with lines_of(stream) as index:
        for number, start in enumerate(expected, start=1):
            assert index.start_of(number) == start
        assert index.start_of(len(expected) + 1) is None
        for number in range(1, len(expected) + 2):
            assert index.start_from_end(number) == expected[max(0, len(expected) - number)]
    with lines_of(stream) as index:
        for offset in range(0, len(data) + 3, 7):
            assert index.lines_before(offset) == data[:offset].count(b"\n")


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), min_size=1, max_size=5))
def test_lines_are_found_while_a_file_grows(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    stream = tmp_path_factory.mktemp("grows") / "stdout"
    data = b""
    for piece in pieces:
        data += piece + b"\n" * 5
        stream.write_bytes(data)
        check(stream, data)


def test_the_next_reader_goes_on_where_the_last_one_stopped(
    stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"0123456\n" * 100
    stream.write_bytes(data)
    with lines_of(stream) as index:
        index.lines_before(len(data))
    kept = stream.with_name(f"stdout{SUFFIX}")
    assert kept.stat().st_mode & 0o777 == 0o600
    read: list[int] = []
    original = search.LineIndex.read

    def counting(self: search.LineIndex, begin: int, end: int) -> bytes:
        read.append(end - begin)
        return original(self, begin, end)

    monkeypatch.setattr(search.LineIndex, "read", counting)
    with lines_of(stream) as index:
        assert index.start_of(77) == 76 * 8
    assert sum(read) < 50


def test_two_readers_at_once_write_the_same_index(stream: Path) -> None:
    data = b"line\n" * 200
    stream.write_bytes(data[:500])
    with lines_of(stream) as first:
        first.lines_before(300)
        with lines_of(stream) as second:
            second.lines_before(500)
        stream.write_bytes(data)
    check(stream, data)


@pytest.mark.parametrize("damage", [b"", b"x" * 160, bytes(160), b"\x01"])
def test_a_damaged_index_costs_only_itself(stream: Path, damage: bytes) -> None:
    data = b"abc\ndefghij\n" * 20
    stream.write_bytes(data)
    check(stream, data)
    stream.with_name(f"stdout{SUFFIX}").write_bytes(damage)
    check(stream, data)


def test_a_file_that_was_cut_and_has_grown_again_is_counted_anew(stream: Path) -> None:
    stream.write_bytes(b"one\n" * 100)
    check(stream, b"one\n" * 100)
    for data in (b"a longer line\n" * 60, b"b\n" * 30):
        stream.write_bytes(data)
        check(stream, data)


def test_an_index_that_cannot_be_written_is_done_without(stream: Path) -> None:
    stream.with_name(f"stdout{SUFFIX}").mkdir()
    data = b"line\n" * 20
    stream.write_bytes(data)
    check(stream, data)
