"""What a finished job's call would have answered, from the job's record.

Records hold plain JSON and how it is answered, so any server on the same home answers as the call would
have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, RemoteError
from python_mcp_server.model import Job, JobState
from python_mcp_server.server.convert import error_result, failure
from python_mcp_server.server.replies import recorded
from python_mcp_server.server.text import whole

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from python_mcp_server.server.sdk import Face

_OURS: Final = re.compile(r"python_mcp_server\.errors\.(?!RemoteError\b)\w+")
_SAYS_ITSELF: Final = re.compile(r"mcp\.server\.mcpserver\.exceptions\.(Tool|Resource)Error")
_TRACE: Final = re.compile(r"\n\n(?=\s*(?:Traceback \(most|\+ Exception Group|\.\.\. \(cut\)))")
_TYPE: Final = re.compile(r"([\w.<>]+)(?:: )?")


def result_of(job: Job, face: Face | None) -> CallToolResult:
    """Return what the call would have answered, had it waited for the end.

    Args:
        job: A job that completed or failed.
        face: How its tool answers; None where this server does not know the tool.
    """
    if job.status is not JobState.COMPLETED:
        return _failed(job)
    style = (job.reply or {}).get("style", "mcp")
    return recorded(job, None if face is None else face.replies(style))


def protocol_error(job: Job) -> dict[str, Any] | None:
    """Return the JSON-RPC error that the body raised on purpose, or None."""
    if job.status is not JobState.FAILED or job.rpc_error is None:
        return None
    return whole({key: value for key, value in job.rpc_error.items() if value is not None})


def _failed(job: Job) -> CallToolResult:
    """The failure in the words that the caller would have read."""
    text = job.error or f"the job failed: {job.error_kind or 'for an unknown reason'}"
    if job.error_kind != "exception":
        return failure(InvalidInput(text))
    sentence, trace = [*_TRACE.split(text, maxsplit=1), ""][:2]
    kind = _TYPE.match(sentence)
    name, message = (kind[1], sentence[kind.end() :]) if kind else ("", sentence)
    if _SAYS_ITSELF.fullmatch(name):
        return error_result(f"Error executing tool {job.tool}: {message}")  # the SDK's words around it
    return failure(InvalidInput(message) if _OURS.fullmatch(name) else RemoteError(name, message, trace))
