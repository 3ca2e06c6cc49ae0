"""A server over stdio, and a client that only writes and reads JSON lines, so it costs next to nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any, Final, Self

SERVE: Final = ("-m", "python_mcp_server", "serve")
SERVE_WITH_CRASH_POINT: Final = ("-m", "chaos_testing.crash_point")
DEADLINE_S: Final = 60.0
"""Guessed: far more than an answer ever takes, also when every core is busy."""
_VERSION: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "chaos", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_LINE_BYTES: Final = 1 << 26
_LAST_OUTPUT_S: Final = 2.0


class ServerGone(Exception):
    """The server ended before it answered."""


class Server:
    """A server process and its client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read(), name=f"read-{process.pid}")
        self._gone = asyncio.create_task(self._watch(), name=f"watch-{process.pid}")

    @classmethod
    async def start(cls, arguments: tuple[str, ...], errors: Path, env: dict[str, str]) -> Self:
        """Start one in a process group of its own."""
        pipe = asyncio.subprocess.PIPE
        with errors.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=log, env=env,
                start_new_session=True, limit=_LINE_BYTES,
            )  # fmt: skip
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its result.

        Raises:
            ServerGone: It ended before it answered.
            TimeoutError: It is alive and did not answer in time.
        """
        number = next(self._numbers)
        params = {"name": tool, "arguments": arguments, "_meta": _META}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            if self._gone.done():
                raise ServerGone
            assert self._process.stdin is not None  # noqa: S101  it is a pipe
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            async with asyncio.timeout(DEADLINE_S):  # `wait_for` loses a cancel that comes with the answer
                return await answer
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            answer = self._waiting.get(message.get("id", 0))
            if answer is not None and not answer.done():
                answer.set_result(message)

    async def _watch(self) -> int:
        code = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=_LAST_OUTPUT_S)  # answers that it wrote before count
        self._reading.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ServerGone())
        return code

    async def ended(self) -> int:
        """Return the exit code, once it has ended."""
        return await asyncio.shield(self._gone)

    def close_stdin(self) -> None:
        """Close stdin, which ends a server."""
        if self._process.stdin is not None:
            self._process.stdin.close()
