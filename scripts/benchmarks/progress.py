"""Reports of progress inside a body: what one costs the body, and what a flood costs the call."""

from __future__ import annotations

import asyncio
import time

from benchmarks.bodies import call_nothing, call_report, with_manager
from benchmarks.figures import Figure, figure_of
from benchmarks.heartbeat import heartbeat

_FLOOD = 50_000
_AIM_US = 10.0


def measure(repeats: int) -> list[Figure]:
    """Return the cost of one report, and of 50,000 as the caller sees it."""
    inside, whole = asyncio.run(with_manager(_measure(repeats)))
    each = [seconds / _FLOOD for seconds in inside]
    return [
        figure_of("progress", "report_progress, each", each, "us", aim="at most 10 us", limit=_AIM_US),
        figure_of("progress", "50,000 in a row, inside the body", inside, "ms"),
        figure_of("progress", "50,000 in a row, from call to value", whole, "ms"),
    ]


async def _measure(repeats: int) -> tuple[list[float], list[float]]:
    inside: list[float] = []
    whole: list[float] = []
    await call_nothing()
    for _ in range(repeats):
        heartbeat()
        started = time.perf_counter()
        inside.append(await call_report(_FLOOD))
        whole.append(time.perf_counter() - started)
    return inside, whole
