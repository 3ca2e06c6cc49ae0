"""Who may have a lane now: so many calls that somebody waits for. Background jobs come with leave of
their own, which `jobs` gives for all servers of a home together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable

    from python_mcp_server.pool.lane import Lane


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for a lane."""

    background: bool
    lane: asyncio.Future[Lane]


class Admission:
    """The limit of a pool, beside the lanes that count."""

    def __init__(self, limit: int, busy: Collection[Lane]) -> None:
        self._limit = limit
        self._busy = busy

    def admits(self, *, background: bool) -> bool:
        """Whether one more call of this sort may have a lane."""
        return background or self._room > 0

    def refusal(self) -> str | None:
        """Return why a call that somebody waits for must wait, or None if it need not."""
        if self._room > 0:
            return None
        return f"waiting for a free lane: {len(self._busy)} calls run, the limit is {self._limit}"

    def count(self, waiting: Iterable[Waiter]) -> int:
        """Return how many of those who wait may have a lane now."""
        kinds = [waiter.background for waiter in waiting]
        return kinds.count(True) + min(kinds.count(False), max(0, self._room))

    @property
    def _room(self) -> int:
        return max(1, self._limit) - len(self._busy)
