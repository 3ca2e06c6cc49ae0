"""The identity of a process, which distinguishes it from every other that had or will have its pid."""

from __future__ import annotations

import errno
import os
import signal
from functools import cache
from typing import Final, NamedTuple
from zlib import crc32

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.usage import GONE, LINUX

KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)
"""The signal that no process can refuse; on Windows that is SIGTERM."""

SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Descriptors or memory are short: that says nothing about the process, and may pass in a moment."""

JOB_VARIABLE: Final = "PYTHON_MCP_JOB_ID"
WORKER_VARIABLE: Final = "PYTHON_MCP_LANE_ID"
"""A worker has it from its first instant on: a process that a body forks, and that starts no other program,
shows the variables that the worker was started with, and no job's."""

_STAT_BYTES: Final = 4096
"""More than any /proc/<pid>/stat has: 52 numbers and a name of 64 characters at most."""


class Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that are used here."""

    parent: int
    session: int
    start_ticks: int
    alive: bool
    group: int = 0


UNREADABLE: Final = Stat(parent=0, session=0, start_ticks=0, alive=False)
"""Stands for a process that we may not read, which is none of ours, because we may read all that we start.
Also for a thread of the kernel, which has no environment and would be asked for it again at each look."""
_KERNEL_THREAD: Final = 0x0020_0000
"""PF_KTHREAD, among the flags in /proc/<pid>/stat."""


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL; nothing for a real-time one, which has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    if LINUX:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    from python_mcp_server.processes import portable

    return portable.boot_time()


@cache
def machine() -> str:
    """Return a name of this machine that stays over a boot: its host name, and a digest of the id that its
    system has, which is not to be told to others.
    """
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    try:
        with open("/etc/machine-id", "rb") as file:
            return f"{host}.{crc32(file.read().strip()):08x}"
    except OSError:  # many containers have none, nor do other systems
        return host


@cache
def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid") if LINUX else ""


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process; None if it does not exist, or is a zombie."""
    if LINUX:
        stat = read_stat(pid)
        ticks = stat.start_ticks if stat and stat.alive else None
    else:
        from python_mcp_server.processes import portable

        ticks = portable.start_ticks(pid)
    return None if ticks is None else identity_of(pid, ticks)


def identity_of(pid: int, start_ticks: int) -> ProcessIdentity:
    """Return the identity of a process of this machine, boot and PID namespace."""
    return ProcessIdentity(pid, start_ticks, boot_id(), _pid_namespace(), machine=machine())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs. One of another boot or namespace counts as not running."""
    return identify(identity.pid) == identity


def is_out_of_reach(identity: ProcessIdentity) -> bool:
    """Whether the process is in another PID namespace, or on another machine, so that it cannot be looked at
    here.
    """
    if identity.boot_id == boot_id():
        return identity.pid_namespace != _pid_namespace()
    return identity.machine not in ("", machine())


def is_gone(identity: ProcessIdentity) -> bool:
    """Whether this process has surely ended."""
    return not is_out_of_reach(identity) and not is_alive(identity)


def read_stat(pid: int) -> Stat | None:
    """Read /proc/<pid>/stat, on Linux; None if the process does not exist.

    A process whose first thread has ended shows as a zombie, but lives while it has other threads.

    Raises:
        OSError: One of `SHORTAGES`: nothing is known about the process.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return UNREADABLE
    try:
        # The name stands in parentheses and may itself hold blanks and parentheses.
        facts = os.read(descriptor, _STAT_BYTES).rpartition(b")")[2].split()
    except ProcessLookupError:
        return None
    except PermissionError:
        return UNREADABLE
    finally:
        os.close(descriptor)
    if int(facts[6]) & _KERNEL_THREAD:
        return UNREADABLE
    alive = facts[0] not in b"ZXx" or int(facts[17]) > 1
    return Stat(int(facts[1]), int(facts[3]), int(facts[19]), alive, int(facts[2]))


def leads_threads(pid: int) -> bool:
    """Whether this number is that of a process and not of a thread: /proc has an entry for both, but lists
    processes only. Linux only.

    Raises:
        OSError: One of `SHORTAGES`.
    """
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            return f"\nTgid:\t{pid}\n".encode() in (file.read() or b"")
    except GONE:
        return False


def send_signal(identity: ProcessIdentity, number: int) -> bool:
    """Signal a process if it still has this identity: its pidfd is opened before the check.

    Returns:
        Whether it was signalled.

    Raises:
        PermissionError: It belongs to another user.
    """
    try:
        if hasattr(os, "pidfd_open"):
            return _send_through_pidfd(identity, number)
        if is_alive(identity):
            os.kill(identity.pid, number)
            return True
    except ProcessLookupError:
        return False
    return False


def _send_through_pidfd(identity: ProcessIdentity, number: int) -> bool:
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # of older and newer kernels
            return False  # a thread: it ends with its process
        raise
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(pidfd, number)
        return True
    finally:
        os.close(pidfd)
