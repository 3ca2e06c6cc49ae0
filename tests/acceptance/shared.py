"""One server and its client for many tests: they speak real stdio on a loop of their own, one test after
the other. A server start costs a second of CPU, so tests that need no home or setting of their own share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.acceptance.support import connected, data
from tests.helpers.leftovers import outliving
from tests.helpers.loop import guarded

if TYPE_CHECKING:
    from mcp import Client

T = TypeVar("T")
ALL = {"keep_completed": False, "keep_failed": False, "max_age_hours": 0}


class Shared:
    """A client of a server that other tests use too.

    Attributes:
        client: The client, for coroutines that `run` runs.
        home: The server's home.
        heard: What the server told by itself, since the test began.
    """

    def __init__(self, portal: BlockingPortal, client: Client, home: Path, heard: list[Any]) -> None:
        self.client = client
        self.home = home
        self.heard = heard
        self._portal = portal

    def run(self, main: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Return what the coroutine returns; it runs on the client's loop, which it must not block."""
        return self._portal.call(guarded, main(self.client))


@contextmanager
def shared(
    home: Path, *arguments: str | Path, env: dict[str, str] | None = None, **options: Any
) -> Generator[Shared]:
    """Start a server, ours or the program that is given, with this home."""
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)
        await asyncio.sleep(0)

    options = {"message_handler": hear, **options}
    with outliving(home) as own, start_blocking_portal() as portal:
        way = portal.wrap_async_context_manager(connected(*arguments, env=own | (env or {}), **options))
        with way as client:
            yield Shared(portal, client, home, heard)


async def clear(client: Client) -> None:
    """Remove all jobs; fail where one still runs, which is ended."""
    pruned = data(await client.call_tool("py_prune_jobs", ALL))
    left = data(await client.call_tool("py_list_jobs", {}))["jobs"]
    for job in left:
        await client.call_tool("py_cancel_job", {"job_id": job["id"]})
    assert pruned["remaining"] == 0, left
