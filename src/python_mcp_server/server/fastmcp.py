"""Decorated functions and the Tasks extension on a FastMCP server.

Imported only where the program has FastMCP loaded. One function may become a tool of either kind of server,
and which is not known when it is decorated. The SDK recognises the parameter for its context by the type,
FastMCP by the default, so the one that the decorator adds has both.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, cast, get_args, get_type_hints

from fastmcp.exceptions import FastMCPError, ToolError
from fastmcp.server.context import Context
from fastmcp.server.dependencies import CurrentContext, OptionalCurrentContext, get_context
from fastmcp.server.extensions import MethodBinding, ServerExtension
from fastmcp.server.providers import FastMCPProvider, LocalProvider
from fastmcp.tools import Tool, ToolResult
from mcp.server.mcpserver.exceptions import ToolError as SdkToolError
from mcp_types import CallToolResult
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    RootModel,
    create_model,
)

from python_mcp_server.jobs.reply import Shown, content_beside
from python_mcp_server.jsonable import jsonable
from python_mcp_server.server.sdk.private import request_of
from python_mcp_server.server.sdk.replies import OutputModel, show_answer

if TYPE_CHECKING:
    from fastmcp import FastMCP
    from fastmcp.server.extensions import ToolCallContinuation, ToolCallOutcome
    from mcp.server.extension import Extension
    from mcp.server.mcpserver.tools import Tool as SdkTool
    from mcp_types import CallToolRequestParams


class FastMCPExtension(ServerExtension):
    """Lets an extension of the SDK's kind serve a FastMCP server, as `add_extension` takes it."""

    def __init__(self, extension: Extension) -> None:
        self.identifier = extension.identifier
        self._extension = extension

    def clone(self) -> FastMCPExtension:
        """Return an unbound copy around the same extension, whose jobs and tasks cannot be copied."""
        return FastMCPExtension(self._extension)

    def settings(self) -> dict[str, Any]:
        """Return the settings that clients are told."""
        return self._extension.settings()

    def methods(self) -> Sequence[MethodBinding]:
        """Return its methods."""
        return [
            MethodBinding(each.method, each.params_type, each.handler, each.protocol_versions)
            for each in self._extension.methods()
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, context: Context, call_next: ToolCallContinuation
    ) -> ToolCallOutcome:
        """Run the call, and answer with the extension's result where it has one in place of the call's."""
        request = request_of(context)
        if request is None:  # a call from within the server, which takes a result only
            return await call_next()
        outcome: Any = None

        async def run(_ctx: object) -> Any:
            nonlocal outcome
            outcome = await call_next()
            return outcome

        answer = await self._extension.intercept_tool_call(params, request, run)
        return _Answer(answer) if isinstance(answer, dict) else outcome


class _Answer(RootModel[dict[str, Any]]):
    """A result in its wire form, nulls included."""


