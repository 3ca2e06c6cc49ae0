"""Why a worker ended before it was ready, as far as its exit code and its log tell.

A worker that is short of memory may not be able to send a frame, and loky prints what is raised before our
own code runs. So the log is where every start that fails says why.
"""

from __future__ import annotations

import os
from typing import Final

from python_mcp_server.pool.outcomes import how_ended
from python_mcp_server.processes import KILL
from python_mcp_server.processes.host import shortage_in

_TRACEBACK: Final = "Traceback (most recent call last):"
_TAIL_BYTES: Final = 16_384
_LINE_CHARS: Final = 300


def early_end(exit_code: int | None, log: str) -> RuntimeError:
    """Return the error of a start whose worker has ended; its cause is a shortage where the worker was short
    of something.

    Args:
        exit_code: That of the worker; None where unknown.
        log: The file that it printed to.
    """
    text = _tail(log)
    said = _last_words(text.rpartition(_TRACEBACK)[2])
    if _TRACEBACK in text:  # whatever the exit code is: loky may have killed the worker on its way out
        error = RuntimeError(f"the worker process ended before it was ready: {said}")
        error.__cause__ = shortage_in(said)
        return error
    about = f": {said}" if said else ""
    error = RuntimeError(f"the worker process {how_ended(exit_code)} before it was ready{about}")
    if exit_code == -KILL:  # a worker without a call does nothing that it would be killed for
        error.__cause__ = MemoryError("the system kills processes where memory is short")
    return error


def _tail(log: str) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_words(text: str) -> str:
    """Return the last line that is neither indented nor one of loky's rulers."""
    told = [line for line in text.splitlines() if line.strip("- ") and not line[0].isspace()]
    return told[-1][:_LINE_CHARS] if told else ""
