"""Timers of calls: the record is due after a second, the budget ends later. No call has a timer of its own
before its record is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine


class RecordTimer:
    """Calls `record_due` on each call that lasts. All calls wait equally long, so one timer of the loop
    serves them in turn: a timer for each call would cost every short call more than its bookkeeping.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float) -> None:
        self.after_s = after_s
        self.loop = loop
        self._due_at: dict[BudgetTimer, float] = {}  # in this order
        self._timer: asyncio.TimerHandle | None = None

    def add(self, budget: BudgetTimer) -> None:
        """Add a call, whose record becomes due."""
        due_at = self.loop.time() + self.after_s
        self._due_at[budget] = due_at
        if self._timer is None:
            self._timer = self.loop.call_at(due_at, self._run)

    def remove(self, budget: BudgetTimer) -> None:
        """Remove a call that no longer needs a record."""
        self._due_at.pop(budget, None)

    def _run(self) -> None:
        now = self.loop.time()
        try:
            while (first := self._first()) is not None and self._due_at[first] <= now:
                del self._due_at[first]
                first.record_due()
        finally:  # otherwise one failure would switch off the budget of every later call
            first = self._first()
            self._timer = None if first is None else self.loop.call_at(self._due_at[first], self._run)

    def _first(self) -> BudgetTimer | None:
        return next(iter(self._due_at), None)


class BudgetTimer:
    """The time that one caller waits.

    Attributes:
        expired: Done when the caller must act: its job has ended, or its budget has.
    """

    def __init__(self, records: RecordTimer, on_record_due: Callable[[], object]) -> None:
        self.expired: asyncio.Future[None] = records.loop.create_future()
        self._records = records
        self._on_record_due = on_record_due
        self._rest_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, budget_s: float) -> None:
        """Start the timers."""
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
        """Stop the timers: the caller has its answer, or left. No reference to the call may remain here, so
        that its objects are freed at once, and the next call finds that memory warm.
        """
        self._records.remove(self)
        self._on_record_due = bool
        if self._timer is not None:
            self._timer.cancel()
        self.expired.cancel()


async def within(work: Coroutine[None, None, object], seconds: float) -> None:
    """Wait for this, but not longer than the time. The wait runs in the calling task: `wait_for` would make
    another task, which the end of `asyncio.run` cancels.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
