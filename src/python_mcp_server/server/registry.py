"""How a function becomes a tool of our server: what a model reads of it, and how a bad call is refused.

A docstring becomes the tool's description, and the text in the `Annotated` type of a parameter describes
that. A client pays for the list in its model's context, so the list holds nothing that a model does not
need. A refused call gets one line.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field, ValidationError

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput, PythonMcpError
from python_mcp_server.server.refusals import complaint, shown
from python_mcp_server.server.sdk.arguments import reading_as_meant
from python_mcp_server.server.sdk.replies import Aside, failure, with_pictures

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

_SECTION: Final = re.compile(r"^(?:Args|Returns|Raises|Yields|Examples?|Notes?):[ \t]*$", re.MULTILINE)
_LARGE: Final = {"anthropic/maxResultSizeChars": 500_000}
"""The most that Claude Code grants; without it, a result above 25,000 tokens becomes the name of a file."""
_NAME_CHARS: Final = 100
_NUMBERS: Final = frozenset({"integer", "number"})
_TAKE_TRUE: Final = frozenset({"boolean", None})
_MEANT: Final = {
    "code": ("script_content", "source"),
    "cwd": ("directory",),
    "packages": ("dependencies",),
    "requirements": ("dependencies",),
}
"""What callers mean by names that are not like ours."""
_TRUTH: Final = "{} is {}; true and false are not numbers"
_VERSIONS: Final = ("python_version", "requires_python")
_FRACTION: Final = '{} is the number {}; it must be a text such as "3.10", because a number has no last 0'


class SentenceTool(Tool):
    """A tool whose refusals are one line each, without the SDK's words around them.

    Its results have structured content, but no client is told a schema of it, and no model of it is built.
    A schema for all that a script or a job may come to is the longest part of a tool list and is of no use to
    a model; and it would oblige the tool to structured content, beside which some clients drop images.
    """

    results: ClassVar[Any] = dict[str, Any]
    aside: Aside | None = Field(default=None, exclude=True)

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        """What clients are told of its results."""
        return None

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        """Run the tool; an error of ours, or arguments that are wrong, become an error result."""
        wrong = self._unknown(arguments) or self._no_number(arguments) or _no_version(arguments)
        if wrong is not None:
            return failure(wrong)
        try:
            result = await super().run(arguments, context, convert_result)
            if self.aside is None or not isinstance(result, CallToolResult):
                return result
            return await with_pictures(result, self.name, self.aside)
        except ToolError as exc:
            if isinstance(exc.__cause__, PythonMcpError):
                return failure(exc.__cause__)
            if isinstance(exc.__cause__, ValidationError):
                raise ToolError(complaint(exc.__cause__, arguments, self._properties)) from exc.__cause__
            raise

    def _unknown(self, arguments: dict[str, Any]) -> InvalidInput | None:
        known = self._properties
        wrong = next((name for name in arguments if name not in known), None)
        if wrong is None:
            return None
        from difflib import get_close_matches  # late, because only a wrong call needs it

        meant = [name for name in known if wrong in name.split("_") or name in _MEANT.get(wrong, ())]
        near = meant or get_close_matches(wrong[:_NAME_CHARS], known, 1)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(known) or 'none'}"
        return InvalidInput(f"{self.name} has no parameter {shown(wrong)}; {hint}")

    def _no_number(self, arguments: dict[str, Any]) -> InvalidInput | None:
        """Refuse true and false where a number is expected: pydantic reads them as 1 and 0."""
        schemas = self._properties
        wrong = next((name for name, value in arguments.items() if _no_number(schemas[name], value)), None)
        return None if wrong is None else InvalidInput(_TRUTH.format(wrong, shown(arguments[wrong])))

    @property
    def _properties(self) -> dict[str, Any]:
        """Mapping of a parameter's name to its JSON schema."""
        return self.parameters.get("properties", {})


class DeclaredTool(SentenceTool):
    """A tool whose output schema clients are told: programs call it again and again, by its last answer."""

    output_schema = Tool.output_schema
    results = inspect.Signature.empty  # as the function declares them


class AnswerTool(SentenceTool):
    """A tool that makes its answer itself, because the SDK would do that on the event loop."""

    results = CallToolResult


