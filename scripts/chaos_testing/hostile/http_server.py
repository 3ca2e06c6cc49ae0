"""A server over HTTP with a token of its own, and a client that sees each answer as it is."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx2

VERSION: Final = "2026-07-28"
META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "chaos", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
DEADLINE_S: Final = 45.0
"""Longer than any answer may take here."""
NO_ANSWER: Final = 0
"""Stands where a status would: the connection ended first."""
_MEMORY_BYTES: Final = 8 << 30
_URL: Final = re.compile(rb"http://\S+:(\d+)/mcp")
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got.

    Attributes:
        status: The HTTP status, or `NO_ANSWER`.
        text: The body, as it came.
        seconds: How long it took.
    """

    status: int
    text: str
    seconds: float

    @property
    def message(self) -> dict[str, Any]:
        """The last JSON-RPC message; empty where there is none."""
        lines = [line.removeprefix("data:") for line in self.text.splitlines() if line.startswith("data:")]
        try:
            message = json.loads(lines[-1] if lines else self.text)
        except ValueError:
            return {}
        return message if isinstance(message, dict) else {}

    @property
    def data(self) -> dict[str, Any]:
        """The structured content of a tool's result; empty for an error."""
        result = self.message.get("result") or {}
        return {} if result.get("isError") else result.get("structuredContent") or {}


class HttpServer:
    """A server process, and its one client with the token."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, token: str, log: Path) -> None:
        self.process, self.port, self.token, self.log = process, port, token, log
        self._numbers = itertools.count(1)
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=DEADLINE_S,
            verify=False,
        )

    @classmethod
    async def start(cls, token: str, log: Path, env: dict[str, str]) -> Self:
        """Start a server, and wait until it listens.

        Raises:
            TimeoutError: It does not come up.
        """
        words = ("-m", "python_mcp_server", "serve", "--http", "--port", "0")
        null = asyncio.subprocess.DEVNULL
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stdin=null, stdout=null, stderr=errors,
                env=env | {"PYTHON_MCP_HTTP_TOKEN": token}, start_new_session=True,
            )  # fmt: skip
        _bound_memory(process.pid)
        async with asyncio.timeout(_START_S):
            while (found := _URL.search(await asyncio.to_thread(log.read_bytes))) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return cls(process, int(found[1]), token, log)

    async def call(self, tool: str, arguments: dict[str, Any] | bytes) -> Answer:
        """Call a tool, with arguments or with their JSON as it is to be sent."""
        raw = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
        name, meta = json.dumps(tool).encode(), json.dumps(META).encode()
        parameters = b'{"name":%s,"arguments":%s,"_meta":%s}' % (name, raw, meta)
        body = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}' % (
            next(self._numbers),
            parameters,
        )
        return await self.send(body, {"Mcp-Method": "tools/call", "Mcp-Name": tool})

    async def ask(self, method: str, **parameters: Any) -> Answer:
        """Send a request of another method."""
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method}
        body = json.dumps({**message, "params": {**parameters, "_meta": META}}).encode()
        return await self.send(body, {"Mcp-Method": method})

    async def send(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Post these bytes with the token."""
        own = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": VERSION,
        }
        began = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S):  # the client's own ends with each ping of a stream
                answer = await self._client.post("/mcp", content=body, headers=own | headers)
        except (httpx2.HTTPError, TimeoutError) as error:
            return Answer(NO_ANSWER, repr(error), time.monotonic() - began)
        return Answer(answer.status_code, answer.text, time.monotonic() - began)

    async def is_healthy(self) -> bool:
        """Whether it answers those who look after it."""
        try:
            return (await self._client.get("/healthz")).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    async def stop(self) -> float:
        """End it by SIGTERM; return how many seconds that took."""
        await self._client.aclose()
        began = time.monotonic()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await self.process.wait()
        return time.monotonic() - began


def _bound_memory(pid: int) -> None:
    """Let a server that reads without end fail by itself, before the machine kills what it likes."""
    import resource

    if hasattr(resource, "prlimit"):  # Linux
        resource.prlimit(pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
