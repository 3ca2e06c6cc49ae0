"""SIGTERM from outside ends a worker, whatever its main thread does.

A cancel of the server uses the same signal, and raises in the body. Python runs such a handler between two
steps of the main thread only, which a loop of C code never takes. So the kernel's own handler also writes a
byte here, and a thread sees to the rest: it asks the body to end, and when the grace is over, it ends the
process with all that the body has started.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from python_mcp_server.pool.cancellation import SIGNAL, CancelGate
from python_mcp_server.pool.channel import WINDOWS

_log: Final = logging.getLogger(__name__)
GRACE_S: Final = 5.0
"""How long a body and the end of a kept job may take after SIGTERM; guessed, more than the usual grace of a
cancel, and less than what service managers wait before they kill."""

_AGAIN_S: Final = 0.02


class Termination:
    """Waits for SIGTERM in a thread of its own.

    Args:
        gate: Carries a cancel to the body.
        grace_s: Returns how long the end may take.

    Attributes:
        wanted: Set once this process was told to end.
    """

    def __init__(self, gate: CancelGate, grace_s: Callable[[], float]) -> None:
        self.wanted = threading.Event()
        self._gate = gate
        self._grace_s = grace_s
        if WINDOWS:
            return
        self._heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_hear_nothing)  # its signals are not this process's
        threading.Thread(target=self._run, name="termination", daemon=True).start()

    def _run(self) -> None:
        try:
            while SIGNAL not in os.read(self._heard, 512) or self._gate.cancelling:
                continue
        except OSError as error:
            _log.debug("a body has closed the descriptors of its worker: %s", error)
            return
        self.wanted.set()
        deadline = time.monotonic() + self._grace_s()
        while time.monotonic() < deadline:
            self._gate.request_present()
            time.sleep(_AGAIN_S)
        self._gate.go()


def _hear_nothing() -> None:
    signal.set_wakeup_fd(-1)
