"""A thread that looks at busy workers, and sleeps when there are none: the sampler, and the limiter."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class Watcher(ABC, Generic[T]):
    """Looks in a daemon thread of its own, from the first thing that it is given on.

    Args:
        name: The thread's.
        without: What is missing where the machine gives no thread, for the log.
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
        """Begin to look at it."""
        with self._lock:
            self._watched.add(one)
            if self._thread is None:
                self._thread = self._start()
        self._wake.set()
        return one

    def unwatch(self, one: T) -> bool:
        """Look at it no more; return whether it was looked at until now."""
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
        """Look at all of these once; return in how many seconds again, or None for not until one is added."""

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a call must not fail for it; the next one tries again
            _log.warning("%s: %s", self._without, error)
            return None
        return thread

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()  # before the look, or one that comes now would sleep with us
            with self._lock:
                watched = list(self._watched)
            self._wake.wait(self._look(watched))
