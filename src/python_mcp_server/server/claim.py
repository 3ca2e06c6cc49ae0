"""Takes the client's pipes before anything else can: the first thing that `serve` does.

Whatever this process starts or loads afterwards finds the null device at fd 0 and stderr at fd 1, so
nothing but the server can read a request or write a byte to the client. Imports nothing of the SDK:
importing that takes half a second, and the first worker is started before.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Final

_ABOVE_STANDARD: Final = 3


@dataclass(frozen=True, slots=True)
class Wire:
    """The client's pipes, as close-on-exec descriptors that only the server knows.

    Attributes:
        read_fd: Where requests come from.
        write_fd: Where answers go.
    """

    read_fd: int
    write_fd: int

    @property
    def pollable(self) -> bool:
        """Whether an event loop can wait for both: they are pipes or sockets."""
        return sys.platform != "win32" and all(
            _pollable(os.fstat(fd)) for fd in (self.read_fd, self.write_fd)
        )

    @property
    def one_socket(self) -> bool:
        """Whether both are the same socket, as some launchers do it."""
        return _same(self.read_fd, self.write_fd) and stat.S_ISSOCK(os.fstat(self.read_fd).st_mode)


def claim_stdio() -> Wire:
    """Divert fd 0 to null and fd 1 to stderr, and return the client's pipes.

    Text that was printed before and lies in Python's buffer goes to stderr too.
    """
    wire = Wire(_private(0), _private(1))
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    _divert_stdout()
    sys.stdout.flush()
    return wire


def _private(fd: int) -> int:
    if sys.platform == "win32":
        return os.dup(fd)
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)


def _divert_stdout() -> None:
    """Point fd 1 at stderr, or at null where stderr is the client's pipe too (`2>&1`)."""
    if not _same(1, 2):
        os.dup2(2, 1)
        return
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


def _same(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:  # fd 2 is closed: then there is no stderr to divert to either
        return True


def _pollable(status: os.stat_result) -> bool:
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
