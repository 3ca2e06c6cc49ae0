"""The resource trackers of multiprocessing and loky, as a worker has to do with them.

A tracker is a process that removes the names of semaphores and shared memory once everybody is gone
who holds its pipe, and then ends by itself.
"""

# pyright: reportPrivateUsage=false
# (neither library has a public name for any of it)

from __future__ import annotations

import os
from typing import Any

from python_mcp_server.pool.protocol import WINDOWS


def leave_trackers() -> None:
    """Let go of the server's: they live as long as anyone holds their pipe, with the stdout and stderr
    of the server, so a client would wait for their end until the last kept job is done."""
    for tracker in _trackers():
        if tracker._fd is not None:
            os.close(tracker._fd)
            tracker._fd = tracker._pid = None


def tracker_pids() -> set[int]:
    """Return those that bodies of this process have started."""
    return {tracker._pid for tracker in _trackers() if tracker._pid is not None}


def _trackers() -> list[Any]:
    if WINDOWS:
        return []
    from multiprocessing import resource_tracker

    from loky.backend import resource_tracker as loky_tracker  # pyright: ignore[reportMissingTypeStubs]

    return [resource_tracker._resource_tracker, loky_tracker._resource_tracker]


def forget_trackers() -> None:
    """In a child that the program has forked: a thread of the parent may hold the lock of multiprocessing's
    tracker, because a worker was being started. loky frees its own."""
    for tracker in _trackers():
        tracker._lock._at_fork_reinit()
