"""What the kernel says that a session weighs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

STEP: Final = 5
"""How much less a worker's session weighs than the server's."""


def session_nice(pid: int | str = "self") -> int:
    """Return the niceness of the session that a process is in, or its own where it is in none, as what init
    has started; 0 where sessions have none."""
    file = Path(f"/proc/{pid}/autogroup")
    if not file.exists():
        return 0
    words = file.read_bytes().split()
    return int(words[-1]) if words else os.getpriority(os.PRIO_PROCESS, 0 if pid == "self" else int(pid))


def weighed(nice: int) -> int:
    """Return the niceness that a session then has on this kernel."""
    return nice if Path("/proc/self/autogroup").exists() else 0
