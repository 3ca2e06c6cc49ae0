"""Progress at its source: coalesced in the worker, so that an inner loop may report at every step."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from python_mcp_server.model import JobProgress

INTERVAL_S: Final = 0.05
"""Between two reports that are sent: 20 a second is more than any reader shows."""

_MESSAGE_LIMIT: Final = 800
"""Characters of a progress message that are sent, so that the pipe takes the frame whole."""


class ProgressGate:
    """Sends at most one report per interval; the latest wins, and `close` sends the last.

    A report that comes too early is held, and a helper thread sends it when the interval is over,
    even if the body then reports nothing more. The thread starts with the first held report.

    Attributes:
        last: The last report of the present body, or of the one that ended last; sent or not.
    """

    def __init__(self, send: Callable[[JobProgress], bool]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self.last: JobProgress | None = None
        self._held: JobProgress | None = None
        self._next_at = 0.0
        self._turn = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> Callable[[JobProgress], None]:
        """Begin a new body; its first report is sent at once.

        Returns:
            The function that takes its reports, and never blocks. After the body has ended, reports of
            threads that it left behind are dropped, because the next body is another job's.
        """
        self._held = self.last = None
        self._next_at = 0.0
        self._turn = turn = self._turn + 1

        def report(progress: JobProgress) -> None:
            if turn == self._turn:
                self._report(progress)

        return report

    def _report(self, progress: JobProgress) -> None:
        self._held = self.last = progress
        if time.monotonic() >= self._next_at:
            self._flush()
        elif not self._wake.is_set():
            self._arm()

    def close(self) -> JobProgress | None:
        """Send the held report; return it where the pipe is full, because it goes before the outcome."""
        self._turn += 1
        self._flush()  # also waits for a report that the helper thread is sending
        unsent, self._held = self._held, None
        return unsent

    def _flush(self) -> None:
        with self._lock:
            progress, self._held = self._held, None
            self._next_at = time.monotonic() + INTERVAL_S
            if progress is not None and not self._send(progress) and self._held is None:
                self._held = progress  # the pipe is full: the next flush tries again

    def _arm(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._flush_late, name="progress", daemon=True)
            self._thread.start()
        self._wake.set()

    def _flush_late(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._held is not None:
                time.sleep(max(0.0, self._next_at - time.monotonic()))
                self._flush()


def bounded(progress: JobProgress) -> JobProgress:
    """Return the progress with a message that is text, and not longer than readers show."""
    if progress.message is None:
        return progress
    try:
        message = str(progress.message)[:_MESSAGE_LIMIT]
    except Exception as broken:  # noqa: BLE001  the body's own code; neither it nor its report may fail for that
        message = f"<its text cannot be made: {type(broken).__name__}>"
    return replace(progress, message=message)


def finite(progress: JobProgress) -> JobProgress | None:
    """Return the progress without a total that is not finite, for JSON; None without a finite current."""
    try:
        if not math.isfinite(progress.current):
            return None
        endless = progress.total is not None and not math.isfinite(progress.total)
    except OverflowError:  # too big for a float, and so for most readers of JSON
        return None
    return replace(progress, total=None) if endless else progress
