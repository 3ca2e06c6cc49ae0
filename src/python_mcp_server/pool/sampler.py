"""Memory and CPU of busy workers and whatever they started, read by a thread of its own.

psutil costs milliseconds: nothing here runs on the event loop. The numbers of a known process are
read at each tick; who belongs to the tree is looked up less often, for that scans all processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import psutil

from python_mcp_server import processes
from python_mcp_server.model import Usage

_log: Final = logging.getLogger(__name__)
_TREE_EVERY: Final = 2
"""Ticks between two looks for new children; guessed: a child is counted within a second."""


@dataclass(slots=True)
class Watch:
    """One busy worker under observation; `usage` is replaced whole, so any thread may read it."""

    pid: int
    job_id: str
    cpu_base_s: float
    usage: Usage | None = None
    ticks: int = 0
    root: psutil.Process | None = None
    children: list[psutil.Process] = field(default_factory=list[psutil.Process])


class Sampler:
    """Samples its watches every `interval_s` in a daemon thread, which sleeps when there are none."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._watches: dict[int, Watch] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, pid: int, job_id: str, cpu_base_s: float) -> Watch:
        """Begin to sample a worker.

        Args:
            pid: The worker.
            job_id: The job it runs.
            cpu_base_s: What it and its children had used before this job.
        """
        watch = Watch(pid, job_id, cpu_base_s)
        with self._lock:
            self._watches[pid] = watch
            if self._thread is None:
                self._thread = self._start()
        self._wake.set()
        return watch

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="usage-sampler", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a call must not fail for its numbers; the next watch tries again
            _log.warning("memory and CPU are not sampled: %s", error)
            return None
        return thread

    def unwatch(self, watch: Watch) -> None:
        """Sample it no more."""
        with self._lock:
            if self._watches.get(watch.pid) is watch:
                del self._watches[watch.pid]

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()  # before the look, or a watch that comes now would sleep with us
            with self._lock:
                watches = list(self._watches.values())
            if not watches:
                self._wake.wait()
                continue
            for watch in watches:
                sample(watch)
            time.sleep(self._interval_s)


def sample(watch: Watch) -> Usage | None:
    """Read one watch now and return its usage; None when the worker is gone."""
    try:
        watch.root = watch.root or psutil.Process(watch.pid)
        if watch.ticks % _TREE_EVERY == 0:
            watch.children = processes.tree(watch.pid, watch.job_id)
        watch.ticks += 1
        times = watch.root.cpu_times()
        rss = watch.root.memory_info().rss
    except (psutil.Error, OSError):  # OSError: out of descriptors; the next tick may do better
        return None
    own = times.user + times.system + times.children_user + times.children_system
    child_rss, child_cpu, alive = _sum(watch.children)
    cpu = max(own + child_cpu - watch.cpu_base_s, watch.usage.cpu_seconds if watch.usage else 0.0)
    peak = max(rss + child_rss, watch.usage.peak_rss_bytes if watch.usage else 0)
    watch.usage = Usage(rss + child_rss, peak, cpu, None, alive + 1)
    return watch.usage


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
