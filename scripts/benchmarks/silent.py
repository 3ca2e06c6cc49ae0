"""A client's calls over HTTP beside 1,000 connections that say nothing, and the same calls while nothing else
is connected. A connection that the server closes is opened again, so they are held all the time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, Self

from benchmarks.figures import Figure, percentile
from benchmarks.heartbeat import heartbeat
from benchmarks.servers import MODERN, SERVE

_SILENT: Final = 1000
_PAUSE_S: Final = 0.1
"""So 600 calls take the minute for which the connections are to be held."""
_STARTS_S: Final = 30.0
_AIM: Final = 3
_HEADERS: Final = {
    "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "py_list_jobs",
}  # fmt: skip
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def measure(repeats: int) -> list[Figure]:
    """Return p50 and p99 of a call of `py_list_jobs` beside them, and of one beside nothing."""
    with _serving() as port, closing(HTTPConnection("127.0.0.1", port, timeout=_STARTS_S)) as client:
        idle = [_call(client) for _ in range(repeats)]
        with _Silent(port) as silent:
            beside = [_beside(silent, client) for _ in range(repeats)]
    return [_figure(percent, beside, idle) for percent in (50, 99)]


def _figure(percent: int, beside: list[float], idle: list[float]) -> Figure:
    value, peer_value = (percentile(each, percent) * 1e3 for each in (beside, idle))
    return Figure(
        "silent",
        f"a call over HTTP beside {_SILENT} silent connections, p{percent}",
        value,
        "ms",
        len(beside),
        "the same, idle",
        peer_value,
        f"at most {_AIM}x",
        _AIM * peer_value,
    )


class _Silent:
    """Connections that say nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as closed:
            for each in self._open:
                closed.enter_context(each)

    def hold(self) -> None:
        """Open them, and again those that the server has closed."""
        self._open = [each for each in self._open if not _closed(each)]
        while len(self._open) < _SILENT:
            connection = socket.create_connection(("127.0.0.1", self._port), _STARTS_S)
            connection.setblocking(False)
            self._open.append(connection)


def _closed(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    connection.close()
    return True


def _beside(silent: _Silent, client: HTTPConnection) -> float:
    silent.hold()
    return _call(client)


def _call(client: HTTPConnection) -> float:
    heartbeat()
    time.sleep(_PAUSE_S)
    params = {"name": "py_list_jobs", "arguments": {}, "_meta": _META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    started = time.perf_counter()
    client.request("POST", "/mcp", body, _HEADERS)
    answer = client.getresponse()
    text = answer.read()
    elapsed_s = time.perf_counter() - started
    if answer.status != HTTPStatus.OK or b'"result"' not in text:
        raise RuntimeError(f"the server refused with {answer.status}: {text[:500]!r}")
    return elapsed_s


@contextmanager
def _serving() -> Generator[int]:
    """Run our server over HTTP with a home of its own; yield its port."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        said = Path(folder, "stderr")
        with said.open("wb") as errors:
            server = subprocess.Popen(
                [sys.executable, *SERVE, "--http", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHON_MCP_HOME": f"{folder}/home", "PYTHON_MCP_ON_EXIT": "cancel"},
            )
        try:
            yield _port_in(said)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def _port_in(said: Path) -> int:
    deadline = time.monotonic() + _STARTS_S
    while (found := re.search(r"http://\S+:(\d+)/mcp\n", text := said.read_text(errors="replace"))) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server does not start; it said: {text}")
        time.sleep(_PAUSE_S)
    return int(found[1])
