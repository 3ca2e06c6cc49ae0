"""The standard streams of the program: what a shell closed is opened, and a failed write is told once.

So no command looks whether stdout is closed, full or no longer read. `say` is for all of the command line.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO, cast

if TYPE_CHECKING:
    from io import TextIOWrapper

_PROGRAM: Final = "python-mcp-server"
_OF_A_WRITE: Final = frozenset({errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC})
"""Without the name of a file they come from a stream; where that is stderr, nobody reads the sentence."""


def prepare_streams() -> None:
    """Open what is closed of stdin, stdout and stderr on the null device; let stdout take every character.

    stdout is opened for reading, so that a write fails as it would on the closed descriptor. Without this a
    file of ours would get the number of the descriptor, and what is printed would go there.
    """
    streams = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    for name, mode, flags in streams:
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, flags)  # it gets the lowest number that is free
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
    if sys.stdout.errors == "strict":
        cast("TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Write what the program has to say to stderr, where that can be written.

    It may have several lines, but no character that would steer a terminal.
    """
    with suppress(OSError):  # there is no other place to tell it
        harmless = (char if char.isprintable() or char == "\n" else " " for char in text)
        sys.stderr.write(f"{_PROGRAM}: {''.join(harmless)}\n")


def flush(stream: TextIO) -> OSError | None:
    """Write what a stream still holds, and return the error where that fails.

    The rest goes to the null device then, because Python flushes again at its exit, which would show a
    traceback.
    """
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def reason(error: OSError) -> str:
    """Return why a call of the system failed, in words."""
    try:
        os.getcwd()
    except OSError:
        return "the working directory is gone; change to one that exists"
    words = error.strerror or str(error) or type(error).__name__
    if error.filename is None and error.errno in _OF_A_WRITE:
        return f"stdout cannot be written: {words}"
    return words if error.filename is None else f"{error.filename}: {words}"
