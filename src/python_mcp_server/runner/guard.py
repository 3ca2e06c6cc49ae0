"""Who looks whether a tree stays within its limits, and how often.

A `Guard` looks and tells; whoever owns the tree then ends it: for the child of a script its worker, for
the body of a lane the server, and the worker itself once its server is gone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from python_mcp_server import processes
from python_mcp_server.limits import Breach, Limits, cpu_breach, memory_breach, time_breach
from python_mcp_server.processes.meter import family, measure

_SHORTEST_S: Final = 0.01 if processes.LINUX else 0.05
_LONGEST_S: Final = 0.25
_GROWTH_BYTES_S: Final = 2e9
"""How fast a process can fill memory; measured on fast machines: zeroing new pages is what takes long."""

_LOOKS_SHARE: Final = 0.1
"""Of a core that looking may take, however large the tree is."""


class Guard:
    """Looks at one tree against its limits.

    Attributes:
        peak_bytes: The most memory that was seen.
        pause_s: After how long to look again: the nearer the limit, the sooner.
    """

    def __init__(
        self,
        limits: Limits,
        roots: Callable[[], Iterable[int]],
        *,
        cpu_base_s: Callable[[], float] = float,
        started_s: float | None = None,
        from_now: bool = False,
    ) -> None:
        """Begin to count.

        Args:
            limits: The limits; the time limit counts where `started_s` is given.
            roots: Returns the pids of the tree's roots.
            cpu_base_s: Returns what is to be added to the CPU time of the living processes: that of
                those who have ended, less what was used before.
            started_s: When the call began, on the monotonic clock.
            from_now: Whether the CPU time up to the first look belongs to others.
        """
        self.peak_bytes = 0
        self.pause_s = _SHORTEST_S
        self._limits = limits
        self._roots = roots
        self._cpu_base_s = cpu_base_s
        self._cpu_s = 0.0
        self._before_s: float | None = None if from_now else 0.0
        self._time_limit_s = limits.timeout_seconds if started_s is not None else None
        self._started_s = started_s or 0.0

    def look(self) -> Breach | None:
        """Look now, and return what the tree has gone over, if anything."""
        began = time.monotonic()
        if self._limits.watched:
            reading = measure(self._roots, self._limits.memory_bytes)
            self.peak_bytes = max(self.peak_bytes, reading.memory_bytes)
            used_s = reading.cpu_s + self._cpu_base_s()
            self._before_s = used_s if self._before_s is None else self._before_s
            self._cpu_s = max(self._cpu_s, used_s - self._before_s)
            self.pause_s = self._pause_s(reading.memory_bytes, reading.processes, began)
        else:
            self.pause_s = _LONGEST_S
        return self._breach(began)

    def hold(self) -> None:
        """Let the tree get no more memory, until it is ended: the record comes first, and takes longer
        than filling the memory. Whoever asks for more meets a `MemoryError`, and that has its own words."""
        if sys.platform != "linux":
            return
        import resource

        for pid in family(self._roots()):
            with suppress(
                ProcessLookupError, PermissionError
            ):  # it ended this instant, or is no one's of ours
                hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
                resource.prlimit(pid, resource.RLIMIT_DATA, (0, hard))

    def _breach(self, now: float) -> Breach | None:
        limits = self._limits
        if limits.memory_bytes is not None and self.peak_bytes > limits.memory_bytes:
            return memory_breach(self.peak_bytes, limits)
        if limits.cpu_time_limit_seconds is not None and self._cpu_s > limits.cpu_time_limit_seconds:
            return cpu_breach(self._cpu_s, limits)
        if self._time_limit_s is not None and now - self._started_s > self._time_limit_s:
            return time_breach(limits)
        return None

    def _pause_s(self, memory_bytes: int, processes_: int, began: float) -> float:
        pause_s = _LONGEST_S
        if self._limits.memory_bytes is not None:
            pause_s = (self._limits.memory_bytes - memory_bytes) / _GROWTH_BYTES_S
        if self._limits.cpu_time_limit_seconds is not None:
            left_s = self._limits.cpu_time_limit_seconds - self._cpu_s
            pause_s = min(pause_s, left_s / max(1, min(processes_, os.cpu_count() or 1)))
        cost_s = time.monotonic() - began
        return min(_LONGEST_S, max(_SHORTEST_S, pause_s, cost_s / _LOOKS_SHARE))
