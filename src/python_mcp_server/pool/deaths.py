"""How a worker ended, in words and numbers, and whether it had begun what it was given."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from python_mcp_server.model import Failure
from python_mcp_server.processes import signal_name

if TYPE_CHECKING:
    from python_mcp_server.pool.process import WorkerProcess

NEVER_STARTED: Final = "never_started"
"""The kind of failure of a call that no worker has read: it may be sent to another."""

_REAP_WAIT_S: Final = 1.0
_UNBEGUN: Final = "unbegun"
_log: Final = logging.getLogger(__name__)


def exit_code_of(pidfd: int, executor: WorkerProcess | None) -> int | None:
    """Return the exit code, negative for a signal, without reaping: loky waits for its own children."""
    if pidfd >= 0:
        try:
            status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            status = None  # loky was quicker
        if status is not None:
            return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
    return executor.exit_code(_REAP_WAIT_S) if executor else None


def death(exit_code: int | None, *, never_started: bool = False) -> Failure:
    """Return the failure of a call whose worker ended like this."""
    if exit_code is None:
        how = "ended without a word"
    elif exit_code < 0:
        name = signal_name(-exit_code)
        how = f"was ended by signal {-exit_code}{f' ({name})' if name else ''}"
    else:
        how = f"exited with code {exit_code}"
    return Failure(
        "python_mcp_server.errors.WorkerDied",
        f"the worker process {how} before the body returned",
        kind=NEVER_STARTED if never_started else "worker_died",
        exit_code=exit_code,
    )


def mark_unbegun(folder: Path) -> None:
    """Note in a job's folder that no worker has begun it, before its record names one.

    Raises:
        OSError: The note cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / _UNBEGUN).touch(mode=0o600)


def mark_begun(folder: str) -> None:
    """Remove that note; for the worker, before it does anything of the body."""
    try:
        os.unlink(f"{folder}/{_UNBEGUN}")
    except FileNotFoundError:
        return  # the home was removed
    except OSError as error:
        _log.warning("the note that a job has not begun cannot be removed: %s", error)


def is_unbegun(folder: Path) -> bool:
    """Whether the note is there: once the worker is dead, nobody will begin the job any more."""
    return (folder / _UNBEGUN).exists()
