"""Looks at the limits of busy workers in a thread of its own, each as often as its guard asks for.

The body holds its own process up when a C loop keeps the interpreter's lock; so while the server lives, it
looks, and not the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from python_mcp_server.limits import MEMORY, Breach
from python_mcp_server.runner.guard import Guard

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Watched:
    """One worker under a guard."""

    guard: Guard
    on_breach: Callable[[Breach], None]
    due_at: float = 0.0


class Limiter:
    """Looks in a daemon thread, which sleeps when there is nobody to look at."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, guard: Guard, on_breach: Callable[[Breach], None]) -> Watched:
        """Begin to look; `on_breach` is called once at most, in the thread that looks."""
        watched = Watched(guard, on_breach)
        with self._lock:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = self._start()
        self._wake.set()
        return watched

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="limits", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the kernel's own limits stand; the next watch tries again
            _log.warning("limits of memory and CPU time are not looked after: %s", error)
            return None
        return thread

    def unwatch(self, watched: Watched) -> bool:
        """Look at it no more; return whether it was within its limits until now."""
        with self._lock:
            within = watched in self._watched
            self._watched.discard(watched)
        return within

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()  # before the look, or a watch that comes now would sleep with us
            with self._lock:
                all_watched = list(self._watched)
            now = time.monotonic()
            for watched in all_watched:
                if watched.due_at <= now:
                    self._look(watched)
            dues = [watched.due_at for watched in all_watched]
            self._wake.wait(max(0.0, min(dues) - time.monotonic()) if dues else None)

    def _look(self, watched: Watched) -> None:
        try:
            breach = watched.guard.look()
        except Exception:  # noqa: BLE001  such as for want of descriptors: the others are looked at
            _log.exception("the limits of a worker could not be looked at")
            breach = None
        watched.due_at = time.monotonic() + watched.guard.pause_s
        if breach is not None and self.unwatch(watched):  # else its body has just ended
            if breach.kind == MEMORY:
                watched.guard.hold()
            watched.on_breach(breach)
