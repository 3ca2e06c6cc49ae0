"""The table of processes: who there is, and what it says of one. /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import os

from python_mcp_server.processes.identity import LINUX, SHORTAGES, Stat, read_stat


def all_pids() -> list[int]:
    """Return the pid of each process."""
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    from python_mcp_server.processes import elsewhere

    return elsewhere.all_pids()


def newest_pid() -> int | None:
    """Return the last pid that was given in our namespace, where the system tells it."""
    if not LINUX:
        return None
    try:
        with open("/proc/loadavg", "rb", buffering=0) as file:
            return int((file.read() or b"0").split()[-1]) or None
    except (OSError, ValueError):
        return None


def stat_of(pid: int) -> Stat | None:
    """Return what the table says of one process; None where there is none.

    Raises:
        OSError: Of `SHORTAGES`, on Linux: nothing is known about it.
    """
    if LINUX:
        return read_stat(pid)
    from python_mcp_server.processes import elsewhere

    found = elsewhere.stat(pid)
    return None if found is None else Stat(*found)


def environment_of(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where it is gone, or not ours to look at.

    Raises:
        OSError: Of `SHORTAGES`.
    """
    try:
        if LINUX:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                return (file.read() or b"").split(b"\0")[:-1]
        from python_mcp_server.processes import elsewhere

        return elsewhere.environment_of(pid)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise  # whoever is not looked at would outlive its tree
        return []
