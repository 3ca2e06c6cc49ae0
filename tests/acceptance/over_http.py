"""Servers over HTTP, and the SDK's client of them, with or without a token."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.shared import clear
from tests.acceptance.support import Server, serving
from tests.helpers import eventually, run
from tests.helpers.leftovers import outliving

OVER_HTTP: Final = "from python_mcp_server.server.serve import run_http; run_http({host!r}, {port})"
TOKEN: Final = "a-token-that-the-test-chose"


def over_http(host: str = "127.0.0.1", port: int = 0) -> tuple[str, str]:
    return "-c", OVER_HTTP.format(host=host, port=port)


def port_of(server: Server) -> int:
    found = eventually(lambda: re.search(r"http://\S+:(\d+)/mcp\n", server.errors))
    return int(found[1])


@asynccontextmanager
async def client_of(
    port: int, token: str | None = None, *, host: str = "127.0.0.1", **options: Any
) -> AsyncGenerator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx2.Timeout(30, read=300)
    async with (
        # to load the machine's certificates, which nobody needs here, would block the loop
        httpx2.AsyncClient(headers=headers, timeout=timeout, verify=False) as way,
        Client(streamable_http_client(f"http://{host}:{port}/mcp", http_client=way), **options) as client,
    ):
        yield client


@dataclass(frozen=True)
class Served:
    """Our server over HTTP, that several tests ask one after the other, with `TOKEN`.

    Attributes:
        server: It; every call that takes any time has a record.
        port: Where it is.
        home: Its home.
    """

    server: Server
    port: int
    home: Path

    def clear(self) -> None:
        """Remove all jobs of the token's owner; fail where one still runs."""

        async def main() -> None:
            async with client_of(self.port, TOKEN) as client:
                await clear(client)

        run(main())


@contextmanager
def served(folder: Path) -> Generator[Served]:
    """Start a server for those who have the token."""
    home = folder / "home"
    own = {"PYTHON_MCP_HTTP_TOKEN": TOKEN, "PYTHON_MCP_RECORD_AFTER_SECONDS": "0"}
    with outliving(home) as env, serving(folder, *over_http(), env=env | own) as server:
        yield Served(server, port_of(server), home)
