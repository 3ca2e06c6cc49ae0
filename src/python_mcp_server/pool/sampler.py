"""Memory and CPU of busy workers and whatever they started, read by a thread of its own.

psutil costs milliseconds: nothing here runs on the event loop. The numbers of a known process are
read at each tick; who belongs to the tree is looked up less often, for that lists all processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from python_mcp_server import processes
from python_mcp_server.model import ProcessIdentity, Usage
from python_mcp_server.pool.watching import Watcher

_TREE_EVERY: Final = 2
"""Ticks between two looks for new children; guessed: a child is counted within a second."""


@dataclass(slots=True, eq=False)
class Watch:
    """One busy worker under observation; `usage` is replaced whole, so any thread may read it."""

    pid: int
    job_id: str
    cpu_base_s: float
    usage: Usage | None = None
    ticks: int = 0
    root: psutil.Process | None = None
    tree: processes.Search | None = None
    children: dict[ProcessIdentity, psutil.Process] = field(
        default_factory=dict[ProcessIdentity, psutil.Process]
    )


class Sampler(Watcher[Watch]):
    """Samples its watches every `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        super().__init__("usage-sampler", "memory and CPU are not sampled")
        self._interval_s = interval_s

    def watch(self, pid: int, job_id: str, cpu_base_s: float) -> Watch:
        """Begin to sample a worker.

        Args:
            pid: The worker.
            job_id: The job it runs.
            cpu_base_s: What it and its children had used before this job.
        """
        return self.add(Watch(pid, job_id, cpu_base_s))

    def _look(self, watched: list[Watch]) -> float | None:
        for watch in watched:
            sample(watch)
        if not watched:
            return None
        time.sleep(self._interval_s)  # not to be woken: each new watch would have all the others read again
        return 0.0


def sample(watch: Watch) -> Usage | None:
    """Read one watch now and return its usage; None when the worker is gone."""
    try:
        watch.root = watch.root or psutil.Process(watch.pid)
        if watch.ticks % _TREE_EVERY == 0:
            watch.tree = watch.tree or processes.Search(watch.pid, watch.job_id)
            watch.children = dict(_handles(watch.tree.look().members, watch.children))
        watch.ticks += 1
        times = watch.root.cpu_times()
        rss = watch.root.memory_info().rss
    except (psutil.Error, OSError):  # OSError: out of descriptors; the next tick may do better
        return None
    own = times.user + times.system + times.children_user + times.children_system
    child_rss, child_cpu, alive = _sum(watch.children.values())
    cpu = max(own + child_cpu - watch.cpu_base_s, watch.usage.cpu_seconds if watch.usage else 0.0)
    peak = max(rss + child_rss, watch.usage.peak_rss_bytes if watch.usage else 0)
    watch.usage = Usage(rss + child_rss, peak, cpu, None, alive + 1)
    return watch.usage


def _handles(
    members: Iterable[ProcessIdentity], known: Mapping[ProcessIdentity, psutil.Process]
) -> Iterator[tuple[ProcessIdentity, psutil.Process]]:
    """Yield what reads each of these processes: what did so before, or a new one."""
    for member in members:
        with suppress(psutil.Error):  # ended since the look
            handle = known.get(member) or psutil.Process(member.pid)
            if member in known or processes.is_alive(member):
                yield member, handle


def _sum(children: Iterable[psutil.Process]) -> tuple[int, float, int]:
    rss, cpu, alive = 0, 0.0, 0
    for child in children:
        try:
            with child.oneshot():
                times = child.cpu_times()
                rss += child.memory_info().rss
        except psutil.Error:
            continue  # ended since the last look
        cpu += times.user + times.system + times.children_user + times.children_system
        alive += 1
    return rss, cpu, alive
