"""Notices the end of a worker: through a pidfd on the loop, or by polling where there is none."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes

if TYPE_CHECKING:
    import asyncio

_log: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.1
"""Between two looks at a worker where there are no pidfds."""


class DeathWatch:
    """Calls `on_death` once on the loop.

    Attributes:
        pidfd: Of the worker; -1 where there is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, on_death: Callable[[], None]) -> None:
        self.pidfd = -1
        self._loop = loop
        self._pid = pid
        self._on_death = on_death
        self._over = False

    def start(self) -> None:
        """Start watching; of a worker that is dead already this says so at once."""
        if hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(self._pid)
            except ProcessLookupError:
                self._tell()
                return
            except OSError as error:
                _log.warning("process %s is polled for its end: %s", self._pid, error)
        if self.pidfd >= 0:
            self._loop.add_reader(self.pidfd, self._tell)
        else:
            self._loop.call_later(_POLL_S, self._poll)

    def _tell(self) -> None:
        if not self._over:
            self._stop()
            self._on_death()

    def _poll(self) -> None:
        if self._over:
            return
        try:
            alive = processes.identify(self._pid) is not None
        except OSError:
            alive = True  # nothing is known for now: there are no descriptors to look with
        if alive:
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._tell()

    def _stop(self) -> None:
        self._over = True
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)

    def close(self) -> None:
        """Watch no more, and let go of the pidfd."""
        self._stop()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
