"""How the worker asks a job that overrides `get_progress` for its progress, for `kinds`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from python_mcp_server.model import JobProgress
from python_mcp_server.settings import Settings

_log: Final = logging.getLogger(__name__)

_LEAST_PAUSE_S: Final = 0.05
"""Between two calls of `get_progress`; guessed: no screen shows more."""

_LAST_LOOK_S: Final = 1.0
"""How long the end of a job waits for a call of `get_progress` under way; guessed."""


class ProgressAsker:
    """Asks a job for its progress in a thread, because `execute` may block its loop.

    Args:
        name: The name of the job's kind.
        ask: Returns the progress; an author's code.
        report: Called with each new progress.
    """

    def __init__(self, name: str, ask: Callable[[], object], report: Callable[..., object]) -> None:
        self._name = name
        self._ask_author = ask
        self._report = report
        self._last: JobProgress | None = None
        self._has_failed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="get-progress", daemon=True)

    def start(self) -> None:
        """Start to ask. A job whose thread cannot be started runs without."""
        try:
            self._thread.start()
        except RuntimeError as error:
            _log.warning("job %s is not asked for its progress: %s", self._name, error)

    def stop(self, report: Callable[..., object]) -> None:
        """Stop, and ask a last time in this thread, unless a call hangs: that one is left behind."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(_LAST_LOOK_S)
        if not self._thread.is_alive():
            self._report = report
            self._ask_once()

    def _ask(self) -> None:
        pause_s = max(_LEAST_PAUSE_S, Settings.from_environ().sample_seconds)
        while not self._ended.wait(pause_s):
            self._ask_once()

    def _ask_once(self) -> None:
        try:
            progress: Any = self._ask_author()
            if isinstance(progress, JobProgress) and progress != self._last:
                self._last = progress
                self._report(progress.current, progress.total, progress.message)
        except (Exception, SystemExit):  # noqa: BLE001  an author's code; the job goes on
            if not self._has_failed:
                _log.warning("get_progress of job %s failed", self._name, exc_info=True)
            self._has_failed = True
