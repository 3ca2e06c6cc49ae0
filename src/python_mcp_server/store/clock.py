"""How far the wall clock was set since a record was written. Used by the stores only.

A job's times are those that the wall clock told. Ages that are taken from them are wrong once the
clock was set. The time since boot is never set; so the difference of the two, kept in the record,
says how far the wall clock went astray, as long as the machine was not booted since.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Self, cast

from python_mcp_server.model import Job, utc_now

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_LEAST_S: Final = 1.0
"""Guessed: less than this is the slow correction that every clock gets."""
_PARTS: Final = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the wall clock stood.

    Attributes:
        boot: Which boot of the machine.
        ahead_s: The wall clock minus the time since that boot.
    """

    boot: str
    ahead_s: float

    @classmethod
    def now(cls) -> Self | None:
        """Read the clocks; None where the system does not tell one boot from another."""
        clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
        boot = _boot()
        if clock is None or not boot:
            return None
        return cls(boot, round(time.time() - time.clock_gettime(clock), 3))

    def to_json(self) -> list[Any]:
        """Return `[boot, ahead_s]`."""
        return [self.boot, self.ahead_s]

    @classmethod
    def from_json(cls, data: object) -> Self | None:
        """Read what `to_json` wrote; None for all else."""
        parts = cast("list[Any]", data) if isinstance(data, list) else []
        if len(parts) != _PARTS or not isinstance(parts[1], int | float):
            return None
        return cls(str(parts[0]), parts[1])

    def moved(self) -> timedelta:
        """Return how far the wall clock was set since; nothing where that cannot be known."""
        present = Reading.now()
        if present is None or present.boot != self.boot:
            return timedelta()
        shift_s = present.ahead_s - self.ahead_s
        return timedelta(seconds=shift_s) if abs(shift_s) >= _LEAST_S else timedelta()


@cache
def _boot() -> str:
    try:
        with open(_BOOT_ID, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""  # no Linux, or a sandbox without /proc


def on_present_clock(job: Job, written: Reading | None) -> Job:
    """Return the job as if its end had been told by the wall clock of now.

    An end that would lie in the future is now: it is over, and nobody knows for how long.

    Args:
        job: A terminal job.
        written: The clocks when its end was written.
    """
    told = job.completed_at or job.created_at
    ended = min(_later(told, written.moved() if written else timedelta()), utc_now())
    return job if ended == told else job.evolve(completed_at=ended)


def _later(when: datetime, by: timedelta) -> datetime:
    try:
        return when + by
    except OverflowError:
        return when
