"""How long the caller of one attempt waits: until a record is due, then until its budget is over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from python_mcp_server.jobs.engine import Engine


class BudgetTimer:
    """The waiting of one caller.

    Attributes:
        over: Done when the caller should look: the attempt ended, or its budget did.
    """

    def __init__(self, front: Engine, on_age: Callable[[], None]) -> None:
        self.over: asyncio.Future[None] = front.loop.create_future()
        self._front = front
        self._on_age = on_age
        self._rest_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, budget_s: float, record_after_s: float) -> None:
        """Begin to count."""
        self._rest_s = budget_s - record_after_s
        if self._rest_s > 0:
            self._front.age(self)  # nearly every call ends before that: no timer of its own
        else:
            self._timer = self._front.loop.call_later(budget_s, self.end)

    def come_of_age(self) -> None:
        """The call lasts long enough for a record."""
        if not self.over.done():
            self._timer = self._front.loop.call_later(self._rest_s, self.end)
            self._on_age()

    def end(self) -> None:
        """Let the caller look."""
        if not self.over.done():
            self.over.set_result(None)

    def stop(self) -> None:
        """The caller has its answer, or left."""
        if self._timer is not None:
            self._timer.cancel()
        self.over.cancel()


async def within(work: Coroutine[None, None, object], seconds: float) -> None:
    """Wait for something, but not longer; in this very task: `wait_for` would make another, which
    the end of `asyncio.run` cancels."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
