"""What a body raised, as the result of a tool: always one that can be sent."""

from __future__ import annotations

from typing import Any, Final

from mcp_types import CallToolResult, TextContent

from python_mcp_server.errors import PythonMcpError, RemoteError
from python_mcp_server.jobs.delivery import TRACE_HEADER
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.server.text import message_of, named, whole

_TRACEBACK_CHARS: Final = 4_000


def failure(exc: BaseException) -> CallToolResult:
    """Return an error result: a sentence, and the worker's traceback, a long one cut in its middle."""
    if isinstance(exc, PythonMcpError):
        sentence, trace = message_of(exc), exc.traceback_text if isinstance(exc, RemoteError) else ""
    else:
        sentence, trace = named(exc), _trace_of(exc)
    trace = trace.rstrip()
    return error_result(f"{sentence}\n\n{cut_middle(trace, _TRACEBACK_CHARS)}".rstrip())


def _trace_of(exc: BaseException) -> str:
    """The worker's traceback, which tells the exception's other notes too; else its notes."""
    kept: Any = getattr(exc, "__notes__", ())
    notes = [note for note in kept if isinstance(note, str)]
    traces = [note.removeprefix(TRACE_HEADER) for note in notes if note.startswith(TRACE_HEADER)]
    return "\n".join(traces or notes)


def error_result(text: str) -> CallToolResult:
    """Return an error result with this text."""
    return CallToolResult(content=[TextContent(type="text", text=whole(text))], is_error=True)