class DeferredTool:
    """Stands for a tool that is built when a client first lists or calls tools.

    The models of all arguments take a tenth of the server's start. The SDK keeps a tool under its name and
    asks nothing else of it before.
    """

    def __init__(self, name: str, build: Callable[[], Tool]) -> None:
        self.name = name
        self._maker = build
        self._tool: Tool | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy asks before there is anything to build with
            raise AttributeError(name)
        return getattr(self.build(), name)

    def build(self) -> Tool:
        """Return the tool, which is built once."""
        if self._tool is None:
            self._tool = self._maker()
        return self._tool


def defer_tool(fn: Callable[..., Any], name: str, *how: Any, **hints: Any) -> Tool:
    """Return the tool that `make_tool` makes of these arguments, built when it is first used."""
    return cast("Tool", DeferredTool(name, lambda: make_tool(fn, name, *how, **hints)))


def make_tool(
    fn: Callable[..., Any],
    name: str,
    title: str,
    kind: type[SentenceTool] = SentenceTool,
    /,
    *,
    large: bool = False,
    aside: Aside | None = None,
    **hints: bool,
) -> Tool:
    """Return `fn` as a tool.

    Args:
        fn: An async function; its docstring, and texts in the types of its parameters, are for the model.
        name: The tool's name.
        title: What people see.
        kind: The class of the tool.
        large: Whether results may be long, because the caller says how long.
        aside: Reads the pictures of its results in a thread; None where they have no pictures.
        **hints: Fields of `ToolAnnotations`.
    """
    facts = {"title": title, "read_only_hint": False} | hints
    annotations = ToolAnnotations.model_validate(facts, by_name=True)
    text = description_of(fn.__doc__ or "")
    made: Any = kind.from_function(
        reading_as_meant(fn, CallToolResult if hasattr(fn, BODY_ATTRIBUTE) else kind.results),
        name=name,
        description=text,
        annotations=annotations,
        meta=_LARGE if large else None,
    )
    made.aside = aside
    compact(made.parameters)
    made.parameters["additionalProperties"] = False
    _describe_parameters(made)
    if made.output_schema is not None:
        compact(made.output_schema)
        made.output_schema.pop("description", None)
    return made


def _describe_parameters(made: Tool) -> None:
    """Give each parameter the text in its type."""
    fields = made.fn_metadata.arg_model.model_fields
    for key, schema in made.parameters.get("properties", {}).items():
        if texts := [each for each in fields[key].metadata if isinstance(each, str)]:
            schema["description"] = texts[0]


def description_of(docstring: str) -> str:
    """Return a docstring's text without its sections, each paragraph but lists and indents on one line."""
    text = _SECTION.split(inspect.cleandoc(docstring))[0].strip()
    return re.sub(r"(?<=\S)\n(?=[^\s*\-])", " ", text)


def compact(schema: dict[str, Any]) -> None:
    """Remove the parts of a JSON schema that are of no use to a model.

    Titles repeat names, and null as a default says no more than that the parameter may be left out.
    """
    schema.pop("title", None)
    if schema.get("default", ...) is None:
        del schema["default"]
        if "enum" in schema:
            schema["enum"] = [each for each in schema["enum"] if each is not None]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema |= {**kinds[0], **schema}
        elif kinds:
            schema["anyOf"] = kinds
    for parts in (schema.get("properties", {}), schema.get("$defs", {})):
        for part in parts.values():
            compact(part)


def _no_version(arguments: dict[str, Any]) -> InvalidInput | None:
    """Refuse a number with a fraction where a version is expected, because 3.10 and 3.1 are one number."""
    wrong = next((name for name in _VERSIONS if isinstance(arguments.get(name), float)), None)
    return None if wrong is None else InvalidInput(_FRACTION.format(wrong, shown(arguments[wrong])))


def _no_number(schema: dict[str, Any], value: object) -> bool:
    meant: list[dict[str, Any]] = schema.get("anyOf", [schema])
    if isinstance(value, list):
        items = [each["items"] for each in meant if "items" in each]
        return any(_no_number(item, each) for item in items for each in cast("list[object]", value))
    kinds = {each.get("type") for each in meant}
    return isinstance(value, bool) and bool(kinds & _NUMBERS) and not kinds & _TAKE_TRUE
