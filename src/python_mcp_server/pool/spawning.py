"""How a worker is started: in a session of its own, by a program that may be short of what loky takes for
granted.

loky flushes `sys.stdout`, asks for the working directory, and starts a worker in the session of the program.
This module and `executor` are the only ones that touch its private parts.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false
# (loky has no types)

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, Final

from loky.backend import fork_exec, spawn

from python_mcp_server import processes
from python_mcp_server.pool.cancellation import SIGNAL

_FORK_EXEC: Final[Callable[..., int]] = fork_exec.fork_exec


@contextmanager
def fit_to_spawn() -> Generator[None]:
    """Start a process in this block, whatever state this program is in. Not for two threads at once."""
    with _flushing("stdout"), _flushing("stderr"):
        yield


def open_standard_descriptors() -> None:
    """Let fd 0 to 2 lead to the null device where they are closed: a wire that got one of these numbers
    would be lost in the worker, which points them at its logs."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


@contextmanager
def _flushing(name: str) -> Generator[None]:
    """Put something in the place of a stream that is missing, closed or broken."""
    stream = getattr(sys, name)
    try:
        stream.flush()
    except (AttributeError, ValueError, OSError):
        stand_in = StringIO()
        setattr(sys, name, stand_in)
        try:
            yield
        finally:
            if getattr(sys, name) is stand_in:
                setattr(sys, name, stream)
    else:
        yield


def start_apart(argv: Sequence[str], descriptors: Sequence[int], **how: Any) -> int:
    """Start a process in a session of its own, so that no signal to the server's group reaches it, and
    return its pid. Whoever waits for it does so by that."""
    process = subprocess.Popen(
        argv, pass_fds=descriptors, restore_signals=False, start_new_session=True, **how
    )
    process.returncode = 0  # else `Popen` would wait for it, or complain that it lives
    return process.pid


def _fork_exec(argv: Sequence[str], descriptors: Sequence[int], env: Mapping[str, str] | None = None) -> int:
    """Start a worker of ours apart, and let it weigh less than the server, from its first instant on: to
    load its modules takes 0.2 s of CPU. Anybody else's worker is started as loky does."""
    if env is None or processes.LANE_VARIABLE not in env:
        return _FORK_EXEC(argv, descriptors, env)
    pid = start_apart(argv, [int(each) for each in descriptors], env={**os.environ, **env})
    processes.lower_priority(pid)
    return pid


def hear_signals() -> None:
    """In a new worker: hear a cancel, and SIGINT, also where the thread that started it has them blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, SIGNAL})


class _System:
    """`os`, but for a working directory that was removed: a worker then begins at the root."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def getcwd() -> str:
        try:
            return os.getcwd()
        except FileNotFoundError:
            return os.sep


spawn.os = _System()
fork_exec.fork_exec = _fork_exec
