"""What the kernel says that a session weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STEP: Final = 5
"""How much less a worker's session weighs than the server's."""


def session_nice(pid: int | str = "self") -> int:
    """Return the niceness of the session that a process is in; 0 where sessions have none."""
    file = Path(f"/proc/{pid}/autogroup")
    return int(file.read_bytes().split()[-1]) if file.exists() else 0


def weighed(nice: int) -> int:
    """Return the niceness that a session then has on this kernel."""
    return nice if Path("/proc/self/autogroup").exists() else 0
