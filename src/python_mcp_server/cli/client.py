"""The SDK's client against a server of ours, over real stdio: for `doctor` and `demo`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from python_mcp_server.errors import JobFailed
from python_mcp_server.settings import variable


@dataclass(frozen=True, slots=True)
class Connection:
    """A client that is connected."""

    client: Client

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its answer.

        Raises:
            JobFailed: The answer is an error.
        """
        result = await self.client.call_tool(tool, arguments)
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if result.is_error:
            raise JobFailed(f"{tool} answered an error: {' '.join(texts)}")
        if result.structured_content is None:  # its JSON is text where pictures come with it
            return json.loads(texts[0])
        return result.structured_content


_UNSET: Final = (variable("store"), variable("tools"))


@asynccontextmanager
async def connected(home: Path, **variables: str) -> AsyncGenerator[Connection]:
    """Start a server with this home and these variables, and connect; the server ends with the block."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "python_mcp_server", "serve"],
        env={**os.environ, variable("home"): str(home), **dict.fromkeys(_UNSET, ""), **variables},
    )
    async with Client(parameters) as client:
        yield Connection(client)
