"""How long a connection may take, by a clock that the test sets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from python_mcp_server.server.transports.connections import (
    BODY_S,
    HEAD_S,
    READ_S,
    Connections,
    HttpConnection,
)

KEEP_ALIVE_S = 75
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGEST = 4 << 20


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes when the test says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run what is ready."""
        for _ in range(5):
            self.call_soon(self.stop)
            self.run_forever()

    def wait(self, seconds: float) -> None:
        """Let time pass, and run what is due."""
        self.now += seconds
        self.settle()


class Transport(asyncio.Transport):
    """Notes what is written, and whether it is closed. Its client reads all, unless it is to read nothing."""

    unread: int | None = None

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__({"peername": (address, 50000), "sockname": ("127.0.0.1", 8000)})
        self.written = b""
        self.closing = self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        if self.unread is not None:
            self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread or 0

    def close(self) -> None:
        self.closing = True
        self.closed = not self.unread

    def abort(self) -> None:
        self.closing = self.closed = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """Answer once the body is whole; refuse `/refused` at once, and do not answer `/never`."""
    while scope["raw_path"] != b"/refused" and (await receive()).get("more_body"):
        pass
    while scope["raw_path"] == b"/never" and (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@pytest.fixture
def clock() -> Iterator[Clock]:
    with contextlib.closing(Clock()) as loop:
        yield loop


Connect = Callable[..., tuple[HttpConnection, Transport]]


@pytest.fixture
def connect(clock: Clock) -> Iterator[Connect]:
    config = uvicorn.Config(reads_all, timeout_keep_alive=KEEP_ALIVE_S, log_config=None, lifespan="off")
    config.load()
    state, kept = ServerState(), Connections(8)
    opened: list[HttpConnection] = []

    def connected(address: str = "127.0.0.1") -> tuple[HttpConnection, Transport]:
        made = HttpConnection(kept, config=config, server_state=state, app_state={}, _loop=clock)
        transport = Transport(address)
        made.connection_made(transport)
        opened.append(made)
        return made, transport

    yield connected
    for connection in opened:
        connection.connection_lost(None)
    clock.settle()


def posted(path: bytes, size: int) -> bytes:
    return HEAD.replace(b" / ", b" " + path + b" ") + b"Content-Length: %d\r\n\r\n" % size


def test_a_first_request_has_the_time_of_a_head_the_next_that_of_a_pause(clock: Clock, connect: Connect):
    silent, asked = connect(), connect()
    asked[0].data_received(GET)
    clock.settle()
    clock.wait(HEAD_S)
    assert [transport.closed for _, transport in (silent, asked)] == [True, False]
    clock.wait(KEEP_ALIVE_S - HEAD_S)
    assert asked[1].closed


def test_a_request_after_a_refused_body_has_as_long_as_any_other(clock: Clock, connect: Connect):
    refused, transport = connect()
    refused.data_received(posted(b"/refused", 10))
    clock.settle()
    assert transport.written.startswith(b"HTTP/1.1 200")
    refused.data_received(b"x" * 10)
    clock.wait(KEEP_ALIVE_S - 1)
    assert not transport.closed
    refused.data_received(GET[:10])
    clock.wait(HEAD_S - 1)
    assert not transport.closed
    refused.data_received(GET[10:])
    clock.settle()
    assert transport.written.count(b"HTTP/1.1 200") == 2
    clock.wait(KEEP_ALIVE_S)
    assert transport.closed


def test_a_connection_after_a_refused_body_is_closed_in_the_end(clock: Clock, connect: Connect):
    refused, transport = connect()
    refused.data_received(posted(b"/refused", 10))
    clock.settle()
    refused.data_received(b"x" * 10)
    clock.wait(KEEP_ALIVE_S)
    assert transport.closed


def test_the_largest_body_may_come_slowly(clock: Clock, connect: Connect):
    slow, transport = connect()
    slow.data_received(posted(b"/", LARGEST))
    for _ in range(0, LARGEST, 20_000):
        clock.wait(1)
        assert not transport.closed
        slow.data_received(b"x" * 20_000)
    clock.settle()
    assert transport.written.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("piece", [0, 1, 1000])
def test_a_body_that_drips_is_closed(clock: Clock, connect: Connect, piece: int):
    drip, transport = connect()
    drip.data_received(posted(b"/", LARGEST))
    for _ in range(int(BODY_S * 1.2)):
        if not transport.closed:
            drip.data_received(b"x" * piece)
        clock.wait(1)
    assert transport.closed


@pytest.mark.parametrize("path", [b"/refused", b"/"])
def test_a_body_without_an_end_is_closed(clock: Clock, connect: Connect, path: bytes):
    endless, transport = connect()
    endless.data_received(HEAD.replace(b" / ", b" " + path + b" ") + b"Transfer-Encoding: chunked\r\n\r\n")
    clock.settle()
    waited = 0
    while not transport.closed:
        endless.data_received(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        clock.wait(1)
        waited += 1
        assert waited <= 601
    assert waited == (BODY_S if path == b"/refused" else 600)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", [b"/refused", b"/"])
def test_a_body_of_many_tiny_chunks_is_refused(clock: Clock, connect: Connect, path: bytes):
    """Each costs 20 us of the loop, also where the request has no token."""
    tiny, transport = connect()
    tiny.data_received(HEAD.replace(b" / ", b" " + path + b" ") + CHUNKED + b"1\r\n \r\n" * 10_000)
    clock.settle()
    assert transport.closed
    assert b"HTTP/1.1 400" in transport.written


def test_chunks_of_some_size_may_be_many(clock: Clock, connect: Connect):
    many, transport = connect()
    for _ in range(2):
        many.data_received(HEAD + CHUNKED + (b"50\r\n" + b" " * 0x50 + b"\r\n") * 10_000 + b"0\r\n\r\n")
        clock.settle()
    assert not transport.closed
    assert transport.written.count(b"HTTP/1.1 200") == 2


def test_a_client_that_reads_nothing_of_an_answer_is_closed(clock: Clock, connect: Connect):
    connection, transport = connect()
    transport.unread = 0
    connection.data_received(GET.replace(b"/ ", b"/never "))
    transport.write(b"x" * LARGEST)
    connection.pause_writing()
    clock.wait(READ_S)
    assert transport.closed


def test_a_client_that_reads_slowly_gets_its_whole_answer(clock: Clock, connect: Connect):
    connection, transport = connect()
    transport.unread = 0
    connection.data_received(GET.replace(b"/ ", b"/never "))
    transport.write(b"x" * 1000)
    connection.pause_writing()
    for _ in range(5):
        transport.unread -= 100
        clock.wait(READ_S)
        assert not transport.closed
    transport.unread = 0
    connection.resume_writing()
    clock.wait(READ_S)
    assert not transport.closed


@pytest.mark.parametrize("close", [b"Connection: close\r\n", b""])
def test_an_answer_whose_end_is_not_read_is_given_up(clock: Clock, connect: Connect, close: bytes):
    connection, transport = connect()
    transport.unread = 0
    connection.data_received(GET.replace(b"\r\n\r\n", b"\r\n" + close + b"\r\n"))
    clock.settle()
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert (transport.closing, transport.closed) == (bool(close), False)
    clock.wait(KEEP_ALIVE_S)
    clock.wait(READ_S)
    assert transport.closed


def test_one_address_may_hold_half_of_the_connections(connect: Connect):
    foreign = [connect("192.0.2.1")[1] for _ in range(6)]
    assert [transport.closed for transport in foreign] == [True, True, False, False, False, False]
    others = [connect("192.0.2.2")[1] for _ in range(4)]
    assert not any(transport.closed for transport in others + foreign[2:])


def test_an_address_at_its_limit_costs_only_itself(clock: Clock, connect: Connect):
    """Connections whose requests are being answered are not closed for new ones, of whomever."""
    busy = [connect("192.0.2.1") for _ in range(4)]
    for connection, _ in busy:
        connection.data_received(posted(b"/", 0).replace(b"POST", b"GET"))
    refused, admitted = connect("192.0.2.1")[1], connect("192.0.2.2")[1]
    assert refused.closed
    assert not admitted.closed
    assert not any(transport.closed for _, transport in busy)
    clock.settle()


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:db8::ffff:1", "::ffff:192.0.2.1"])
def test_the_addresses_of_one_network_count_together(connect: Connect, address: str):
    same = "192.0.2.1" if "." in address else "2001:db8::2"
    first = [connect(same)[1] for _ in range(4)]
    connect(address)
    assert [transport.closed for transport in first] == [True, False, False, False]


def test_an_address_of_this_machine_may_hold_all(connect: Connect):
    mine = [connect("127.0.0.1")[1] for _ in range(8)]
    assert not any(transport.closed for transport in mine)
    connect("127.0.0.2")
    assert [transport.closed for transport in mine] == [True, *[False] * 7]
