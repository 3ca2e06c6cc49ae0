"""FastMCP with `fastmcp-tasks` on its default backend, in memory: an echo, and CPU-bound work as a task.

Its tasks must be `async def` and run in the server's process, so the work goes to a thread.
"""

from __future__ import annotations

import asyncio

from fastmcp import FastMCP
from fastmcp_tasks import TasksExtension  # pyright: ignore[reportMissingImports]  (as pebble)

from benchmarks import bodies

server = FastMCP("fastmcp-tasks")
server.add_extension(TasksExtension())


@server.tool
async def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool(task=True)
async def beat(path: str, seconds: float) -> int:
    """Keep one core busy, and leave a sign of life each millisecond."""
    return await asyncio.to_thread(bodies.beat, path, seconds)


if __name__ == "__main__":
    server.run("stdio", show_banner=False)
