"""Run a coroutine to its end, and fail when something blocked its event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
DEADLINE_S = 90.0
BLOCKED_S = 3.0
"""Far above what a busy machine does to a loop, below what a lock or a process start that waits does."""


class LoopBlocked(AssertionError):
    """The event loop did not turn for too long; the text shows where it stood."""


def run(main: Coroutine[Any, Any, T], *, deadline_s: float = DEADLINE_S, blocked_s: float = BLOCKED_S) -> T:
    """Return what the coroutine returns.

    Raises:
        TimeoutError: It took longer than the deadline.
        LoopBlocked: It held the loop for longer than `blocked_s` at a time.
    """
    return asyncio.run(guarded(main, deadline_s, blocked_s))


async def guarded(
    main: Coroutine[Any, Any, T], deadline_s: float = DEADLINE_S, blocked_s: float = BLOCKED_S
) -> T:
    """Do what `run` does, on the loop that runs."""
    watchdog = _Watchdog(asyncio.get_running_loop(), blocked_s)
    watchdog.start()
    try:
        result = await asyncio.wait_for(main, deadline_s)
    finally:
        watchdog.stop()
        await asyncio.to_thread(watchdog.join)  # it may wait for a beat, which only a turning loop gives
    if watchdog.stack is not None:
        raise LoopBlocked(f"the event loop stood still for {blocked_s} s, here:\n{watchdog.stack}")
    return result


def loop_to_abandon() -> asyncio.AbstractEventLoop:
    """Return a loop that a test closes with tasks on it: that asyncio complains of them then is no news."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_expect_pending_tasks)
    return loop


def _expect_pending_tasks(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if context["message"] != "Task was destroyed but it is pending!":
        loop.default_exception_handler(context)


class _Watchdog(threading.Thread):
    """Asks the loop for a sign of life, and notes the stack of its thread where none comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_s: float) -> None:
        super().__init__(name="loop-watchdog", daemon=True)
        self.stack: str | None = None
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._blocked_s = blocked_s
        self._done = threading.Event()

    def run(self) -> None:
        while self.stack is None and not self._done.wait(0.05):
            beat = threading.Event()
            self._loop.call_soon_threadsafe(beat.set)
            if not beat.wait(self._blocked_s):
                frame = sys._current_frames()[self._loop_thread]
                self.stack = "".join(traceback.format_stack(frame))

    def stop(self) -> None:
        self._done.set()
