"""How late the reply is at the hand-off: its time minus the budget, record written and all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import loky

from benchmarks import bodies
from benchmarks.figures import Figure, percentile
from benchmarks.turns import take_timed_turns_async
from python_mcp_server.smart_async import default_manager

_BODY_S = 60.0
_PEER_BODY_S = 0.25
_AIM_MS = 10.0


def measure(repeats: int) -> list[Figure]:
    """Return p50 and p99 for a body that sleeps and for one that computes."""
    with loky.ProcessPoolExecutor(1) as pool:
        times = asyncio.run(bodies.with_manager(_measure(pool, repeats)))
    peers = times.pop("bare")
    return [
        _figure(f"reply minus budget, {name} body, p{percent}", ours, peers, percent)
        for name, ours in times.items()
        for percent in (50, 99)
    ]


def _figure(what: str, ours: list[float], peers: list[float], percent: int) -> Figure:
    value, peer_value = (percentile(times, percent) * 1e3 for times in (ours, peers))
    peer = "asyncio.wait on loky, no record"
    if percent == 50:  # noqa: PLR2004  a percentage
        return Figure("handoff", what, value, "ms", len(ours), peer, peer_value)
    return Figure(
        "handoff", what, value, "ms", len(ours), peer, peer_value, f"at most {_AIM_MS:.0f} ms", _AIM_MS
    )


async def _measure(pool: loky.ProcessPoolExecutor, repeats: int) -> dict[str, list[float]]:
    await bodies.call_nothing()
    await asyncio.wrap_future(pool.submit(bodies.nothing))
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        "sleeping": lambda: _ours(bodies.call_rest),
        "CPU-bound": lambda: _ours(bodies.call_burn),
        "bare": lambda: _bare(pool),
    }
    return await take_timed_turns_async(contenders, repeats)


async def _ours(call: Callable[[float], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    handle = await call(_BODY_S)
    late_s = time.perf_counter() - started - bodies.BUDGET_S
    await default_manager().cancel(handle["job_id"])
    return late_s


async def _bare(pool: loky.ProcessPoolExecutor) -> float:
    started = time.perf_counter()
    future = asyncio.wrap_future(pool.submit(bodies.rest, _PEER_BODY_S))
    await asyncio.wait({future}, timeout=bodies.BUDGET_S)
    late_s = time.perf_counter() - started - bodies.BUDGET_S
    await future
    return late_s
