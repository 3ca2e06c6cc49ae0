"""Names of the semaphores that connect a program with its workers, and the removal of those that were left.

A name outlives its processes. The resource tracker removes it when the program is killed, and SIGKILL of the
whole process group ends the tracker too. So a name says which process made it: the next program that starts
workers, and `doctor`, remove the names of processes that are gone.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Final

from python_mcp_server import processes
from python_mcp_server.model import ProcessIdentity

_log: Final = logging.getLogger(__name__)
_FOLDER: Final = "/dev/shm"  # noqa: S108  where Linux keeps semaphores; nothing is written there
_FILE: Final = re.compile(
    r"sem\.(?P<name>python-mcp-(?P<pid>\d+)-(?P<ticks>\d+)-(?P<namespace>\d+)-[0-9a-f]+)"
)
_NAMESPACE: Final = re.compile(r"pid:\[(\d+)\]")


def prefix(maker: ProcessIdentity | None) -> str | None:
    """Return how the names of this process begin; None where a name cannot say it, as loky's own do not.

    Elsewhere than on Linux a name has 30 characters at most, and nothing lists those that are left.
    """
    known = maker and _NAMESPACE.fullmatch(maker.pid_namespace or "")
    if maker is None or not known or not processes.LINUX:
        return None
    return f"/python-mcp-{maker.pid}-{maker.start_ticks}-{known[1]}"


def sweep() -> int:
    """Remove the semaphores of processes that are gone, and return how many there were. Blocks.

    Those of another PID namespace stay: nobody here can tell whether their process lives.
    """
    if not processes.LINUX or not os.path.isdir(_FOLDER):
        return 0
    from _multiprocessing import sem_unlink  # pyright: ignore[reportUnknownVariableType]

    removed = 0
    for file in os.listdir(_FOLDER):
        found = _FILE.fullmatch(file)
        if found is None or not processes.is_gone(_maker(found)):
            continue
        try:
            sem_unlink("/" + found["name"])
            removed += 1
        except OSError as error:  # another process was quicker, or it belongs to another user
            _log.debug("semaphore %s stays: %s", file, error)
    return removed


def _maker(found: re.Match[str]) -> ProcessIdentity:
    pid, ticks = int(found["pid"]), int(found["ticks"])
    return ProcessIdentity(pid, ticks, processes.boot_id(), f"pid:[{found['namespace']}]")
