"""What a body returned or raised, as the result of a tool: always one that can be sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from python_mcp_server.errors import PythonMcpError, RemoteError
from python_mcp_server.jobs.delivery import TRACE_HEADER
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.server.text import (
    infinities,
    message_of,
    named,
    type_name,
    whole,
    without_infinities,
)

if TYPE_CHECKING:
    from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata

_TRACEBACK_CHARS: Final = 4_000
_MAY_LACK: Final = re.compile(rb"NaN|Infinity")


def convert(metadata: FuncMetadata, value: object) -> CallToolResult:
    """Return what the SDK makes of a body's value, or an error result where that cannot be sent."""
    try:
        result = _sendable(_converted(metadata, value))
        if (problem := _unsaid(metadata, result)) is None:
            return result
    except Exception as error:  # noqa: BLE001  the SDK would print a traceback and hide the reason
        problem = _reason(error)
    return error_result(
        f"the body returned a value of type {type_name(value)} that cannot be answered: {problem}"
    )


def restored(metadata: FuncMetadata, value: Any) -> Any:
    """Return the value that a record's JSON was made of, as far as the tool's schema tells.

    JSON that does not fit is returned as it is: `convert` says what is wrong with it, as it would
    have said to the caller.
    """
    model = metadata.output_model
    wrapped = metadata.wrap_output
    if model is None or not (wrapped or (isinstance(model, type) and issubclass(model, BaseModel))):
        return value
    adapter = metadata._output_adapter(model)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    try:
        made: Any = adapter.validate_python(
            {"result": value} if wrapped else value, by_alias=True, by_name=True
        )
    except ValidationError:
        return value
    return made.result if wrapped else made


def _converted(metadata: FuncMetadata, value: object) -> CallToolResult:
    try:
        return cast("CallToolResult", metadata.convert_result(value))
    except (PydanticSerializationError, ValidationError):  # pydantic takes no broken Unicode
        repaired = whole(value)
        if repaired is value:
            raise
        return cast("CallToolResult", metadata.convert_result(repaired))


def _sendable(result: CallToolResult) -> CallToolResult:
    """Return the result with its broken Unicode repaired; what cannot be sent even so raises here."""
    try:
        result.model_dump_json()
    except PydanticSerializationError:
        plain = whole(result.model_dump(by_alias=True, exclude_unset=True))
        result = type(result).model_validate(plain)
        result.model_dump_json()
    return result


def _unsaid(metadata: FuncMetadata, result: CallToolResult) -> str | None:
    """Say which number JSON lacks, where null in its place would not fit the tool's schema."""
    content = getattr(result, "structured_content", None)
    if metadata.output_model is None or not _MAY_LACK.search(to_json(content, inf_nan_mode="constants")):
        return None  # a look at each value of a large answer would hold up the server
    number = next(infinities(content), None)
    if number is None:
        return None
    adapter = metadata._output_adapter(metadata.output_model)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    try:
        adapter.validate_python(without_infinities(content), by_alias=True, by_name=True)
    except ValidationError:
        return f"it holds {number}, and JSON has no such number; return a finite one, or declare `| None`"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError) or "Circular reference" in message_of(error):
        return "it contains itself, or is nested too deeply; return plain data"
    if isinstance(error, ValidationError):
        first: Any = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "result")
        return f"it does not fit the declared return type: {where and where + ': '}{whole(first['msg'])}"
    if isinstance(error, PydanticSerializationError):
        return f"it is no JSON: {message_of(error)}"
    return named(error)


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
