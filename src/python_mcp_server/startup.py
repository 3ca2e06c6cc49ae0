"""Notices the start of an author's own server, so that queued jobs of dead servers begin then.

A tool author writes `mcp.run()`, and neither the official SDK nor FastMCP tells a tool that its server has
started: a decorated function learns of it with its first call, which may be hours away. So where the home
holds schedules or jobs that have not ended, and where a function is scheduled, the first decoration starts a
thread that waits until an event loop runs, and opens the manager on that loop, as the first call would do.
Otherwise the decoration starts nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import cache
from types import FrameType
from typing import Any, Final

from python_mcp_server.errors import PythonMcpError
from python_mcp_server.functions import default_manager
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import has_live_jobs

_log: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.2
_LASTS_S: Final = 2.0
"""A loop that runs for this long after the manager was opened is the server's; a loop that prepares something
before `mcp.run()` has ended by then, and the thread waits for the next loop.
"""

_OPEN_S: Final = 30.0
_MODULES: Final = ("asyncio.base_events", "asyncio.runners")


@cache
def take_over_at_start() -> None:
    """Wait for the server's start in a thread, once in a process, where a job or a schedule may wait."""
    try:
        if _holds_work(Settings.from_environ()):
            start_with_server()
    except (PythonMcpError, OSError, RuntimeError) as error:  # the first call reports it, or succeeds
        _log.debug("queued jobs of dead servers wait for the first call: %s", error)


@cache
def start_with_server() -> None:
    """Open the default manager when the server starts, which a thread waits for, once in a process."""
    threading.Thread(target=_wait_for_server, name="server start", daemon=True).start()


def _holds_work(settings: Settings) -> bool:
    return has_live_jobs(settings) or _holds_files(os.path.join(settings.home, "schedules"))


def _holds_files(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _wait_for_server() -> None:
    while True:
        time.sleep(_POLL_S)
        loop = next(_running_loops(), None)
        if loop is not None and _open_on(loop):
            time.sleep(_LASTS_S)
            if loop.is_running():
                return


def _open_on(loop: asyncio.AbstractEventLoop) -> bool:
    """Open the default manager on this loop; False where the loop ended before."""
    opening = default_manager().start()
    try:
        opened = asyncio.run_coroutine_threadsafe(opening, loop)
    except RuntimeError:
        opening.close()
        return False
    try:
        opened.result(_OPEN_S)
    except (PythonMcpError, OSError, RuntimeError, TimeoutError, CancelledError) as error:
        _log.debug("the manager was not opened at the start of the server: %r", error)  # a call reports it
        return not opened.cancelled()
    return True


def _running_loops() -> Iterator[asyncio.AbstractEventLoop]:
    """Yield the event loops that run in any thread, found by the frames of asyncio that run them."""
    for frame in sys._current_frames().values():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  documented
        for owner in _owners(frame):
            loop = owner.get_loop() if isinstance(owner, asyncio.Runner) else owner
            if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_running():
                yield loop


def _owners(frame: FrameType | None) -> Iterator[Any]:
    while frame is not None:
        if frame.f_globals.get("__name__") in _MODULES:
            yield frame.f_locals.get("self")
        frame = frame.f_back
