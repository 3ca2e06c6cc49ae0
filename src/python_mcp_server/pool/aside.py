"""Work on large values beside an event loop, one piece at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from python_mcp_server.pool.steady import done

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class Aside:
    """Does one thing after the other in a thread; what follows from it happens on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self._loop = loop
        self._threads = threads
        self._present: Future[Any] | None = None
        self._then: Callable[[Future[Any]], object] = bool

    @property
    def busy(self) -> bool:
        """Whether something is being done, or what follows from it is still to happen."""
        return self._present is not None

    def run(self, work: Callable[[], T], then: Callable[[Future[T]], object]) -> None:
        """Do this in a thread, then call `then` with the future, which is done."""
        self._then = then
        try:
            self._present = future = self._threads.submit(work)
        except RuntimeError as error:
            _log.info("no thread is to be had, the loop stands still meanwhile: %s", error)
            self._present = future = done(work)
        future.add_done_callback(self._wake)

    def _wake(self, future: Future[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._end, future)
        except RuntimeError:
            _log.debug("the loop is closed: nobody waits for the large value")

    def _end(self, future: Future[Any]) -> None:
        if self._present is future:
            self._present = None
            self._then(future)

    def finish(self) -> None:
        """Wait for it and do what follows now, for code that keeps the loop from turning."""
        if (future := self._present) is not None:
            future.exception()
            self._end(future)
