"""The wait for the end of a child: in the kernel, so that a signal handler that raises in the main thread
(a cancel) ends it at once. Now and then it is left for a look at the child's limits and its orphans.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from python_mcp_server.limits import Breach
from python_mcp_server.processes.identity import SHORTAGES
from python_mcp_server.runner import leftovers
from python_mcp_server.runner.guard import Guard

_log: Final = logging.getLogger(__name__)
_UNKNOWN_EXIT: Final = 255
"""Of a child that was reaped by somebody else, or by ourselves in the instant of a cancel."""
_POLL_MAX_S: Final = 86_400.0
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the kernel says of a child that has ended; see `runner.child.Ending`."""

    exit_code: int
    cpu_s: float = 0.0
    max_rss_bytes: int = 0


def await_end(
    process: subprocess.Popen[bytes],
    deadline: float | None,
    guard: Guard | None = None,
    orphans: leftovers.Orphans | None = None,
) -> Reaped | Breach | None:
    """Wait for the end of a child.

    Args:
        process: The child.
        deadline: How long to wait, on the monotonic clock; None for as long as it takes.
        guard: Looks after its limits.
        orphans: What it leaves to this process meanwhile.

    Returns:
        What it was; None where the deadline came first, the breach where a limit was met.
    """
    if not hasattr(os, "pidfd_open"):
        return _await_by_looking(process, deadline, guard, orphans)
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return reap(process)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(1000 * min(_left(deadline), _pause_s(guard, orphans))):
            if _left(deadline) <= 0:
                return None
            if (breach := _attend(guard, orphans)) is not None:
                _halt(process)
                return breach
    finally:
        os.close(pidfd)
    return reap(process)


def _await_by_looking(
    process: subprocess.Popen[bytes],
    deadline: float | None,
    guard: Guard | None,
    orphans: leftovers.Orphans | None,
) -> Reaped | Breach | None:
    pause_s = 0.001
    look_at = time.monotonic()
    while (reaped := reap(process, getattr(os, "WNOHANG", 1))) is None and _left(deadline) > 0:
        if time.monotonic() >= look_at:
            if (breach := _attend(guard, orphans)) is not None:
                _halt(process)
                return breach
            look_at = time.monotonic() + _pause_s(guard, orphans)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
    return reaped


def _attend(guard: Guard | None, orphans: leftovers.Orphans | None) -> Breach | None:
    """Do what is to be done now and then while a child runs; return the limit that it has gone over."""
    try:
        if orphans is not None:
            orphans.reap()
        return None if guard is None else guard.look()
    except OSError as error:
        if error.errno not in SHORTAGES:
            raise
        _log.debug("a child could not be looked at now: %s", error)
        return None  # that is no fault of the child, and may be over the next time


def _pause_s(guard: Guard | None, orphans: leftovers.Orphans | None) -> float:
    if guard is not None:
        return guard.pause_s
    return _POLL_MAX_S if orphans is None else leftovers.REAP_EVERY_S


def _halt(process: subprocess.Popen[bytes]) -> None:
    """Stop the child's group: finding the rest of the tree takes longer than filling the memory."""
    stop: int | None = getattr(signal, "SIGSTOP", None)
    if stop is not None:
        with suppress(ProcessLookupError, PermissionError):  # it ended this instant
            os.killpg(process.pid, stop)  # not reaped yet, so the group is still this child's


def _left(deadline: float | None) -> float:
    return _POLL_MAX_S if deadline is None else max(0.0, deadline - time.monotonic())


def reap(process: subprocess.Popen[bytes], options: int = 0) -> Reaped | None:
    """Take the exit status and the kernel's accounting; None where the child still runs."""
    if not hasattr(os, "wait4"):
        code = process.poll() if options else process.wait()
        return None if code is None else Reaped(code)
    try:
        pid, status, usage = os.wait4(process.pid, options)
    except ChildProcessError:
        return Reaped(_UNKNOWN_EXIT)
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen never waits for a pid of others
    return Reaped(process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT)