class JobTool(Tool):
    """A tool of ours for the SDK, on a FastMCP server."""

    source: Annotated[Any, Field(exclude=True)]

    @classmethod
    def of(cls, tool: SdkTool) -> JobTool:
        """Return this tool for FastMCP."""
        return cls(
            source=tool,
            name=tool.name,
            title=tool.title,
            description=tool.description,
            parameters=tool.parameters,
            output_schema=tool.output_schema,
            annotations=tool.annotations,
            meta=tool.meta,
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Run it with FastMCP's context, which reports progress as the SDK's does."""
        try:
            answer = await self.source.run(arguments, get_context(), convert_result=True)
        except SdkToolError as refused:
            raise ToolError(str(refused)) from refused
        return ToolResult.from_mcp_result(answer)


def tools_of(server: FastMCP[Any]) -> dict[str, Tool]:
    """Return the server's own tools by name; FastMCP lists them on an event loop only."""
    with ThreadPoolExecutor(1) as thread:  # the caller's own loop may be running
        listed = thread.submit(asyncio.run, server.local_provider.list_tools()).result()
    return {tool.name: tool for tool in listed}


async def serves_tool(server: FastMCP[Any], name: str) -> bool:
    """Whether the server, or a server that is mounted on it under its own names, has a tool of its own.

    Other providers are not asked: they may take seconds, or fail.
    """
    for provider in server.providers:
        if isinstance(provider, FastMCPProvider):
            if await serves_tool(provider.server, name):
                return True
        elif isinstance(provider, LocalProvider) and await provider.get_tool(name) is not None:
            return True
    return False


_NAME: Final = "tool"
"""FastMCP refuses a lambda, which has a name only where it is registered."""


def context_parameter(fn: Callable[..., Any]) -> str | None:
    """Return the parameter that FastMCP fills with its context: by its type, or by its default."""
    hints = _hints(fn)
    filled = (type(CurrentContext()), type(OptionalCurrentContext()))
    for name, parameter in inspect.signature(fn).parameters.items():
        if isinstance(parameter.default, filled) or _is_context(hints.get(name)):
            return name
    return None


def context_default() -> Any:
    """Return the default that makes FastMCP pass its context, and hide the parameter from clients."""
    return OptionalCurrentContext()


def sentence_of(exc: BaseException) -> str | None:
    """Return the text of an exception of FastMCP, which its servers pass on as it is; None for any other."""
    return str(exc) if isinstance(exc, FastMCPError) else None


def is_context(ctx: object) -> bool:
    """Whether this is the context of a FastMCP server."""
    return isinstance(ctx, Context)


def replies_of(fn: Callable[..., Any]) -> FastMCPReplies | None:
    """Return how the undecorated function answers as a tool of FastMCP; None where it cannot be one."""
    try:
        return FastMCPReplies(Tool.from_function(fn, name=_NAME))
    except (ValueError, TypeError, NameError, PydanticUserError):  # such as `*args`
        return None


def output_of(fn: Callable[..., Any], handle: type[BaseModel]) -> Any:
    """Return a type with the schema of the undecorated tool's results, or of a handle.

    Raises:
        PydanticSchemaGenerationError: The undecorated tool has no schema; FastMCP does without one then.
    """
    tool = Tool.from_function(fn, name=_NAME)
    if tool.output_schema is None:
        raise PydanticSchemaGenerationError(f"the results of {fn!r} have no schema")
    kind: Any = tool.return_type
    if tool.output_schema.get("x-fastmcp-wrap-result"):
        kind = create_model(f"{fn.__name__}Result", result=(kind, ...))
    union: Any = Union[kind, handle]  # noqa: UP007  of types that are known here only

    class ResultOrHandle(RootModel[union]):
        model_config = ConfigDict(title=f"{fn.__name__}Output", json_schema_extra={"type": "object"})

    return ResultOrHandle


class FastMCPReplies:
    """How a tool answers on a FastMCP server."""

    def __init__(self, tool: Tool) -> None:
        schema = tool.output_schema
        wrapped = bool(schema and schema.get("x-fastmcp-wrap-result"))
        self._declared = schema is not None
        self._model = _model_of(tool.return_type) if self._declared else None
        structured = "objects" if schema is None else "wrapped" if wrapped else "whole"
        self.form: Mapping[str, Any] = {"style": "fastmcp", "structured": structured, "by_alias": None}

    def show(self, value: Any) -> Shown:
        """Return the JSON of a body's value."""
        answer = _answer_in(value)
        if answer is not None:
            return show_answer(answer, None)
        shown = Shown(*jsonable(value, by_alias=None)) if self._model is None else self._model.show(value)
        beside = content_beside(value, shown.result, self.form)
        if beside and not self._declared:
            beside |= {"structured": None}
        return shown._replace(reply={**beside, **shown.reply}) if beside else shown

    def show_json(self, result: Any, note: str | None) -> Shown:
        """Return the result of `show` for JSON: FastMCP fits nothing to a type."""
        return Shown(result, note)


def _answer_in(value: Any) -> CallToolResult | None:
    """Return the whole answer that a body returned, if its value is one."""
    said: Any = value.to_mcp_result() if isinstance(value, ToolResult) else value
    if isinstance(value, ToolResult) and isinstance(said, list | tuple):
        content, structured = cast("Any", said if isinstance(said, tuple) else (said, None))
        return CallToolResult(content=content, structured_content=structured)
    return said if isinstance(said, CallToolResult) else None


def _model_of(kind: Any) -> OutputModel | None:
    if kind in (None, Any, ..., inspect.Signature.empty) or isinstance(kind, str):
        return None
    try:
        return OutputModel(kind, wrapped=False, by_alias=None, validates=False)
    except PydanticSchemaGenerationError:
        return None


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(fn)
    except (NameError, TypeError):  # a forward reference, or no function: FastMCP finds no types either
        return {}


def _is_context(annotation: Any) -> bool:
    kinds = (annotation, *get_args(annotation))
    return any(isinstance(kind, type) and issubclass(kind, Context) for kind in kinds)
