"""The part of an engine that lets the home be cleaned now and then, in a thread."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.pool.steady import to_thread

if TYPE_CHECKING:
    from python_mcp_server.jobs.services import Services

_log: Final = logging.getLogger(__name__)
_FIRST_S: Final = 10.0
"""Delay after the opening: a program that lives for a moment cleans nothing."""

_LATER_S: Final = 180.0
"""Until the next round after one that failed."""


class Housekeeping:
    """Runs the rounds of `jobs.keeping`. All methods belong to the loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._keeper = Keeper(services.store, Bounds.of(services.settings))
        # a timer, not a task that sleeps: a loop that is closed without us complains of no task
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def open(self) -> None:
        """Begin; the first round comes some seconds later."""
        self._schedule(_FIRST_S)

    def _schedule(self, delay_s: float) -> None:
        if not self._closed and not self._services.loop.is_closed():
            self._timer = self._services.loop.call_later(delay_s, self._begin)

    def _begin(self) -> None:
        self._task = self._services.spawn(self._round(), "housekeeping")

    async def _round(self) -> None:
        delay_s = _LATER_S
        try:
            delay_s = await to_thread(self._services.loop, None, self._keeper.round)
        except (StoreError, OSError, RuntimeError) as error:  # a full disk, no descriptors, no thread
            _log.warning("the home is cleaned another time: %s", error)
        finally:
            self._schedule(delay_s)

    async def close(self) -> None:
        """Begin no more rounds, and wait for the end of the current one, which comes soon."""
        self._closed = True
        self._keeper.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})
