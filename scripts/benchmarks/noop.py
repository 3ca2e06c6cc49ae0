"""A call that does nothing, from `await` to its value, with all bookkeeping, beside other pools."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import anyio.to_process
import loky
import pebble  # pyright: ignore[reportMissingImports]  (only the environment of the benchmarks has it)

from benchmarks.bodies import call_nothing, nothing, with_manager
from benchmarks.figures import Figure, figure_of
from benchmarks.turns import take_turns

_BLOCK = 20


def measure(repeats: int) -> list[Figure]:
    """Return a figure for each peer."""
    with ExitStack() as pools:
        # The two that fork come first: nothing here has threads yet.
        stock = pools.enter_context(concurrent.futures.ProcessPoolExecutor(1))
        stock.submit(nothing).result()
        pebbles = pools.enter_context(pebble.ProcessPool(1))
        pebbles.submit(nothing, None).result()
        lokys = pools.enter_context(loky.ProcessPoolExecutor(1))
        contenders: dict[str, Callable[[], Awaitable[object]]] = {
            "smart_async": call_nothing,
            "loky": lambda: asyncio.wrap_future(lokys.submit(nothing)),
            "pebble": lambda: asyncio.wrap_future(pebbles.submit(nothing, None)),
            "anyio.to_process": lambda: anyio.to_process.run_sync(nothing),
            "ProcessPoolExecutor": lambda: asyncio.wrap_future(stock.submit(nothing)),
        }
        times = asyncio.run(with_manager(_measure(contenders, max(1, repeats // _BLOCK))))
    ours = times.pop("smart_async")
    return [
        figure_of(
            "noop",
            "a no-op through smart_async",
            ours,
            "us",
            peer=name,
            peer_seconds=theirs,
            aim="at most 0.5x" if name == "loky" else "below",
            ratio=0.5 if name == "loky" else 1.0,
        )
        for name, theirs in times.items()
    ]


async def _measure(
    contenders: dict[str, Callable[[], Awaitable[object]]], rounds: int
) -> dict[str, list[float]]:
    await take_turns(contenders, 1, _BLOCK)  # warms them all
    return await take_turns(contenders, rounds, _BLOCK)
