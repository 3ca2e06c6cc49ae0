"""The output of any job, as bytes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from python_mcp_server.cli.screen import Copy
from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager

_PIECE_BYTES: Final = 1 << 20
_POLL_S: Final = 0.1


def copy_output(
    manager: JobManager, job_id: str, stream: str, *, offset: int, limit: int | None, follow: bool
) -> None:
    """Copy what a job wrote to our stdout; with `follow` until it ends.

    Raises:
        InvalidInput: The offset or the limit cannot be meant.
    """
    if offset < 0:
        raise InvalidInput(f"--offset is {offset}; it must be 0 or more")
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit is {limit}; it must be 1 or more")
    copy = Copy(manager.store.folder(job_id) / stream, sys.stdout.buffer, offset)
    end = None if limit is None else offset + limit
    while True:
        ended = manager.get_blocking(job_id).status.terminal  # before the copy: then nothing comes after it
        _copy_all(copy, end)
        if ended or not follow or copy.offset == end:
            return
        time.sleep(_POLL_S)


def _copy_all(copy: Copy, end: int | None) -> None:
    while data := copy.read(_PIECE_BYTES if end is None else min(_PIECE_BYTES, end - copy.offset)):
        copy.write(data)
