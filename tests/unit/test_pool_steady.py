"""Work in the background."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from python_mcp_server.pool.steady import in_background
from tests.helpers import run


def test_what_comes_after_the_end_of_its_threads_is_done_all_the_same():
    async def main() -> None:
        threads, done = ThreadPoolExecutor(1), asyncio.Event()
        threads.shutdown()
        loop = asyncio.get_running_loop()
        in_background(loop, threads, loop.call_soon_threadsafe, done.set)
        await done.wait()

    run(main())
