"""The table of processes: who there is, and what it says of one. /proc on Linux, psutil elsewhere."""

from __future__ import annotations

import os

import psutil

from python_mcp_server.processes.identity import LINUX, SHORTAGES, Stat, read_stat


def all_pids() -> list[int]:
    """Return the pid of each process."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if LINUX else psutil.pids()


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
    return read_stat(pid) if LINUX else _psutil_stat(pid)


def _psutil_stat(pid: int) -> Stat | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            alive = process.status() != psutil.STATUS_ZOMBIE
            return Stat(process.ppid(), _session(pid), int(process.create_time() * 100), alive, _group(pid))
    except (psutil.Error, OSError):
        return None


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if hasattr(os, "getpgid") else 0
    except OSError:
        return 0


def _session(pid: int) -> int:
    getsid = getattr(os, "getsid", None)
    return getsid(pid) if getsid else 0


def environment_of(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where it is gone, or not ours to look at."""
    try:
        if not LINUX:
            return [f"{name}={value}".encode() for name, value in psutil.Process(pid).environ().items()]
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return (file.read() or b"").split(b"\0")[:-1]
    except (psutil.Error, OSError) as error:
        if getattr(error, "errno", None) in SHORTAGES:
            raise  # whoever is not looked at would outlive its tree
        return []
