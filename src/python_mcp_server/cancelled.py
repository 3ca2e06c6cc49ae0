"""`JobCancelled`, in a module of its own: its base class lives in asyncio, which costs a worker
40 ms and 5 MB, and most workers never need it. Any module may import this one.
"""

from __future__ import annotations

from asyncio import CancelledError


class JobCancelled(CancelledError):
    """Raised inside a body whose job was cancelled, and in code that awaits such a job.

    A body may catch it to clean up; it has the grace time (2 s unless set) before the kill.
    """
