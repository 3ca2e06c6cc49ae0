"""What a pool learns from workers that die before they do anything: to leave the spares alone for a
while, and what they load ahead. A module that ends its process would else cost a worker at a time.
"""

from __future__ import annotations

from typing import Final

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
"""Both guessed: a single kill from outside is made good at once, an endless series costs little."""


class Setbacks:
    """How long to wait before the next spare, and whether lanes still load modules ahead."""

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._until = 0.0
        self.preloading = True

    def note(self, now: float) -> float:
        """A worker died before its first call; return how long no spare is started now."""
        self.preloading = False
        self._delay_s = min(self._delay_s * 2 or _FIRST_S, _LONGEST_S)
        self._until = now + self._delay_s
        return self._delay_s

    def resting(self, now: float) -> bool:
        """Whether spares are not started now."""
        return now < self._until

    def over(self) -> None:
        """A worker has done something: the next death is a first one again."""
        self._delay_s = self._until = 0.0
