"""How long a pool rests after workers that died at once, or that could not be started."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_FEW: Final = 4
"""All guessed: the worker after a single kill from outside starts at once, and an endless series costs
little.
"""


class StartBackoff:
    """Exponential back-off after workers that died before their first call, or that could not be started.

    Attributes:
        preloading: Whether new workers still load modules ahead; any of these may have ended its process.
        reason: The last failure, in words.
    """

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._until = 0.0
        self.preloading = True
        self.reason = ""

    def failed(self, now: float, reason: str) -> float:
        """Note one more failure in a row, and return how long to wait now."""
        self.preloading, self.reason = False, reason
        self._delay_s = min(self._delay_s * 2 or FIRST_S, _LONGEST_S)
        self._until = now + self._delay_s
        return self._delay_s

    def active(self, now: float) -> bool:
        """Whether the back-off still lasts."""
        return now < self._until

    def left_s(self, now: float) -> float:
        """Return how long the back-off still lasts."""
        return max(0.0, self._until - now)

    @property
    def failing(self) -> bool:
        """Whether the last start failed."""
        return self._delay_s > 0

    @property
    def failing_on(self) -> bool:
        """Whether the last few starts failed: a single worker may have been killed from outside."""
        return self._delay_s > _FEW * FIRST_S

    def reset(self) -> None:
        """Start again with the shortest time."""
        self._delay_s = self._until = 0.0
