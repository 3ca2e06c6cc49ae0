"""Timers of calls: the record is due after a second, the budget ends later. No call has a timer of its own
before its record is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine


class RecordTimer:
    """Calls `record_due` on each call that lasts. All of them wait equally long, so one timer of the loop
    serves them in turn: a timer each would cost every short call more than its bookkeeping."""

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float) -> None:
        self.after_s = after_s
        self.loop = loop
        self._waiting: deque[tuple[float, BudgetTimer]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, budget: BudgetTimer) -> None:
        """Let this call have its record when it is due."""
        due_at = self.loop.time() + self.after_s
        self._waiting.append((due_at, budget))
        if self._timer is None:
            self._timer = self.loop.call_at(due_at, self._run)

    def _run(self) -> None:
        now = self.loop.time()
        try:
            while self._waiting and (self._waiting[0][1].expired.done() or self._waiting[0][0] <= now):
                self._waiting.popleft()[1].record_due()
        finally:  # else one failure would switch off the budget of every later call
            self._timer = self.loop.call_at(self._waiting[0][0], self._run) if self._waiting else None


class BudgetTimer:
    """How long one caller waits.

    Attributes:
        expired: Done when the caller should look: its job has ended, or its budget has.
    """

    def __init__(self, records: RecordTimer, on_record_due: Callable[[], None]) -> None:
        self.expired: asyncio.Future[None] = records.loop.create_future()
        self._records = records
        self._on_record_due = on_record_due
        self._rest_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, budget_s: float) -> None:
        """Begin to count."""
        self._rest_s = budget_s - self._records.after_s
        if self._rest_s > 0:
            self._records.add(self)
        else:
            self._timer = self._records.loop.call_later(budget_s, self.wake)

    def record_due(self) -> None:
        """Count the rest of the budget, now that the call lasts long enough for a record."""
        if not self.expired.done():
            self._timer = self._records.loop.call_later(self._rest_s, self.wake)
            self._on_record_due()

    def wake(self) -> None:
        """Wake the caller."""
        if not self.expired.done():
            self.expired.set_result(None)

    def cancel(self) -> None:
        """Stop counting: the caller has its answer, or left."""
        if self._timer is not None:
            self._timer.cancel()
        self.expired.cancel()


async def within(work: Coroutine[None, None, object], seconds: float) -> None:
    """Wait for this, but not longer. It runs in the calling task: `wait_for` would make another one,
    which the end of `asyncio.run` cancels."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
