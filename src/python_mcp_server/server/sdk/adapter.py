"""The SDK's view of a decorated function.

`smart_async` takes from here, in a process that has `mcp` loaded, what the SDK shall see of a tool:
its signature, and the conversion of its results. A tool must answer exactly as if it were not
decorated, or with a job handle at top level; so the results are built here, and the return
annotation is `Annotated[CallToolResult, <union>]`: a plain union would wrap every result.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union

from mcp.server.mcpserver.exceptions import InvalidSignature, ResourceError, ToolError
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from mcp.server.mcpserver.utilities.func_metadata import (
    ArgModelBase,
    FuncMetadata,
    _pydantic_readable_typeddict,  # pyright: ignore[reportPrivateUsage]
    func_metadata,
)
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PydanticUserError, RootModel
from pydantic_core import core_schema

from python_mcp_server.server.sdk.arguments import read_as_meant
from python_mcp_server.server.sdk.private import AnyContext
from python_mcp_server.server.sdk.replies import SdkReplies, answer_of, error_result, failure
from python_mcp_server.server.text import message_of, repair_unicode

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from python_mcp_server.server.sdk.replies import ServerReplies

__all__ = ["JobHandle", "ToolAdapter", "adapt"]

_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_EXTRAS: Final[Mapping[str, tuple[Any, Any]]] = {
    "async_mode": (
        Annotated[bool, Field(description="Answer with a job_id at once, as a long call does.")],
        False,
    ),
    "job_label": (
        Annotated[str | None, Field(description="The job's name in lists.")],
        None,
    ),
}


class JobHandle(BaseModel):
    """The call goes on in the background as a job."""

    model_config = ConfigDict(extra="allow")

    job_id: str = Field(
        description="Id of the background job: its status, output and result are found by it."
    )
    status: str = Field(description="Where the job stands, such as 'running' or 'pending'.")
    message: str | None = Field(default=None, description="Why there is a job instead of a result.")


@dataclass(frozen=True, slots=True)
class ToolAdapter:
    """The SDK's view of one decorated function.

    Attributes:
        signature: The function's parameters with their annotations resolved, the parameters that
            the decorator adds, and one for the context.
        annotations: For the wrapper's `__annotations__`, where the SDK looks for the context.
        context_name: The keyword by which the SDK hands over its context; its presence among the arguments
            shows that the SDK calls.
        body_context: The name of the body's own context parameter, or None.
        fn: The undecorated function.
    """

    signature: inspect.Signature
    annotations: dict[str, Any]
    context_name: str
    body_context: str | None
    fn: Callable[..., Any]
    _metadata: FuncMetadata | None
    _made: dict[str, Any] = field(default_factory=dict[str, Any])

    def replies(self, style: str = "mcp") -> ServerReplies:
        """Return how the tool answers callers of this kind of server, "mcp" or "fastmcp"."""
        if style not in self._made:
            fastmcp = _fastmcp() if style == "fastmcp" else None
            made = None if fastmcp is None else fastmcp.replies_of(self.fn)
            self._made[style] = made or SdkReplies(self._metadata or _metadata(self.fn))
        return self._made[style]

    def replies_to(self, ctx: Any) -> ServerReplies:
        """Return how the tool answers the caller with this context."""
        fastmcp = _fastmcp()
        return self.replies("fastmcp" if fastmcp is not None and fastmcp.is_context(ctx) else "mcp")

    def answer(
        self, value: object, replies: ServerReplies | None = None, *, note: str | None = None
    ) -> CallToolResult:
        """Return the answer that the undecorated tool would give with this value, as far as JSON can express
        it.

        Where that does not fit the declared type it is an error result that says why.

        Args:
            value: The value that the body returned.
            replies: How the tool answers the caller.
            note: Why `value` is only the JSON form of the returned value; None where it is the value itself.
        """
        replies = replies or self.replies()
        shown = replies.show(value) if note is None else replies.show_json(value, note)
        return answer_of(shown, replies.form)

    def handle(self, handle: Mapping[str, Any]) -> CallToolResult:
        """Return a job handle, at top level and as JSON text."""
        handle = repair_unicode(dict(handle))
        text = TextContent(type="text", text=json.dumps(dict(handle), indent=2, ensure_ascii=False))
        return CallToolResult(content=[text], structured_content=dict(handle))

    def error(self, exc: BaseException) -> CallToolResult:
        """Return an error result that a model can read.

        Raises:
            MCPError, ToolError, ResourceError: `exc` is of this type; the SDK itself answers it.
        """
        if isinstance(exc, MCPError):
            said = [exc.error.message, exc.error.data]
            raise exc if repair_unicode(said) is said else MCPError(exc.error.code, *repair_unicode(said))
        if isinstance(exc, ToolError | ResourceError):
            raise exc if repair_unicode(text := str(exc)) is text else ToolError(message_of(exc))
        fastmcp = _fastmcp()
        sentence = None if fastmcp is None else fastmcp.sentence_of(exc)
        return failure(exc) if sentence is None else error_result(sentence)


def adapt(fn: Callable[..., Any], *, declares_output: bool = True) -> ToolAdapter:
    """Return the SDK's view of `fn`, when it is decorated.

    Args:
        fn: The undecorated function.
        declares_output: Whether clients are told a schema of its results; without one, the model of the
            results is built with the first result.
    """
    original = _resolved_signature(fn)
    fastmcp = _fastmcp()
    default = None if fastmcp is None else fastmcp.context_default()
    body_context = find_context_parameter(fn)
    filled = body_context or (None if fastmcp is None else fastmcp.context_parameter(fn))
    metadata = _metadata(fn) if declares_output else None
    kept = {name: p for name, p in original.parameters.items() if p.kind not in _VARIADIC}
    added = [_keyword(name, *what) for name, what in _EXTRAS.items() if name not in kept]
    context_name = filled or _free_name("mcp_context", set(kept))
    if filled is None:
        added.append(_keyword(context_name, AnyContext | None, default))
    elif body_context is not None and default is not None:
        added.append(_keyword(context_name, kept.pop(body_context).annotation, default))
    given = [each if each.name == context_name else read_as_meant(each) for each in (*kept.values(), *added)]
    signature = original.replace(parameters=given, return_annotation=_return_annotation(fn, metadata))
    return ToolAdapter(signature, _annotations(signature), context_name, filled, fn, metadata)


def _fastmcp() -> ModuleType | None:
    """Return the module for FastMCP, in a program that has FastMCP loaded."""
    if "fastmcp" not in sys.modules:
        return None
    from python_mcp_server.server import fastmcp

    return fastmcp


def _resolved_signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(fn, eval_str=True)
    except NameError:  # a forward reference: the SDK refuses it itself, if this ever becomes a tool
        return inspect.signature(fn)


def _metadata(fn: Callable[..., Any]) -> FuncMetadata:
    """Return how results are converted. The registration handles the arguments, which cost time."""
    try:
        return func_metadata(fn, skip_names=list(inspect.signature(fn).parameters))
    except (InvalidSignature, PydanticUserError):  # its result may never be a tool's, and then needs no model
        return FuncMetadata(arg_model=ArgModelBase)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _return_annotation(fn: Callable[..., Any], metadata: FuncMetadata | None) -> Any:
    if (
        metadata is None
        or metadata.output_model is None
        or (_fastmcp() is None and not _has_objects(metadata))
    ):
        return CallToolResult
    union: Any = Union[_pydantic_readable_typeddict(metadata.output_model), JobHandle]  # noqa: UP007
    config = ConfigDict(title=f"{fn.__name__}Output", json_schema_extra={"type": "object"})

    class Output(RootModel[union]):  # "type": "object": without it tools/list fails for handshake-era clients
        model_config = config

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            """Keep what `ToolAdapter.answer` has validated: a second time, in JSON form, it may not pass."""
            if source is not cls and (fastmcp := _fastmcp()) is not None:  # it asks for the whole annotation
                return handler.generate_schema(fastmcp.output_of(fn, JobHandle))
            return core_schema.json_or_python_schema(handler(source), core_schema.any_schema())

    return Annotated[CallToolResult, Output]


def _has_objects(metadata: FuncMetadata) -> bool:
    """Whether results are objects: a schema that says so refuses others, and older clients refuse one that
    does not."""
    model: Any = metadata.output_model
    root = isinstance(model, type) and issubclass(model, RootModel)
    return not root or (metadata.output_schema or {}).get("type") == "object"


def _annotations(signature: inspect.Signature) -> dict[str, Any]:
    named = {p.name: p.annotation for p in signature.parameters.values() if p.annotation is not p.empty}
    return named | {"return": signature.return_annotation}
