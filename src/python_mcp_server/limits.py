"""The limits of one call: memory, CPU time, time, disk space, priority, cores. They are plain data, checked
when it is made.

Any module may import this one. `runner.enforce` enforces the limits while a call runs. A further limit needs
a field, a check and a kind here, its enforcement there, its text in `tools.parameters`, a parameter in the
script tools and in `smart_async`, and a sentence in `tools.hints`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Self, cast

from python_mcp_server.errors import InvalidInput

MEMORY: Final = "memory_limit"
CPU: Final = "cpu_limit"
TIME: Final = "time_limit"
DISK: Final = "disk_limit"
"""Each is the `error_kind` of a job that was ended at that limit."""

_MB: Final = 1_000_000
LONGEST_S: Final = 1e9
"""30 years: the kernel counts nanoseconds in 64 bits, and a date has four digits for its year."""

_MOST_MB: Final = 1e12
"""An exabyte: the kernel counts bytes in 64 bits."""

_SIX_DIGITS: Final = 1e5
_SIXTEEN_DIGITS: Final = 1e15
"""Beyond, a float does not hold every whole number."""

_LOWEST_NICE, _HIGHEST_NICE = -20, 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a call; None for no limit.

    Attributes:
        memory_limit_mb: Memory of all its processes together, in MB of 10^6 bytes.
        cpu_time_limit_seconds: CPU time of all its processes together.
        timeout_seconds: How long the call may run, counted from its start.
        disk_limit_mb: Disk space of the files in its job's folder and of its output, in MB of 10^6 bytes.
        nice: Its priority, from -20 (first) to 19 (last).
        cpus: The cores that the call may use: a count, or their numbers.

    Raises:
        InvalidInput: A value has no meaning; the text names it.
    """

    memory_limit_mb: float | None = None
    cpu_time_limit_seconds: float | None = None
    timeout_seconds: float | None = None
    nice: int | None = None
    cpus: int | tuple[int, ...] | None = None
    disk_limit_mb: float | None = None

    def __post_init__(self) -> None:
        _check_positive("memory_limit_mb", self.memory_limit_mb, _MOST_MB, "MB")
        _check_positive("cpu_time_limit_seconds", self.cpu_time_limit_seconds, LONGEST_S, "seconds")
        _check_positive("timeout_seconds", self.timeout_seconds, LONGEST_S, "seconds")
        _check_positive("disk_limit_mb", self.disk_limit_mb, _MOST_MB, "MB")
        if self.nice is not None and not (_whole(self.nice) and _LOWEST_NICE <= self.nice <= _HIGHEST_NICE):
            raise InvalidInput(
                f"nice is {self.nice!r}; it must be a whole number from {_LOWEST_NICE} to {_HIGHEST_NICE}"
            )
        object.__setattr__(self, "cpus", _checked_cpus(self.cpus))

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes."""
        return None if self.memory_limit_mb is None else int(self.memory_limit_mb * _MB)

    @property
    def disk_bytes(self) -> int | None:
        """The disk limit in bytes."""
        return None if self.disk_limit_mb is None else int(self.disk_limit_mb * _MB)

    @property
    def single_use_worker(self) -> bool:
        """Whether a worker is replaced after such a call, because priority and cores cannot be restored."""
        return self.nice is not None or self.cpus is not None

    @property
    def needs_monitoring(self) -> bool:
        """Whether memory, CPU time or disk space must be monitored while the call runs."""
        return self.counts_processes or self.disk_limit_mb is not None

    @property
    def counts_processes(self) -> bool:
        """Whether the usage of the processes must be read while the call runs."""
        return self.memory_limit_mb is not None or self.cpu_time_limit_seconds is not None

    def to_json(self) -> dict[str, Any]:
        """Return the limits that are set, by name."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        if isinstance(self.cpus, tuple):
            given["cpus"] = list(self.cpus)
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def given(cls, **values: Any) -> Self | None:
        """Return the limits among these values; None where all of them are None."""
        return cls(**values) if any(value is not None for value in values.values()) else None


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a call exceeded.

    Attributes:
        kind: `MEMORY`, `CPU`, `TIME` or `DISK`.
        sentence: How much the call used, and how much it was allowed.
        peak_bytes: The largest memory that was measured, where that was over the limit.
    """

    kind: str
    sentence: str
    peak_bytes: int = 0


def memory_breach(peak_bytes: int, limits: Limits) -> Breach:
    """Return the breach of a call whose processes held this much memory."""
    sentence = f"ended at its memory limit: its processes held {peak_bytes / _MB:.0f} MB"
    return Breach(MEMORY, f"{sentence}, the limit is {number_words(limits.memory_limit_mb)} MB", peak_bytes)


def jump_breach(limits: Limits) -> Breach:
    """Return the breach of a call that asked for too much memory at once, so that the kernel refused it."""
    limit = f"its limit of {number_words(limits.memory_limit_mb)} MB"
    return Breach(MEMORY, f"ended by a MemoryError: it asked for more memory at once than {limit} allows")


def cpu_breach(used_s: float, limits: Limits) -> Breach:
    """Return the breach of a call whose processes used this much CPU time."""
    sentence = f"ended at its CPU time limit: its processes used {used_s:.2f} s"
    return Breach(CPU, f"{sentence}, the limit is {number_words(limits.cpu_time_limit_seconds)} s")


def time_breach(limits: Limits) -> Breach:
    """Return the breach of a call that took too long."""
    return Breach(TIME, f"ended at its time limit of {number_words(limits.timeout_seconds)} s")


def disk_breach(used_bytes: int, limits: Limits) -> Breach:
    """Return the breach of a call whose files and output take this much disk space."""
    sentence = f"ended at its disk limit: its files and its output took {used_bytes / _MB:.0f} MB"
    return Breach(DISK, f"{sentence}, the limit is {number_words(limits.disk_limit_mb)} MB")


def number_words(number: float | None) -> str:
    """Return a number with six digits, or whole where it has more: 1500000 and not 1.5e+06."""
    if number is None:
        return "none"
    return f"{number:.0f}" if _SIX_DIGITS <= abs(number) < _SIXTEEN_DIGITS else f"{number:g}"


def _check_positive(name: str, value: Any, most: float, unit: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):
        raise InvalidInput(f"{name} is {value!r}; it must be a positive number of {unit}, or unset")
    if value is not None and value > most:
        raise InvalidInput(f"{name} is {value!r}; it may be at most {most:g} {unit}, or unset for no limit")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _checked_cpus(cpus: Any) -> int | tuple[int, ...] | None:
    if cpus is None or (_whole(cpus) and cpus > 0):
        return cpus
    plural = isinstance(cpus, Iterable) and not isinstance(cpus, (str, bytes))
    numbers = tuple(cast("Iterable[Any]", cpus)) if plural else ()
    if not numbers or not all(_whole(number) and number >= 0 for number in numbers):
        raise InvalidInput(
            f"cpus is {cpus!r}; it must be how many cores, such as 2, or their numbers, such as [0, 1]"
        )
    return tuple(sorted(set(numbers)))
