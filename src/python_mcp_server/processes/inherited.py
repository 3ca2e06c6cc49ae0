"""Repairs the state that a server or a worker inherits from the program that started it.

A shell that ignores SIGCHLD takes every exit code away, `nohup` and `&` leave signals ignored, a launcher may
close the standard descriptors, mask the owner's own permissions, or start us in a directory that is gone.
A server and a worker repair these at their start, and what a worker starts inherits the repaired state. A
program that only uses the library keeps what it has.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Container, Iterable
from typing import Any, Final

from python_mcp_server.processes.identity import signal_name

_OWNER: Final = 0o700
_PR_SET_CHILD_SUBREAPER: Final = 36
_MOST_FILES: Final = 65_536
_MOST_FILES_OF_MACOS: Final = 10_240
_FORMER_FILES: Final = "_PYTHON_MCP_FORMER_OPEN_FILES"
_LEFT_TO_SERVER: Final = frozenset({"SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU"})
"""A person starts a server with these ignored on purpose, by `nohup` or `&`."""

_LEFT_IGNORED: Final = frozenset({"SIGPIPE", "SIGXFSZ", "SIGXFZ"})
"""Python ignores these itself, and gives them back to what it starts."""


def repair_inherited_state() -> None:
    """Repair all that a server has inherited."""
    open_standard_descriptors()
    if threading.current_thread() is threading.main_thread():  # signals are set there only
        reset_signals(keep=_LEFT_TO_SERVER)
    allow_owner()
    enter_some_directory()


def open_standard_descriptors() -> None:
    """Open fd 0 to 2 on the null device where they are closed.

    A pipe that gets one of these numbers would be lost in a worker, which points them at its logs.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def reset_signals(discard: Iterable[int] = (), keep: Container[str] = ()) -> None:
    """Give every signal its default action, and unblock all.

    Args:
        discard: Signals that may be pending since they were blocked, and were not meant for this process.
        keep: Names of those that stay ignored where they are.
    """
    for number in discard:
        signal.signal(number, signal.SIG_IGN)  # the kernel drops what is pending
    for number in signal.valid_signals():
        left = signal_name(number) in _LEFT_IGNORED or signal_name(number) in keep
        if signal.getsignal(number) is signal.SIG_IGN and not left:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def allow_owner() -> None:
    """Clear the owner's bits of the umask, which would lock us out of our own files."""
    if os.name == "posix":
        mask = os.umask(0o077)
        os.umask(mask & ~_OWNER)


def enter_some_directory() -> None:
    """Change to the root where the working directory is gone."""
    try:
        os.getcwd()
    except OSError:
        os.chdir(os.sep)


def open_files() -> int | None:
    """Return how many files this process may open; None where the system sets no such limit."""
    try:
        import resource
    except ImportError:
        return None  # Windows
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def raise_open_files() -> None:
    """Raise the limit of open files to the hard limit, at most 65,536.

    Its workers get back what it had, because a program that uses select() breaks at files beyond 1,024.
    """
    try:
        import resource
    except ImportError:
        return  # Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    for figure in (wanted, min(wanted, _MOST_FILES_OF_MACOS)):
        if soft == resource.RLIM_INFINITY or figure <= soft:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (figure, hard))
        except (ValueError, OSError):
            continue  # more than the kernel allows, whatever it calls the hard limit
        os.environ[_FORMER_FILES] = str(soft)
        return


def restore_open_files() -> None:
    """Give this process, a worker, the limit of files that its server had before it was raised."""
    former = os.environ.pop(_FORMER_FILES, None)
    if former is not None and former.isdecimal():
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = int(former)
        if hard == resource.RLIM_INFINITY or soft <= hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def become_subreaper() -> Any:
    """Let orphans below this process stay below it, so that a kill finds them, and this process reaps them.

    Returns:
        The C library; None elsewhere than on Linux, where nothing is done.
    """
    if sys.platform != "linux":
        return None
    import ctypes  # costs a process that needs no more of it 5 ms

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    return libc
