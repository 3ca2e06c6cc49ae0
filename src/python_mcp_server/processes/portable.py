"""Processes through psutil, where there is no /proc, and where `os` lacks a function.

This module is not imported on Linux, where loading psutil would take a fifth of the start of a batch's slot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final

import psutil

_IDLE_NICE: Final = 10
"""From this niceness on, Windows runs a process only when no other wants the core; guessed."""


def boot_time() -> str:
    """Return when the machine started, in seconds since the epoch."""
    return f"{psutil.boot_time():.0f}"


def all_pids() -> list[int]:
    """Return the pid of each process."""
    return psutil.pids()


def start_ticks(pid: int) -> int | None:
    """Return the start of a process, in hundredths of a second; None if it does not live."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.Error:
        return None


def stat(pid: int) -> tuple[int, int, int, bool, int] | None:
    """Return parent, session, start, whether it lives, and group; None if the process does not exist."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            alive = process.status() != psutil.STATUS_ZOMBIE
            return process.ppid(), _session(pid), int(process.create_time() * 100), alive, _group(pid)
    except (psutil.Error, OSError):
        return None


def environment_of(pid: int) -> list[bytes]:
    """Return `NAME=value` of each variable; nothing where the process is gone or another user's.

    Raises:
        OSError: The system refuses for a reason of its own.
    """
    try:
        return [f"{name}={value}".encode() for name, value in psutil.Process(pid).environ().items()]
    except psutil.Error:
        return []


def family(roots: Iterable[int]) -> list[int]:
    """Return the living ones of these processes, each followed by all that are below it."""
    found: dict[int, None] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            found.update(dict.fromkeys([pid, *(child.pid for child in root.children(recursive=True))]))
        except psutil.Error:
            continue
    return list(found)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 where it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a process, and of the children that it has waited for; 0 where it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0, 0.0
    return times.user + times.system, times.children_user + times.children_system


def usable_cpus() -> list[int] | None:
    """Return the numbers of the cores this process may run on; None where the system binds none."""
    return sorted(psutil.Process().cpu_affinity() or ()) if psutil.WINDOWS else None


def bind(pid: int, cpus: Sequence[int]) -> None:
    """Bind a process, 0 for this one, to these cores.

    Raises:
        ProcessLookupError: The process is gone.
        PermissionError: This account may not do that.
    """
    with _errors_of_os():
        psutil.Process(pid or None).cpu_affinity(list(cpus))


def set_class(pid: int, nice: int) -> None:
    """Give a process, 0 for this one, the priority class of Windows that comes nearest to a niceness.

    Raises:
        ProcessLookupError: The process is gone.
        PermissionError: This account may not do that.
    """
    with _errors_of_os():
        psutil.Process(pid or None).nice(_class(nice))


def _class(nice: int) -> int:
    if sys.platform != "win32":
        return nice
    if nice < 0:
        return psutil.ABOVE_NORMAL_PRIORITY_CLASS
    if nice == 0:
        return psutil.NORMAL_PRIORITY_CLASS
    return psutil.BELOW_NORMAL_PRIORITY_CLASS if nice < _IDLE_NICE else psutil.IDLE_PRIORITY_CLASS


@contextmanager
def _errors_of_os() -> Generator[None]:
    try:
        yield
    except psutil.NoSuchProcess as error:  # a zombie is one, too
        raise ProcessLookupError(str(error)) from error
    except psutil.AccessDenied as error:
        raise PermissionError(str(error)) from error


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if hasattr(os, "getpgid") else 0
    except OSError:
        return 0


def _session(pid: int) -> int:
    getsid = getattr(os, "getsid", None)
    return getsid(pid) if getsid else 0
