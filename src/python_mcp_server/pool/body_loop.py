"""The event loop that async bodies of one worker share, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

_LEFTOVERS_S: Final = 1.0
"""What tasks that a body left running get to hear their cancel; guessed: `finally` blocks are short."""


class BodyLoop:
    """Made with the first async body; it outlives them, for a loop costs a millisecond."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any], deliver_by: Callable[[Callable[[], None]], None]) -> Any:
        """Run an async body; what it leaves running ends with it.

        Args:
            awaitable: What the body returned.
            deliver_by: Is told how to cancel it.
        """
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        loop = self._loop
        task = asyncio.ensure_future(awaitable, loop=loop)
        deliver_by(lambda: _cancel(loop, task))
        try:
            return loop.run_until_complete(task)
        finally:
            self._end_leftovers(loop)

    def _end_leftovers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Else they would go on inside the next body, and print into its output."""
        import asyncio

        if not (leftovers := asyncio.all_tasks(loop)):
            return
        for task in leftovers:
            task.cancel()
        ended, deaf = loop.run_until_complete(asyncio.wait(leftovers, timeout=_LEFTOVERS_S))
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "a task that the body left failed", "exception": error, "task": task}
                )
        if deaf:
            self._loop = None  # whoever does not hear stays behind on a loop that never runs again


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Future[Any]) -> None:
    loop.call_soon_threadsafe(task.cancel)
