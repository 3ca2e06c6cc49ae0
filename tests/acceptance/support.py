"""Servers over real stdio: a raw client that sends any bytes, and the SDK's own."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from mcp import Client, StdioServerParameters

from tests.helpers import environment

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
DEADLINE_S: Final = 60.0
OUR_SERVER: Final = (
    "-c", "import sys; from python_mcp_server.server.serve import run_stdio; sys.exit(run_stdio())",
)  # fmt: skip
"""What `python-mcp-server serve` runs."""


class Server:
    """A server process, and a client of it that knows nothing but lines."""

    def __init__(
        self, arguments: tuple[str | Path, ...], log: Path, env: dict[str, str], **options: Any
    ) -> None:
        self.log = log
        with log.open("wb") as errors:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            command = [sys.executable, *map(str, arguments)]
            self.process = subprocess.Popen(command, env=env, start_new_session=True, **(pipes | options))
        self.notifications: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._unread = b""
        self._meta: dict[str, Any] = {}

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return self.log.read_text(errors="replace")

    def open(self, version: str = MODERN) -> Self:
        """Introduce the client, as this version of the protocol wants it."""
        if version == MODERN:
            self._meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            return self
        hello = {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        assert self.request("initialize", hello)["result"]["protocolVersion"] == version
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def send(self, message: dict[str, Any] | bytes) -> None:
        """Send one message, or bytes as they are."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any] | None = None, **meta: Any) -> int:
        """Send a request; return its id."""
        number = next(self._ids)
        params = dict(params or {})
        if self._meta or meta:
            params["_meta"] = self._meta | meta
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    def request(self, method: str, params: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        return self.answer(self.ask(method, params, **meta))

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """Call a tool and return its result."""
        return self.request("tools/call", {"name": tool, "arguments": arguments or {}}, **meta)["result"]

    def answer(self, number: int | None) -> dict[str, Any]:
        """Return the answer to a request; every line on the way must be a message of the protocol."""
        while True:
            message = self.message()
            assert message["jsonrpc"] == "2.0", message
            if "method" in message:
                self.notifications.append(message)
            elif message["id"] == number:
                return message

    def message(self) -> dict[str, Any]:
        """Return the next message."""
        line = self.line()
        assert line, f"the server closed its end; it said: {self.errors}"
        return json.loads(line)

    def line(self, deadline_s: float = DEADLINE_S) -> bytes:
        """Return the next line, or nothing at the end."""
        out = self.process.stdout
        assert out is not None
        deadline = time.monotonic() + deadline_s
        pieces = [self._unread]
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            while b"\n" not in pieces[-1]:
                assert ready.select(deadline - time.monotonic()), f"no line came; it said: {self.errors}"
                pieces.append(os.read(out.fileno(), 1 << 20))
                if not pieces[-1]:
                    break
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        return line

    def leave(self) -> int:
        """Close the client's end and return the server's exit code."""
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """End it whatever it does; for the clean-up of a test."""
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is None:
        return
    try:
        pipe.close()
    except BrokenPipeError:
        return  # the server left with unread requests


@contextmanager
def serving(
    tmp_path: Path, *arguments: str | Path, env: dict[str, str] | None = None, **options: Any
) -> Generator[Server]:
    """Run a server: ours, or the Python program that is given."""
    log = tmp_path / f"stderr-{len(list(tmp_path.glob('stderr-*')))}"
    server = Server(
        arguments or OUR_SERVER, log, environment(PYTHONUNBUFFERED=None, **(env or {})), **options
    )
    try:
        yield server
    finally:
        server.end()


@asynccontextmanager
async def connected(
    *arguments: str | Path, env: dict[str, str] | None = None, **options: Any
) -> AsyncGenerator[Client]:
    """Connect the SDK's client to a server: ours, or the Python program that is given."""
    words = [str(word) for word in arguments or OUR_SERVER]
    parameters = StdioServerParameters(command=sys.executable, args=words, env=environment(**(env or {})))
    async with Client(parameters, **options) as client:
        yield client


def data(result: CallToolResult) -> dict[str, Any]:
    """Return what a call answered; it must be no error."""
    assert not result.is_error, result.content
    if result.structured_content is not None:
        return result.structured_content
    return json.loads(result.content[0].text)  # type: ignore[union-attr]  it comes with pictures


def refusal(result: CallToolResult) -> str:
    """Return the text of an error result."""
    assert result.is_error, result
    return result.content[0].text  # type: ignore[union-attr]
