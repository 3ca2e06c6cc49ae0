"""The stdio transport: JSON lines on the loop's own readers and writers.

The SDK's transport makes three thread hops per message and shares its threads with every blocking
tool; this one costs a third of the time and never waits for a thread, where both ends are pipes or
sockets. An event loop cannot wait for a terminal or a file: there, threads read and write the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, JSONRPCError, JSONRPCMessage, JSONRPCRequest, JSONRPCResponse
from pydantic_core import PydanticSerializationError

from python_mcp_server.server.sdk.messages import NotAMessage, parse, refusal
from python_mcp_server.server.sdk.private import low_level
from python_mcp_server.server.transports.lines import (
    LINE_LIMIT_BYTES,
    LineConnection,
    LineFiles,
    Lines,
    LineTooLong,
    StdioPipes,
)

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer


_LAST_ANSWERS_S: Final = 0.15
"""Time to answer requests that came right before the end of the input, as when a file is piped in."""

_TOO_LONG: Final = f"a line is longer than {LINE_LIMIT_BYTES} bytes"
_FLUSH_S: Final = 0.5  # the SDK's client waits 2 s for the exit, and the manager needs its part

_log: Final = logging.getLogger(__name__)


async def serve_stdio(
    server: MCPServer[Any],
    pipes: StdioPipes,
    on_signal: Callable[[], Awaitable[None]],
    on_first_answer: Callable[[], object] = bool,
) -> int:
    """Serve one client until it leaves, or until SIGTERM or SIGINT.

    Args:
        server: The server; its lifespan is entered here.
        pipes: The client's pipes.
        on_signal: Awaited first when a signal asks to stop, while answers can still be sent.
        on_first_answer: Called once the first answer is written, for what need not be done before.

    Returns:
        The exit code: 0, or 128 plus the number of the signal.
    """
    low = low_level(server)
    async with _streams(pipes, on_first_answer) as (read, write, stop):
        serving = asyncio.create_task(low.run(read, write, low.create_initialization_options()), name="stdio")
        with _signals() as arrived:
            await asyncio.wait([serving, arrived], return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                await on_signal()
                stop(128 + arrived.result())
            await serving
            return 128 + arrived.result() if arrived.done() else 0


@contextmanager
def _signals() -> Generator[asyncio.Future[int]]:
    """Yield a future of the first signal that asks to stop; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if arrived.done():
            os._exit(128 + number)
        arrived.set_result(number)

    numbers = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, note, number)
    try:
        yield arrived
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _streams(
    pipes: StdioPipes, on_first_answer: Callable[[], object]
) -> AsyncGenerator[tuple[Any, Any, Callable[[int], None]]]:
    """Yield the reader, the writer, and a function that ends the reading."""
    unanswered = PendingRequests(on_first_answer)
    if not pipes.pollable:
        files = LineFiles(pipes)
        # The thread that reads cannot be woken.
        yield MessageReader(files, unanswered), MessageWriter(files, unanswered), _leave
        return
    lines = LineConnection()
    await lines.open(pipes)
    try:
        yield MessageReader(lines, unanswered), MessageWriter(lines, unanswered), lambda _code: lines.stop()
    finally:
        await lines.close(_FLUSH_S)


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    logging.shutdown()
    os._exit(code)


class PendingRequests:
    """The requests that a client still waits for; `on_first` is called after the first answer."""

    def __init__(self, on_first: Callable[[], object] = bool) -> None:
        self._on_first: Callable[[], object] | None = on_first
        self._ids: set[str | int] = set()
        self._none = asyncio.Event()
        self._none.set()

    def asked(self, message: JSONRPCMessage) -> None:
        """Note a request that came."""
        if isinstance(message, JSONRPCRequest):
            self._ids.add(message.id)
            self._none.clear()

    def answered(self, message: JSONRPCMessage) -> None:
        """Note an answer that went out."""
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._ids.discard(message.id)
            if not self._ids:
                self._none.set()
            if self._on_first is not None:
                on_first, self._on_first = self._on_first, None
                on_first()

    async def end(self, wait_s: float) -> None:
        """Wait until no request is pending, but not longer than the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._none.wait()


class MessageReader(ObjectReceiveStream[SessionMessage]):
    """The messages that a client sends.

    A line that is not a message is answered with an error here, and costs nothing else. Where the client
    closed its end after a request, the end is reported a moment later, because the dispatcher then cancels
    what is still running.
    """

    def __init__(self, lines: Lines, unanswered: PendingRequests) -> None:
        self._lines = lines
        self._unanswered = unanswered

    async def receive(self) -> SessionMessage:
        """Return the next message.

        Raises:
            anyio.EndOfStream: The client closed its end.
        """
        while True:
            try:
                line = await self._lines.read_line()
            except LineTooLong:
                await self._refuse(refusal(None, INVALID_REQUEST, _TOO_LONG))
                continue
            if line is None:
                await self._unanswered.end(_LAST_ANSWERS_S)
                raise anyio.EndOfStream
            if line.strip() and (message := await self._parse(line)) is not None:
                self._unanswered.asked(message)
                return SessionMessage(message)

    async def _parse(self, line: bytes) -> JSONRPCMessage | None:
        try:
            return parse(line)
        except NotAMessage as fault:
            await self._refuse(fault.error)
            return None

    async def _refuse(self, error: JSONRPCError) -> None:
        try:
            await self._lines.write(_encode(error))
        except BrokenPipeError:
            _log.debug("the client is gone, so it cannot be told of a line that is not a message")

    async def aclose(self) -> None:
        """Take no more messages."""
        self._lines.stop()


class MessageWriter(ObjectSendStream[SessionMessage]):
    """Writes messages to the client: one line each, never a part of one."""

    def __init__(self, lines: Lines, unanswered: PendingRequests) -> None:
        self._lines = lines
        self._unanswered = unanswered

    async def send(self, item: SessionMessage) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: The client is gone; reading ends too.
        """
        try:
            await self._lines.write(_encode(item.message))
            self._unanswered.answered(item.message)
        except BrokenPipeError as exc:
            self._lines.stop()
            raise anyio.BrokenResourceError from exc

    async def aclose(self) -> None:
        """Do nothing: `_streams` flushes and closes the connection."""


def _encode(message: JSONRPCMessage) -> bytes:
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except PydanticSerializationError:  # half of a surrogate pair, which JSON in UTF-8 cannot carry
        plain = message.model_dump(by_alias=True, exclude_unset=True)
        return json.dumps(plain, ensure_ascii=False, default=str).encode(errors="replace") + b"\n"
