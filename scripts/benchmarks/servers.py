"""Server processes, and a client that knows nothing but JSON lines: it costs next to nothing itself."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.heartbeat import heartbeat

VERSION: Final = "2025-06-18"
MODERN: Final = "2026-07-28"
TASKS: Final = "io.modelcontextprotocol/tasks"
LEAVE_S: Final = 5.0
SERVE: Final = ("-m", "python_mcp_server", "serve")
"""Our server, as a client's configuration starts it."""


class Server:
    """A server process, spoken to over stdio."""

    def __init__(self, arguments: tuple[str, ...], home: Path) -> None:
        self._log = (home / "stderr").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHON_MCP_HOME": str(home / "home"), "PYTHON_MCP_ON_EXIT": "cancel"},
            start_new_session=True,
        )
        assert self.process.stdin is not None  # noqa: S101  they are pipes
        assert self.process.stdout is not None  # noqa: S101
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self._numbers = itertools.count(1)
        self._early: dict[int, dict[str, Any]] = {}
        self._home = home
        self._meta: dict[str, Any] = {}

    def open(self) -> Self:
        """Introduce the client; return when the server has answered."""
        client = {"name": "bench", "version": "1"}
        self.request("initialize", {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def open_for_tasks(self) -> Self:
        """Speak the version of the protocol that has tasks, which knows no introduction, and take them."""
        prefix = "io.modelcontextprotocol"
        self._meta = {
            f"{prefix}/protocolVersion": MODERN,
            f"{prefix}/clientInfo": {"name": "bench", "version": "1"},
            f"{prefix}/clientCapabilities": {"extensions": {TASKS: {}}},
        }
        self.request("server/discover", {})
        return self

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call a tool and return its result, which must be no error."""
        return self.result(self.ask(tool, **arguments))

    def ask(self, tool: str, **arguments: object) -> int:
        """Call a tool without waiting; return the number of the request."""
        return self._ask("tools/call", {"name": tool, "arguments": arguments})

    def ask_with_progress(self, tool: str, **arguments: object) -> int:
        """Do the same, and hear of the call's progress: it is read on the way to the answer."""
        token = {"progressToken": "bench"}
        return self._ask("tools/call", {"name": tool, "arguments": arguments, "_meta": token})

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer."""
        return self._answer(self._ask(method, params))

    def result(self, number: int) -> dict[str, Any]:
        """Wait for a call that was asked; return its result."""
        answer = self._answer(number)
        if "result" not in answer or answer["result"].get("isError"):
            raise RuntimeError(f"the server refused: {answer}")
        return answer["result"]

    def answered(self, number: int) -> bool:
        """Whether the answer has been read on the way to another."""
        return number in self._early

    def _ask(self, method: str, params: dict[str, Any]) -> int:
        heartbeat()
        number = next(self._numbers)
        if self._meta:
            params = {**params, "_meta": self._meta}
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    def _send(self, message: dict[str, Any]) -> None:
        self._requests.write(json.dumps(message).encode() + b"\n")
        self._requests.flush()

    def _answer(self, number: int) -> dict[str, Any]:
        while number not in self._early:
            line = self._answers.readline()
            if not line:
                raise RuntimeError(f"the server ended; it said: {self.complaint()}")
            message = json.loads(line)
            if "method" not in message:
                self._early[message["id"]] = message
        return self._early.pop(number)

    def complaint(self) -> str:
        """What it wrote to stderr."""
        return (self._home / "stderr").read_text(errors="replace")[-2000:]

    def end(self) -> None:
        """Let it leave; kill its group if it does not."""
        self._requests.close()
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._answers.close()
        self._log.close()


@contextmanager
def serving(*arguments: str) -> Generator[Server]:
    """Run a server with a home of its own that goes with it; it is not introduced yet."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        server = Server(arguments, Path(home))
        try:
            yield server
        finally:
            server.end()


def peer(name: str) -> tuple[str, ...]:
    """Return what starts one of `peers`."""
    return ("-m", f"benchmarks.peers.{name}")


def timed(server: Server, tool: str, *, progress: bool = False, **arguments: object) -> float:
    """Return the seconds of one call."""
    ask = server.ask_with_progress if progress else server.ask
    started = time.perf_counter()
    server.result(ask(tool, **arguments))
    return time.perf_counter() - started
