"""Looks at the limits of busy workers in a thread of its own, each as often as its guard asks for.

The body holds its own process up when a C loop keeps the interpreter's lock; so while the server lives, it
looks, and not the worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from python_mcp_server.limits import MEMORY, Breach
from python_mcp_server.pool.watching import Watcher
from python_mcp_server.runner.guard import Guard

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Watched:
    """One worker under a guard."""

    guard: Guard
    on_breach: Callable[[Breach], None]
    due_at: float = 0.0


class Limiter(Watcher[Watched]):
    """Looks after limits; whoever is over one is told once.

    Args:
        holds: Whether a tree that is over its memory gets no more of it; not where it is our own.
    """

    def __init__(self, *, holds: bool = True) -> None:
        super().__init__("limits", "limits of memory and CPU time are not looked after")
        self._holds = holds

    def watch(self, guard: Guard, on_breach: Callable[[Breach], None]) -> Watched:
        """Begin to look; `on_breach` is called once at most, in the thread that looks."""
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
        if breach is not None and self.unwatch(watched):  # else its body has just ended
            if breach.kind == MEMORY and self._holds:
                watched.guard.hold()
            watched.on_breach(breach)
