"""What a session that we start weighs beside all others of the machine.

Linux may share its cores out among sessions first, and among the processes of each one next (autogroups, as
on most desktops). Then a worker, which has a session of its own, would weigh as much as the server with all
its threads, and a niceness would count for nothing in it. So a session has a niceness too: a worker's is
lower than the server's, and what the runner starts has the worker's.
https://man7.org/linux/man-pages/man7/sched.7.html

The kernel takes such a change from most accounts ten times a second only, all together. So what is wanted
stands in the environment of a worker, and may differ from what is for a while. Nothing here ever raises:
it is no reason for a call to fail.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import LINUX, SHORTAGES, identify, is_alive

_log: Final = logging.getLogger(__name__)
_SERVER_VARIABLE: Final = "PYTHON_MCP_SERVER_NICE"
_SESSION_VARIABLE: Final = "PYTHON_MCP_SESSION_NICE"
_STEP: Final = 5
"""How much less a worker's session weighs: a third. Measured: beside four computing bodies the server's
longest waits for a core went from 50 to 15 ms; twice as much gained little."""
_MOST, _LEAST = -20, 19
_TURN_S: Final = 0.1
"""Between two changes on the whole machine, for accounts without CAP_SYS_ADMIN."""


# ---- for the server


def worker_variables() -> dict[str, str]:
    """Return what a worker is to have in its environment from its first instant on."""
    return {_SERVER_VARIABLE: str(_own_nice()), _SESSION_VARIABLE: str(_lowered())}


def _lowered() -> int:
    return min(_own_nice() + _STEP, _LEAST)


def _own_nice() -> int:
    """What we weigh beside the sessions: what our own does, or what our process does where it is in none, as
    what init has started."""
    nice = _session_nice()
    return os.getpriority(os.PRIO_PROCESS, 0) if nice is None else nice


# ---- for a worker


def keep_priority() -> None:
    """Let our session weigh what it is to."""
    _settle(os.getpid(), _wanted)


def change_priority(nice: int) -> None:
    """Let our session weigh what this niceness of a process says, beside the server's."""
    os.environ[_SESSION_VARIABLE] = str(_as_session(nice))
    keep_priority()


def hand_on_priority(leader: int, nice: int | None = None) -> None:
    """Let a session that was just started weigh what ours does: niceness passes on to a child, and that of
    a session does not.

    Args:
        leader: The process that leads it.
        nice: The niceness of a process; where given, it counts beside the server's.
    """
    wanted = _wanted() if nice is None else _as_session(nice)
    _settle(leader, lambda: wanted)


def _wanted() -> int:
    return _noted(_SESSION_VARIABLE)


def _as_session(nice: int) -> int:
    """What a session is to weigh for a process of this niceness to weigh as much as it would beside the
    server, were there no sessions."""
    if not hasattr(os, "getpriority"):
        return 0
    return max(_MOST, min(_noted(_SERVER_VARIABLE) + nice - os.getpriority(os.PRIO_PROCESS, 0), _LEAST))


def _noted(variable: str) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):  # this is no worker, or a body has had its way with it
        return _own_nice()


# ---- the kernel's


def _session_nice(pid: int | str = "self") -> int | None:
    """Of the session that a process is in; None where it is in none, and 0 where they have no niceness."""
    if not LINUX:
        return 0
    try:
        with open(f"/proc/{pid}/autogroup", "rb") as file:
            words = file.read().split()
        return int(words[-1]) if words else None
    except (OSError, ValueError):  # a kernel without, or nobody is there
        return 0


def _settle(leader: int, wanted: Callable[[], int]) -> None:
    if _is_settled(leader, wanted()):
        return
    try:
        if (identity := identify(leader)) is not None:
            threading.Thread(
                target=_keep_trying, args=(identity, wanted), name="session nice", daemon=True
            ).start()
    except (OSError, RuntimeError) as error:  # short of anything, or the interpreter ends
        _log.debug("the session of %s keeps its priority: %s", leader, error)


def _keep_trying(leader: ProcessIdentity, wanted: Callable[[], int]) -> None:
    """Try again, out of step with all the others who do, until it is done or the leader is gone."""
    while _is_there(leader) and not _is_settled(leader.pid, wanted()):
        time.sleep(_TURN_S * (1 + os.urandom(1)[0] / 256))


def _is_there(leader: ProcessIdentity) -> bool:
    try:
        return is_alive(leader)
    except OSError:
        return True  # there were no descriptors to see it with


def _is_settled(leader: int, nice: int) -> bool:
    """Try once, where there is anything to do; False where it is worth another try."""
    if not LINUX or _session_nice(leader) == nice:
        return True
    try:
        if os.getsid(leader) != leader:
            return True  # it is the session of somebody else, perhaps the user's own
        file = os.open(f"/proc/{leader}/autogroup", os.O_WRONLY)
        try:
            os.write(file, b"%d" % nice)  # a file of Python's would take EAGAIN for nothing written
        finally:
            os.close(file)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in SHORTAGES:
            return False
        _log.debug("the session of %s keeps its priority: %s", leader, error)  # or it is gone
    return True
