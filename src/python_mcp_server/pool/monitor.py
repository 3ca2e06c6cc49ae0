"""Threads that look at busy workers, and sleep when there are none: the sampler and the limit monitor.

The sampler reads memory and CPU of busy workers and all that they started. A look can cost milliseconds:
nothing here runs on the event loop. The numbers of a known process are read at each tick; the members of the
tree are looked up less often, because that lists all processes.

The limit monitor checks the limits of busy workers, each as often as its checker asks for. A body blocks its
own process when a C loop holds the interpreter's lock; so the server checks while it lives, not the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from python_mcp_server import processes
from python_mcp_server.limits import Breach
from python_mcp_server.model import Usage
from python_mcp_server.processes.usage import resident_usage
from python_mcp_server.runner.enforce import LimitChecker

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class Watcher(ABC, Generic[T]):
    """Looks at its targets in a daemon thread of its own, which starts with the first target.

    Args:
        name: The thread's.
        without: The function that is missing where the machine gives no thread, for the log.
    """

    def __init__(self, name: str, without: str) -> None:
        self._name = name
        self._without = without
        self._watched: set[T] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, one: T) -> T:
        """Start to look at a target."""
        with self._lock:
            self._watched.add(one)
            if self._thread is None:
                self._thread = self._start()
        self._wake.set()
        return one

    def unwatch(self, one: T) -> bool:
        """Stop looking at a target; return whether it was looked at until now."""
        with self._lock:
            known = one in self._watched
            self._watched.discard(one)
        return known

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()

    @abstractmethod
    def _look(self, watched: list[T]) -> float | None:
        """Look at all targets once; return the seconds until the next look, or None where the next added
        target starts it.
        """

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a call must not fail because of this; the next one tries again
            _log.warning("%s: %s", self._without, error)
            return None
        return thread

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()  # before the look, otherwise a target that is added now would wait
            with self._lock:
                watched = list(self._watched)
            self._wake.wait(self._look(watched))


_TREE_EVERY: Final = 2
"""Ticks between two looks for new children; guessed: a child is counted within a second."""


@dataclass(slots=True, eq=False)
class Watch:
    """One busy worker under observation; `usage` is replaced as a whole, so any thread may read it.

    Attributes:
        pid: The worker.
        job_id: The job it runs.
        cpu_base_s: The CPU time of the worker and its children before this job.
        runs_programs: Whether the memory is that of the programs it has started, without its own.
    """

    pid: int
    job_id: str
    cpu_base_s: float
    runs_programs: bool = False
    usage: Usage | None = None
    ticks: int = 0
    tree: processes.TreeScan | None = None
    children: tuple[int, ...] = ()


class Sampler(Watcher[Watch]):
    """Samples its watches every `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        super().__init__("usage-sampler", "memory and CPU are not sampled")
        self._interval_s = interval_s

    def _look(self, watched: list[Watch]) -> float | None:
        for watch in watched:
            sample(watch)
        if not watched:
            return None
        time.sleep(self._interval_s)  # no wake-up: each new watch would cause a read of all others
        return 0.0


def sample(watch: Watch) -> Usage | None:
    """Read one watch now and return its usage; None when the worker is gone."""
    try:
        if watch.ticks % _TREE_EVERY == 0:
            watch.tree = watch.tree or processes.TreeScan(watch.pid, watch.job_id)
            watch.children = tuple(member.pid for member in watch.tree.look().members)
        watch.ticks += 1
        own, below = resident_usage((watch.pid,)), resident_usage(watch.children)
    except OSError:  # out of descriptors; the next tick may do better
        return None
    if not own.processes:
        return None
    rss = below.memory_bytes + (0 if watch.runs_programs else own.memory_bytes)
    processes_ = below.processes + (not watch.runs_programs)
    last = watch.usage or Usage(0, 0, 0.0, None, 0)
    cpu_s = max(own.cpu_s + below.cpu_s - watch.cpu_base_s, last.cpu_seconds)
    watch.usage = Usage(rss, max(rss, last.peak_rss_bytes), cpu_s, None, processes_)
    return watch.usage


@dataclass(slots=True, eq=False)
class Watched:
    """One worker under a guard."""

    guard: LimitChecker
    on_breach: Callable[[Breach], None]
    due_at: float = 0.0


class LimitMonitor(Watcher[Watched]):
    """Checks limits; the breach of a limit is reported once.

    Args:
        holds: Whether a tree over its limit of memory or disk space is kept from taking more of it; not for
            the process's own tree.
    """

    def __init__(self, *, holds: bool = True) -> None:
        super().__init__("limits", "limits of memory, CPU time and disk space are not looked after")
        self._holds = holds

    def watch(self, guard: LimitChecker, on_breach: Callable[[Breach], None]) -> Watched:
        """Start to check; `on_breach` is called at most once, in the monitor's thread."""
        return self.add(Watched(guard, on_breach))

    def _look(self, watched: list[Watched]) -> float | None:
        now = time.monotonic()
        for one in watched:
            if one.due_at <= now:
                self._look_at(one)
        dues = [one.due_at for one in watched]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _look_at(self, watched: Watched) -> None:
        try:
            breach = watched.guard.look()
        except Exception:  # noqa: BLE001  such as for want of descriptors: the others are looked at
            _log.exception("the limits of a worker could not be looked at")
            breach = None
        watched.due_at = time.monotonic() + watched.guard.pause_s
        if breach is not None and self.unwatch(watched):  # otherwise its body has just ended
            watched.on_breach(breach)  # first: a body that fails by the freeze has been ended at its limit
            if self._holds:
                watched.guard.freeze(breach.kind)
