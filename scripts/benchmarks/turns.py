"""Takes turns: each contender is measured in each round, in an order that moves on. Nothing is dropped."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.heartbeat import heartbeat

Times = dict[str, list[float]]


async def take_turns(
    contenders: Mapping[str, Callable[[], Awaitable[object]]], rounds: int, block: int = 1
) -> Times:
    """Await each contender `block` times in each round; return the seconds of every call, by name."""
    times: Times = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in _rotated(list(contenders), turn):
            heartbeat()
            call = contenders[name]
            for _ in range(block):
                started = time.perf_counter()
                await call()
                times[name].append(time.perf_counter() - started)
    return times


def take_timed_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Call each contender once in each round; each returns its own figure."""
    times: Times = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in _rotated(list(contenders), turn):
            heartbeat()
            times[name].append(contenders[name]())
    return times


async def take_timed_turns_async(
    contenders: Mapping[str, Callable[[], Awaitable[float]]], rounds: int
) -> Times:
    """Await each contender once in each round; each returns its own figure."""
    times: Times = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in _rotated(list(contenders), turn):
            heartbeat()
            times[name].append(await contenders[name]())
    return times


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]
