"""What the kernel says that a session weighs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CAP_SYS_ADMIN: Final = 1 << 21
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


def changes_are_rationed() -> bool:
    """Whether the kernel takes ten changes a second at most from this account, so that it may refuse one."""
    file = Path("/proc/self/status")
    if not (file.exists() and weighed(1)):
        return False
    line = next(line for line in file.read_text().splitlines() if line.startswith("CapEff:"))
    return not int(line.split()[1], 16) & _CAP_SYS_ADMIN
