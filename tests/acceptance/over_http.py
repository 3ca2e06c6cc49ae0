"""Servers over HTTP, and the SDK's client of them, with or without a token."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.support import Server
from tests.helpers import eventually

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
