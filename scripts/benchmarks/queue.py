"""The queue: what it costs with 100 and with 100,000 jobs in it, and a no-op through it, beside other queues.

Four slots are held while jobs of mixed priority are submitted, one after another. Then the slots are let go:
each body rests 50 to 150 ms, and writes down when it began and ended. A second part submits no-ops to two
workers, beside huey and docket, by turns, each alone.
"""

from __future__ import annotations

import os
from statistics import median
from typing import Final

from benchmarks.figures import Figure, figure_of
from benchmarks.queue_depth import Depth, depth_of
from benchmarks.queue_peers import OURS, measure_peers
from benchmarks.queue_stores import FILES, SQLITE, STORES
from benchmarks.rows import QUEUED_VARIABLE

_FEW_QUEUED: Final = 100
_MANY_QUEUED: Final = 100_000
_QUICK_QUEUED: Final = 1_000
_MANY_KEYS: Final = 2_000
_FEW_REPEATS: Final = 20
_GROWTH: Final = 1.5
_MEMORY_MB: Final = 10.0

Depths = dict[tuple[str, int], Depth]


def measure(repeats: int) -> list[Figure]:
    """Return the figures of the queue, and those beside other queues."""
    quick = repeats < _FEW_REPEATS
    most = int(os.environ.get(QUEUED_VARIABLE) or (_QUICK_QUEUED if quick else _MANY_QUEUED))
    sizes = (_FEW_QUEUED, most)
    depths = {(store, size): depth_of(store, size, repeats) for size in sizes for store in STORES}
    figures = [*_by_depth(depths, sizes), *_growths(depths, sizes), *_facts(depths, sizes)]
    return [*figures, _with_keys(depths, min(most, _MANY_KEYS), repeats), *_beside(repeats)]


def _with_keys(depths: Depths, queued: int, starts: int) -> Figure:
    """Return the time to the next begin where no two jobs start under the same conditions."""
    keyed = {store: depth_of(store, queued, starts, keys=True).next_start_s for store in STORES}
    what = f"from a body's end to the next begin, {queued:,} keys queued"
    limit = _GROWTH * 1e3 * median(depths[FILES, _FEW_QUEUED].next_start_s)
    theirs, aim = keyed.get(SQLITE, ()), f"at most {_GROWTH}x that without keys"
    peer = SQLITE if theirs else ""
    return figure_of("queue", what, keyed[FILES], "ms", peer=peer, peer_seconds=theirs, aim=aim, limit=limit)


def _by_depth(depths: Depths, sizes: tuple[int, int]) -> list[Figure]:
    figures: list[Figure] = []
    for what, field in (("submit", "submit_s"), ("from a body's end to the next begin", "next_start_s")):
        for size in sizes:
            ours = getattr(depths[FILES, size], field)
            theirs = getattr(depths[SQLITE, size], field) if SQLITE in STORES else ()
            title, peer = f"{what}, {size:,} queued", SQLITE if theirs else ""
            figures.append(figure_of("queue", title, ours, "ms", peer=peer, peer_seconds=theirs))
    return figures


def _growths(depths: Depths, sizes: tuple[int, int]) -> list[Figure]:
    few, many = sizes
    figures: list[Figure] = []
    for what, field in (("submit", "submit_s"), ("next begin", "next_start_s")):
        title, aim = f"{what}, growth from {few:,} to {many:,}", f"at most {_GROWTH}x"
        grown = {
            store: median(getattr(depths[store, many], field)) / median(getattr(depths[store, few], field))
            for store in STORES
        }
        peer, count = SQLITE if SQLITE in grown else "", len(getattr(depths[FILES, many], field))
        figures.append(
            Figure("queue", title, grown[FILES], "x", count, peer, grown.get(SQLITE), aim, _GROWTH)
        )
    return figures


def _facts(depths: Depths, sizes: tuple[int, int]) -> list[Figure]:
    few, many = sizes
    extra = {s: depths[s, many].resident_mb - depths[s, few].resident_mb for s in STORES}
    wrong = {s: float(sum(depths[s, size].out_of_order for size in sizes)) for s in STORES}
    peer, starts = SQLITE if SQLITE in STORES else "", sum(len(depths[FILES, n].next_start_s) for n in sizes)
    memory = f"a manager with {many:,} queued, above one with {few:,}"
    aim = f"at most {_MEMORY_MB:.0f} MB"
    order = "jobs that did not begin by priority and time"
    return [
        Figure("queue", memory, extra[FILES], "MB", 1, peer, extra.get(SQLITE), aim, _MEMORY_MB),
        Figure("queue", order, wrong[FILES], "jobs", starts, peer, wrong.get(SQLITE), "none", 0),
    ]


def _beside(repeats: int) -> list[Figure]:
    latencies, rates = measure_peers(repeats)
    figures: list[Figure] = []
    own = {name: times for name, times in latencies.items() if name in OURS}
    peers = {name: times for name, times in latencies.items() if name not in OURS}
    for ours, times in own.items():
        for peer, theirs in peers.items():
            what = f"a no-op from submit to result, {ours}"
            figures.append(figure_of("queue", what, times, "ms", peer=peer, peer_seconds=theirs))
    for ours in own:
        for peer in peers:
            what, count = f"no-ops a second, {ours}", len(rates[ours])
            mine, other = median(rates[ours]), median(rates[peer])
            figures.append(Figure("queue", what, mine, "/s", count, peer, other))
    return figures
