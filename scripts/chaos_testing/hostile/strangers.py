"""Connections without a token: silent ones, slow ones, broken ones, and many."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from chaos_testing.hostile.findings import Findings
from chaos_testing.hostile.http_server import Answer

_SILENT: Final = 300
_READ_S: Final = 5.0
_HOST: Final = b"Host: 127.0.0.1\r\n"
_POST: Final = b"POST /mcp HTTP/1.1\r\n" + _HOST + b"Content-Type: application/json\r\n"
_REQUESTS: Final = {
    "no token": _POST + b"Content-Length: 2\r\n\r\n{}",
    "wrong token": _POST + b"Authorization: Bearer aaaaaaaaaaaaaaaaaaaa\r\nContent-Length: 2\r\n\r\n{}",
    "two tokens": _POST
    + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 2\r\n\r\n{}",
    "foreign host": b"GET /mcp HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
    "two hosts": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"Host: rebound.example\r\n\r\n",
    "foreign page": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"Origin: https://rebound.example\r\n\r\n",
    "large head": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"X: a\r\n" * 20_000 + b"\r\n",
    "long path": b"GET /" + b"a" * 500_000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
    "two lengths": _POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "broken chunks": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half a body": _POST + b"Content-Length: 4000000\r\n\r\n{",
    "negative length": _POST + b"Content-Length: -1\r\n\r\n",
    "event id": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"Accept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n",
    "upgrade": b"GET /mcp HTTP/1.1\r\n" + _HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "health": b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + b"\0" * 200,
    "nothing": b"\r\n" * 1000,
    "old": b"GET / HTTP/0.9\r\n\r\n",
}


class Stranger:
    """Connects to a server again and again.

    Args:
        port: Of the server.
        findings: What it sees goes there.
        rng: Its random choices.
    """

    def __init__(self, port: int, findings: Findings, rng: random.Random) -> None:
        self._port, self._findings, self._rng = port, findings, rng

    async def run(self, finished: asyncio.Event) -> None:
        """Send odd requests until the attacks are over."""
        while not finished.is_set():
            name = self._rng.choice([*_REQUESTS, "random bytes"])
            data = _REQUESTS.get(name) or self._rng.randbytes(self._rng.randrange(1, 5000))
            async with asyncio.TaskGroup() as group:
                for _ in range(self._rng.choice([1, 1, 1, 20])):
                    group.create_task(self._send(name, data))

    async def hold(self, finished: asyncio.Event) -> None:
        """Keep silent connections, and some that send a byte now and then, until the attacks are over."""
        while not finished.is_set():
            held = await asyncio.gather(*(self._open() for _ in range(_SILENT)))
            self._findings.counts["stranger: silent connections"] += sum(one is not None for one in held)
            for _ in range(10):
                self._trickle([writer for writer in held[::10] if writer is not None])
                with suppress(TimeoutError):
                    await asyncio.wait_for(finished.wait(), 1)
            for writer in held:
                if writer is not None:
                    writer.close()

    def _trickle(self, writers: Iterable[asyncio.StreamWriter]) -> None:
        for writer in writers:
            if not writer.is_closing():
                writer.write(self._rng.choice([b"G", b"POST /mcp HTTP/1.1\r\n", b"X: y\r\n"]))

    async def _open(self) -> asyncio.StreamWriter | None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_READ_S):
                return (await asyncio.open_connection("127.0.0.1", self._port))[1]
        return None

    async def _send(self, name: str, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        began, status = loop.time(), b""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_READ_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(data)
                    status = await reader.readline()
                finally:
                    writer.close()
        words = status.split()
        if len(words) > 1 and words[1].isdigit():
            answer = Answer(int(words[1]), "", loop.time() - began)
            self._findings.answered("stranger", name, answer)
        else:
            self._findings.counts["stranger: no answer"] += 1
