"""Who may have a lane now: so many calls that somebody waits for, so many that were handed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable

    from python_mcp_server.pool.lane import Lane
    from python_mcp_server.settings import Settings


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for a lane."""

    background: bool
    lane: asyncio.Future[Lane]


class Admission:
    """The limits of a pool, beside the lanes that count."""

    def __init__(self, settings: Settings, busy: Collection[Lane], background: Collection[Lane]) -> None:
        self._settings = settings
        self._busy = busy
        self._background = background

    def admits(self, *, background: bool) -> bool:
        """Whether one more call of this sort may have a lane."""
        return self._room(background=background) > 0

    def refusal(self, *, background: bool) -> str | None:
        """Return why a call of this sort must wait, or None if it need not."""
        if self.admits(background=background):
            return None
        limit = self._limit(background=background)
        if background:
            running = len(self._background)
            return f"waiting for its turn: {running} background jobs run, the limit is {limit}"
        return f"waiting for a free lane: {len(self._busy)} calls run, the limit is {limit}"

    def count(self, waiting: Iterable[Waiter]) -> int:
        """Return how many of those who wait may have a lane now."""
        kinds = [waiter.background for waiter in waiting]
        return sum(min(kinds.count(kind), max(0, self._room(background=kind))) for kind in (False, True))

    def _limit(self, *, background: bool) -> int:
        return self._settings.max_background_jobs if background else self._settings.max_lanes

    def _room(self, *, background: bool) -> int:
        running = self._background if background else self._busy
        return max(1, self._limit(background=background)) - len(running)
