"""Lines of a file, found by counting their ends block by block."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.runner import output
from python_mcp_server.runner.output import open_lines


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_BLOCK", 16)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def starts(data: bytes) -> list[int]:
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    return [0, *(end for end in ends if end < len(data))] if data else [0]


def check(stream: Path, data: bytes) -> None:
    """Every line, from both ends, and every offset."""
    expected = starts(data)
    with open_lines(stream) as index:
        for number, start in enumerate(expected, start=1):
            assert index.start_of(number) == start
        assert index.start_of(len(expected) + 1) is None
        for number in range(1, len(expected) + 2):
            assert index.start_from_end(number) == expected[max(0, len(expected) - number)]
    with open_lines(stream) as index:
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


def test_a_file_that_was_cut_and_has_grown_again_is_counted_anew(stream: Path) -> None:
    stream.write_bytes(b"one\n" * 100)
    check(stream, b"one\n" * 100)
    for data in (b"a longer line\n" * 60, b"b\n" * 30):
        stream.write_bytes(data)
        check(stream, data)
