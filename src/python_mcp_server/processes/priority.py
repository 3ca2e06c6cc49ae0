"""What a session that we start weighs beside all others of the machine.

Linux may share its cores out among sessions first, and among the processes of each one next (autogroups, as
on most desktops). Then a worker, which has a session of its own, would weigh as much as the server with all
its threads, and a niceness would count for nothing in it. So a session has a niceness too: a worker's is
lower than the server's, and what it starts in sessions of their own has the worker's.
https://man7.org/linux/man-pages/man7/sched.7.html
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import GONE, LINUX, identify, is_alive

_log: Final = logging.getLogger(__name__)
_STEP: Final = 5
"""How much less a worker's session weighs: a third. Measured: beside four computing bodies the server's
longest waits for a core went from 50 to 15 ms; twice as much gained little."""
_LEAST: Final = 19
_TURN_S: Final = 0.1
"""Between two such changes by accounts other than root the kernel wants this, on the whole machine."""


def lower_priority(leader: int) -> None:
    """Let a session that was just started weigh less than ours."""
    nice = min(_session_nice() + _STEP, _LEAST)
    _settle(leader, nice, lambda: _session_nice(leader) < nice)  # a call may have said more by then


def hand_on_priority(leader: int) -> None:
    """Let a session that was just started weigh what ours does: niceness passes on to a child, and that of
    a session does not."""
    if (nice := _session_nice()) != 0:
        _settle(leader, nice)


def set_session_nice(leader: int, nice: int) -> None:
    """Let a session weigh what its niceness says, at once or as soon as the kernel lets us.

    Does nothing where sessions have no niceness, for a process that leads none, and where this account may
    not give so high a priority.

    Args:
        leader: The process that leads the session.
        nice: From -20 to 19.
    """
    _settle(leader, nice)


def _session_nice(pid: int | str = "self") -> int:
    """Of the session that a process is in; 0 where sessions have none."""
    if not LINUX:
        return 0
    try:
        with open(f"/proc/{pid}/autogroup", "rb") as file:
            return int(file.read().rsplit(None, 1)[-1])
    except (OSError, ValueError, IndexError):  # a kernel without, or nobody is there
        return 0


def _settle(leader: int, nice: int, wanted: Callable[[], bool] = lambda: True) -> None:
    if not LINUX or _is_settled(leader, nice) or (identity := identify(leader)) is None:
        return
    threading.Thread(
        target=_keep_trying, args=(identity, nice, wanted), name="session nice", daemon=True
    ).start()


def _keep_trying(leader: ProcessIdentity, nice: int, wanted: Callable[[], bool]) -> None:
    """Try again, out of step with all the others who do, until it is done or the leader is gone."""
    while is_alive(leader) and wanted() and not _is_settled(leader.pid, nice):
        time.sleep(_TURN_S * (1 + os.urandom(1)[0] / 256))


def _is_settled(leader: int, nice: int) -> bool:
    """Try once; False where the kernel asks to be asked again."""
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
    except GONE:
        return True
    except OSError as error:
        _log.debug("the session of %s keeps its priority: %s", leader, error)
    return True
