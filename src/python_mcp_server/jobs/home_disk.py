"""The bound on the disk space of all jobs of a home: `PYTHON_MCP_MAX_DISK_MB`.

The space is not known at each call, because a home may have 100,000 folders: it is measured in a thread when
a call comes and the last measurement is old, and always before a call is refused.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.limits import Limits
from python_mcp_server.model import MB
from python_mcp_server.pool.steady import to_thread
from python_mcp_server.runner.disk import DiskMeter

if TYPE_CHECKING:
    from pathlib import Path

    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.services import Services

_log: Final = logging.getLogger(__name__)
_USES: Final = 20
"""A measurement is used for this many times as long as it took; guessed: a twentieth of a core."""

_LONG_S: Final = 0.1
"""A call does not wait for a measurement that takes longer, as long as the last one is known."""


class HomeDisk:
    """Knows how much of its bound a home has left. All methods belong to the loop."""

    def __init__(self, services: Services, home: Path, most_mb: float) -> None:
        """Measure nothing yet.

        Args:
            services: Has the loop and the tasks.
            home: The home.
            most_mb: The bound, in MB of 10^6 bytes.
        """
        self._services = services
        self._home = home
        self._most_mb = most_mb
        self._taken_mb: float | None = None
        self._took_s = 0.0
        self._use_until = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def admit(self, request: Request) -> Request:
        """Return the request with a disk limit of what the home has left, if that is less than its own. An
        inline body cannot have that limit.

        Raises:
            StoreError: The home has nothing left.
        """
        if self._is_over():  # or not known; a prune may have made room
            await self._measured_from_now()
        elif time.monotonic() > self._use_until:
            measuring = self._measure_soon()
            if self._took_s < _LONG_S:
                await asyncio.shield(measuring)
        left_mb = round(self._most_mb - (self._taken_mb or 0.0), 1)
        if left_mb <= 0:
            raise StoreError(
                f"The jobs in {self._home} take {self._taken_mb:.0f} MB, and PYTHON_MCP_MAX_DISK_MB is "
                f"{self._most_mb:g}: remove some with py_prune_jobs or `python-mcp-server jobs prune`"
            )
        if request.isolation == "inline":
            return request
        limits = request.limits or Limits()
        own_mb = math.inf if limits.disk_limit_mb is None else limits.disk_limit_mb
        return replace(request, limits=replace(limits, disk_limit_mb=min(own_mb, left_mb)))

    def forget(self) -> None:
        """Measure again at the next call, because a job has met its disk limit."""
        self._taken_mb = self._measuring = None

    def _is_over(self) -> bool:
        """Whether the bound is met, or no measurement says that it is not."""
        return self._taken_mb is None or self._taken_mb >= self._most_mb

    async def _measured_from_now(self) -> None:
        """Wait for a measurement; where one is under way, it may have passed what was pruned since."""
        is_under_way = self._measuring is not None and not self._measuring.done()
        await asyncio.shield(self._measure_soon())
        if is_under_way and self._is_over():
            await asyncio.shield(self._measure_soon())

    def _measure_soon(self) -> asyncio.Task[None]:
        if self._measuring is None or self._measuring.done():
            self._measuring = self._services.spawn(self._measure(), "home-disk")
        return self._measuring

    async def _measure(self) -> None:
        began = time.monotonic()
        meter = DiskMeter((f"{self._home}/output", f"{self._home}/lanes"))
        try:
            self._taken_mb = await to_thread(self._services.loop, None, meter.measure) / MB
        except (OSError, RuntimeError) as error:  # no descriptors or no thread: that is not the call's fault
            _log.warning("the disk space of %s is not known: %s", self._home, error)
        self._took_s = time.monotonic() - began
        self._use_until = began + _USES * self._took_s
