"""Lines travel whole over pipes and sockets, and a long or broken one costs only itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from python_mcp_server.server.transports.lines import LineConnection, LineTooLong, StdioPipes


@asynccontextmanager
async def over_pipes(limit_bytes: int = 1_000_000) -> AsyncGenerator[tuple[LineConnection, int, int]]:
    """Yield a connection, and the client's descriptors: where to write to it, where to read from it."""
    inward, to_server = os.pipe()
    from_server, outward = os.pipe()
    lines = LineConnection(limit_bytes)
    await lines.open(StdioPipes(inward, outward))
    try:
        yield lines, to_server, from_server
    finally:
        await lines.close(1.0)
        for fd in (to_server, from_server):
            try:
                os.close(fd)
            except OSError:
                continue  # the test closed it


async def test_lines_come_out_as_they_went_in_however_they_are_cut():
    async with over_pipes() as (lines, to_server, _):
        os.write(to_server, b"one\ntw")
        assert await lines.read_line() == b"one"
        os.write(to_server, b"o\n\nfour\n")
        assert [await lines.read_line() for _ in range(3)] == [b"two", b"", b"four"]


async def test_a_last_line_without_an_end_counts_and_then_comes_none():
    async with over_pipes() as (lines, to_server, _):
        os.write(to_server, b"one\nlast")
        os.close(to_server)
        assert [await lines.read_line() for _ in range(3)] == [b"one", b"last", None]


@pytest.mark.parametrize("ends", [b"x" * 11 + b"\n", b"x" * 200 + b"\n"])
async def test_a_line_over_the_limit_is_skipped_and_the_next_one_read(ends: bytes):
    async with over_pipes(limit_bytes=10) as (lines, to_server, _):
        for byte in ends:
            os.write(to_server, bytes([byte]))
            await asyncio.sleep(0)
        os.write(to_server, b"0123456789\n")
        with pytest.raises(LineTooLong):
            await lines.read_line()
        assert await lines.read_line() == b"0123456789"


async def test_a_large_line_survives_a_reader_that_is_slow_to_come():
    async with over_pipes(limit_bytes=64 * 1024 * 1024) as (lines, to_server, _):
        text = b"y" * 6_000_000
        writer = asyncio.create_task(asyncio.to_thread(_write_all, to_server, (text + b"\n") * 3))
        got = [await lines.read_line() for _ in range(3)]
        await writer
        assert got == [text] * 3


async def test_a_write_waits_for_the_reader_and_arrives_whole():
    async with over_pipes() as (lines, _, from_server):
        data = b"z" * 3_000_000
        reading = asyncio.create_task(asyncio.to_thread(_read, from_server, len(data)))
        await lines.write(data)
        assert await reading == data


async def test_what_was_written_is_out_when_the_connection_is_closed():
    async with over_pipes() as (lines, _, from_server):
        await lines.write(b"answer\n")
        await lines.close(5.0)
        assert await asyncio.to_thread(_read, from_server, 100) == b"answer\n"


async def test_a_write_to_a_client_that_left_says_so():
    async with over_pipes() as (lines, _, from_server):
        os.close(from_server)
        with pytest.raises(BrokenPipeError):
            await _write_for_ever(lines)


async def test_stopping_wakes_the_readers_of_lines():
    async with over_pipes() as (lines, _, _unused):
        waiting = asyncio.create_task(lines.read_line())
        await asyncio.sleep(0)
        lines.stop()
        assert await waiting is None


async def test_one_socket_serves_both_ways():
    ours, theirs = socket.socketpair()
    with theirs:
        wire = StdioPipes(ours.detach(), -1)
        wire = StdioPipes(wire.read_fd, os.dup(wire.read_fd))
        assert wire.is_single_socket
        lines = LineConnection()
        await lines.open(wire)
        theirs.sendall(b"question\n")
        assert await lines.read_line() == b"question"
        await lines.write(b"answer\n")
        assert await asyncio.to_thread(theirs.recv, 100) == b"answer\n"
        await lines.close(1.0)


async def _write_for_ever(lines: LineConnection) -> None:
    while True:
        await lines.write(b"anybody?\n")
        await asyncio.sleep(0)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := os.read(fd, count - len(data))):
        data += piece
    return data
