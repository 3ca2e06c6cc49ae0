"""The streams that bodies print to: a full disk costs what is printed meanwhile, and not the job."""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


class _Log(io.FileIO):
    """A descriptor that drops what there is no room for, and says how much that was once there is."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._lost_bytes = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop; return the size of the data that is done with."""
        try:
            self.tell_loss()
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _FULL:
                raise
        size = memoryview(data).nbytes
        self._lost_bytes += size
        return size

    def tell_loss(self) -> None:
        """Write how much was lost, if anything was.

        Raises:
            OSError: There is no room yet.
        """
        if self._lost_bytes:
            super().write(f"\n[{self._lost_bytes} bytes are missing here: the disk was full]\n".encode())
            self._lost_bytes = 0


def open_log_stream(fd: int) -> TextIO:
    """Return a text stream to this descriptor, flushed with every line; closing it leaves that open."""
    buffer = io.BufferedWriter(_Log(fd))
    stream: Any = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    stream.mode = "w"
    return stream


def tell_loss(stream: TextIO) -> None:
    """Say at the end of a call what its stream has lost; not more often than there is room."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, _Log):
        raw.tell_loss()
