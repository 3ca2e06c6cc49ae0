"""What a program may be short of when it starts a worker: open streams, a working directory, silence.

loky flushes `sys.stdout`, asks for the working directory, and lets a ^C of the terminal end the new
process with a traceback. This module and `executor` are the only ones that touch its private parts.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# (loky has no types)

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import StringIO
from typing import Any, Final

from loky.backend import spawn

_MASKS: Final = hasattr(signal, "pthread_sigmask")


@contextmanager
def fit_to_spawn() -> Generator[None]:
    """Start a process in this block, whatever state this program is in. Not for two threads at once."""
    with _flushing("stdout"), _flushing("stderr"), _interrupts_held():
        yield


def open_standard_descriptors() -> None:
    """Let fd 0 to 2 lead to the null device where they are closed: a wire that got one of these numbers
    would be lost in the worker, which points them at its logs."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


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


@contextmanager
def _interrupts_held() -> Generator[None]:
    """Let what is started here inherit a blocked SIGINT; `hear_interrupts` undoes it there."""
    if not _MASKS:
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def hear_interrupts() -> None:
    """In a new worker, which is out of reach of the terminal by now: forget what came meanwhile."""
    if not _MASKS:
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, handler)


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
