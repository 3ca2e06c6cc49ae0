"""Ends a server that should have ended, whatever its threads and its loop do.

Python waits at its exit for every thread that asyncio made, and one may read from a file that never answers.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import Final

_log: Final = logging.getLogger(__name__)


class ExitGuard:
    """Ends the process some time after it is armed."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._codes: queue.SimpleQueue[int] = queue.SimpleQueue()  # may be used in a signal's handler
        threading.Thread(target=self._wait, name="exit guard", daemon=True).start()

    def arm(self, code: int) -> None:
        """Begin to count the time; only the first call does. A signal's handler may call this."""
        self._codes.put(code)

    def _wait(self) -> None:
        code = self._codes.get()
        time.sleep(self._after_s)
        _log.warning("a thread does not end; the server exits without it")
        logging.shutdown()
        os._exit(code)
