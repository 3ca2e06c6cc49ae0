"""What a finished job's call would have answered, from the job's record.

Records hold plain JSON, so any server on the same home can answer. One that knows the tool by its
name converts the result as the tool's own call would have; another shows it as it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

from mcp_types import CallToolResult, TextContent

from python_mcp_server.errors import InvalidInput, RemoteError
from python_mcp_server.model import Job, JobState
from python_mcp_server.server.convert import error_result, failure
from python_mcp_server.server.text import whole

if TYPE_CHECKING:
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
    if job.result_note is not None:
        return _unsayable(job, declared=face is not None and face.has_schema)
    return _plain(job.result) if face is None else face.recorded(job.result)


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


def _unsayable(job: Job, *, declared: bool) -> CallToolResult:
    """The body's value was no JSON: its text, and why; an error where the tool declared a schema."""
    texts = [str(job.result), f"({job.result_note})"]
    content = [TextContent(type="text", text=whole(text)) for text in texts]
    return CallToolResult(content=[*content], is_error=declared)


def _plain(value: Any) -> CallToolResult:
    value = whole(value)
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    structured = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)
