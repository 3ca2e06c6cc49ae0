"""The answer of a large value is made while the event loop serves others."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from python_mcp_server import JobManager, smart_async
from python_mcp_server.server.app import create_server
from python_mcp_server.server.sdk.adapter import ToolAdapter

LARGE = 300_000


def letters(count: int) -> str:
    return "a" * count


@pytest.mark.parametrize(("count", "aside"), [(LARGE, True), (10, False)])
async def test_only_the_answer_of_a_large_value_is_made_in_a_thread(
    count: int, aside: bool, home: Path, monkeypatch: pytest.MonkeyPatch
):
    made_by: list[int] = []
    served = threading.Event()
    answer = ToolAdapter.answer

    def slow(self: ToolAdapter, *args: Any, **more: Any) -> Any:
        made_by.append(threading.get_ident())
        assert not aside or served.wait(60), "the event loop serves nobody meanwhile"
        return answer(self, *args, **more)

    monkeypatch.setattr(ToolAdapter, "answer", slow)
    manager = JobManager()
    server = create_server(manager)
    server.add_tool(smart_async(manager=manager, default_timeout=60)(letters))
    async with manager, Client(server) as client:
        calling = asyncio.create_task(client.call_tool("letters", {"count": count}))
        while not made_by and not calling.done():
            await asyncio.sleep(0.001)
        served.set()
        assert (await calling).structured_content == {"result": "a" * count}
        assert (made_by[0] != threading.get_ident()) is aside
    manager.store.close()
