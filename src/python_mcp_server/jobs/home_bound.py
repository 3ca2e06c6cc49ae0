"""The bound of a home on its disk space, for jobs that no caller submits: those of schedules.

A submitted call is admitted on the event loop, by `limit_watch.HomeDisk`. The round of the schedules runs in
a thread of the store, and so measures there.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits, number_words
from python_mcp_server.model import MB, Job
from python_mcp_server.runner.disk import DiskMeter

_USES: Final = 20
"""A measurement is used for so many times as long as it took."""


class HomeBound:
    """Keeps new jobs within `PYTHON_MCP_MAX_DISK_MB`. The methods block."""

    def __init__(self, home: Path, most_mb: float) -> None:
        """Measure nothing yet; `most_mb` is 0 for no bound."""
        self._home = home
        self._most_mb = most_mb
        self._taken_mb = math.inf
        self._use_until = 0.0

    def admit(self, job: Job) -> Job:
        """Return the job with a disk limit of what the home has left, if that is less than its own.

        Raises:
            InvalidInput: The home has nothing left.
        """
        if not self._most_mb or job.call is None:
            return job
        left_mb = round(self._most_mb - self._taken(), 1)
        if left_mb <= 0:
            raise InvalidInput(full_sentence(self._home, self._taken_mb, self._most_mb))
        return job.evolve(call=job.call | {"limits": _within(job.call, left_mb)})

    def _taken(self) -> float:
        began = time.monotonic()
        if began > self._use_until or self._taken_mb >= self._most_mb:
            meter = DiskMeter((f"{self._home}/output", f"{self._home}/lanes"))
            self._taken_mb = meter.measure() / MB
            self._use_until = began + _USES * (time.monotonic() - began)
        return self._taken_mb


def _within(call: dict[str, Any], left_mb: float) -> dict[str, Any]:
    limits = Limits.given(**(call.get("limits") or {})) or Limits()
    own_mb = math.inf if limits.disk_limit_mb is None else limits.disk_limit_mb
    return replace(limits, disk_limit_mb=min(own_mb, left_mb)).to_json()


def full_sentence(home: Path, taken_mb: float, most_mb: float) -> str:
    """Return why a home takes no further job."""
    return (
        f"The jobs in {home} take {taken_mb:.0f} MB, and PYTHON_MCP_MAX_DISK_MB is {number_words(most_mb)}: "
        "remove some with py_prune_jobs or `python-mcp-server jobs prune`"
    )
