"""One worker process as a loky executor of its own. The only module that touches private parts of
loky and of multiprocessing.

loky breaks a whole executor when one of its workers dies, and cannot cancel what runs. With one
worker to an executor a death or a kill touches nobody else. loky makes exactly one call here, the
worker's `serve`; everything else goes through the channel.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false, reportAttributeAccessIssue=false
# (loky has no types, and this is the place for what is private)

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import process as mp_process
from multiprocessing import util
from pathlib import Path
from typing import Any, Final

import loky
from loky.backend import resource_tracker
from loky.backend.context import LokyContext

from python_mcp_server.pool import worker
from python_mcp_server.pool.channel import close_ends, open_channel

_log: Final = logging.getLogger(__name__)
_REAP_POLL_S: Final = 0.002


class _Context(LokyContext):
    """loky's context, which remembers the semaphores it made, so that their names can go early."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def Lock(self) -> Any:  # noqa: N802  multiprocessing's name
        return self._remember(super().Lock())

    def Semaphore(self, value: int = 1) -> Any:  # noqa: N802
        return self._remember(super().Semaphore(value))

    def BoundedSemaphore(self, value: int = 1) -> Any:  # noqa: N802
        return self._remember(super().BoundedSemaphore(value))

    def _remember(self, lock: Any) -> Any:
        self.names.append(lock._semlock.name)
        return lock


class LaneExecutor:
    """A one-worker loky executor, and what loky does not offer: to forget names and processes."""

    def __init__(self, log_folder: Path) -> None:
        self._context = _Context()
        self.front, worker_ends = open_channel(self._context)
        wiring = worker.Wiring(worker_ends, str(log_folder), os.getpid())
        self._loky = loky.ProcessPoolExecutor(
            1, context=self._context, initializer=worker.start, initargs=(wiring,)
        )
        try:
            self._loky.submit(worker.serve).add_done_callback(_consume)
        finally:
            worker_ends.calls.close()
            worker_ends.control.close()
        self._process: Any = next(iter(self._loky._processes.values()))
        self.pid: int = self._process.pid

    def forget_semaphores(self) -> None:
        """Unlink the names once both sides have opened them: then not even SIGKILL of the whole
        group leaves anything behind, and the resource tracker has nothing to complain about."""
        if sys.platform == "win32":
            return
        from _multiprocessing import sem_unlink

        names = set(self._context.names)
        for finalizer in list(util._finalizer_registry.values()):
            if any(isinstance(arg, str) and arg in names for arg in finalizer._args or ()):
                finalizer.cancel()  # it would unregister the name a second time
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sem_unlink(name)
            resource_tracker.unregister(name, "semlock")

    def exit_code(self, wait_s: float) -> int | None:
        """The worker's exit code once loky has reaped it."""
        deadline = time.monotonic() + wait_s
        while self._process.exitcode is None and time.monotonic() < deadline:
            time.sleep(_REAP_POLL_S)
        code: int | None = self._process.exitcode
        return code

    def detach(self) -> None:
        """Make loky and multiprocessing forget the process, so that nobody joins or kills it."""
        mp_process._children.discard(self._process)
        self._loky._processes.clear()
        self._loky.shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Free what belongs to a worker that is gone."""
        self._loky.shutdown(wait=False, kill_workers=True)
        close_ends(self.front)


def _consume(future: Any) -> None:
    """Take note of how `serve` ended: it never returns, so always by the end of its process."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.debug("a worker ended: %s", type(error).__name__)


def before_join_at_exit(hook: Callable[[], object]) -> None:
    """Call `hook` when the interpreter ends, before loky joins its workers: it would wait for every
    kept job. Hooks run last in, first out, so this must come after the first executor's start;
    `atexit` itself comes too late, after the joins."""
    threading._register_atexit(hook)
