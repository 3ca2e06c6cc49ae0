"""The store with 100, 10,000 and 100,000 jobs in it, beside SQLite doing the same."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.figures import Figure, figure_of
from benchmarks.heartbeat import heartbeat
from benchmarks.store_contenders import Contender, Database, Files
from benchmarks.store_memory import extra_mb

SIZES: Final = (100, 10_000, 100_000)
QUICK_SIZES: Final = (100, 1_000)
"""With two repeats or fewer: does it run at all?"""
_FEW: Final = 2
_CREATES: Final = 10
_UPDATES: Final = 20
_GETS: Final = 20
_LISTS: Final = 2
_UNITS: Final = {"create": "us", "update": "us", "get": "us"}
_LIMITS: Final = {"get": 300.0, "update": 1000.0, "list of 50": 10.0}
"""The aims, each in the unit of its operation."""
_GROWTH: Final = 1.2
_MEMORY_MB: Final = 10.0
_KILL: Final = "survives SIGKILL"
_POWER: Final = "survives a loss of power"

Times = dict[tuple[str, int, str], list[float]]
"""Seconds of every call, by contender, number of jobs and operation."""


def measure(repeats: int) -> list[Figure]:
    """Return the medians of each operation at each size, and how they grow."""
    sizes = QUICK_SIZES if repeats <= _FEW else SIZES
    times: Times = {}
    with _own_directory() as directory, ExitStack() as stack:
        contenders = list(_filled(directory, sizes, stack))
        for turn in range(repeats + 1):
            for contender in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                _cycle(contender, times if turn else {})  # the first warms up
        memory = extra_mb(directory, min(sizes), max(sizes), repeats=min(3, repeats))
    grown = [_growth(times, operation, sizes) for operation in ("get", "update")]
    what = f"a process that opened a store of {max(sizes):,}, above one with {min(sizes):,}"
    aim = f"at most {_MEMORY_MB:.0f} MB"
    size = Figure("store", what, memory, "MB", min(3, repeats), aim=aim, limit=_MEMORY_MB)
    return [*_figures(times, sizes), *grown, size]


@contextmanager
def _own_directory() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-store-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _filled(directory: Path, sizes: tuple[int, ...], stack: ExitStack) -> Iterator[Contender]:
    """Yield every contender at every size; those that differ in durability share what is stored."""
    for size in sizes:
        for kind in (Files, Database):
            place = directory / f"{kind.__name__.lower()}-{size}"
            kind.fill(place, size)
            for fsync in (False, True):
                contender = kind(place, size, fsync=fsync)
                stack.callback(contender.close)
                yield contender
    if hasattr(os, "sync"):
        os.sync()  # what was filled in is not to be written while others are measured


def _cycle(contender: Contender, times: Times) -> None:
    """Do each operation some times; what was created is gone at the end."""

    def timed(operation: str, count: int, work: Callable[[], object]) -> None:
        spent = times.setdefault((contender.name, contender.size, operation), [])
        for _ in range(count):
            heartbeat()
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)

    timed("create", _CREATES, contender.create)
    timed("update", _UPDATES, contender.update)
    timed("get", _GETS, contender.get)
    timed("list of 50", _LISTS, contender.list_recent)
    timed("list of the running", _LISTS, contender.list_running)
    contender.cancel_created()
    timed(f"prune of {_CREATES}", 1, contender.prune)


def _figures(times: Times, sizes: tuple[int, ...]) -> Iterator[Figure]:
    operations = dict.fromkeys(operation for _, _, operation in times)
    for operation in operations:
        for size in sizes:
            yield _figure(times, operation, size, fsync=False)
    for operation in ("create", "update"):
        for size in sizes:
            yield _figure(times, operation, size, fsync=True)


def _figure(times: Times, operation: str, size: int, *, fsync: bool) -> Figure:
    limit, unit = None if fsync else _LIMITS.get(operation), _UNITS.get(operation, "ms")
    return figure_of(
        "store",
        f"{operation}, {size:,} stored, {_POWER if fsync else _KILL}",
        times[Files.name_with(fsync=fsync), size, operation],
        unit,
        peer=Database.name_with(fsync=fsync),
        peer_seconds=times[Database.name_with(fsync=fsync), size, operation],
        aim=f"at most {limit:g} {unit}" if limit else "",
        limit=limit,
    )


def _growth(times: Times, operation: str, sizes: tuple[int, ...]) -> Figure:
    ours, peer = Files.name_with(fsync=False), Database.name_with(fsync=False)
    what = f"{operation}, growth from {sizes[0]:,} to {sizes[-1]:,}"
    counts = len(times[ours, sizes[0], operation])
    own, other = (
        median(times[name, sizes[-1], operation]) / median(times[name, sizes[0], operation])
        for name in (ours, peer)
    )
    return Figure("store", what, own, "x", counts, peer, other, f"at most {_GROWTH}x", _GROWTH)
