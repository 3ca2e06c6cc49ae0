"""Sentences that refuse what a client sent: bounded, and in the words of JSON, not of a validator."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from python_mcp_server.jobs.redaction import name_looks_secret
from python_mcp_server.model import cut

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from pydantic import ValidationError

_SHOWN_CHARS: Final = 80
_NAME_CHARS: Final = 2_000
"""Of a name or URI; guessed. Longer ones name nothing, and the SDK's errors would repeat them."""
_NAMES: Final = ("name", "uri", "taskId")
_WORDS: Final = {
    "string": ("a text", "texts"),
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "boolean": ("true or false", "true or false"),
    "object": ("an object", "objects"),
    "array": ("a list", "lists"),
}
_DIGITS_PER_BIT: Final = math.log10(2)
_RANGES: Final = ("greater_than", "less_than", "multiple_of", "finite", "too_long", "too_short")
"""How the kinds of errors of pydantic begin that are not about a type."""


async def refuse_long_names(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Refuse a request that names something by a text that no name has; middleware."""
    params: Mapping[str, Any] = ctx.params or {}
    for field, value in (("method", ctx.method), *((name, params.get(name)) for name in _NAMES)):
        if isinstance(value, str) and len(value) > _NAME_CHARS:
            raise MCPError(
                INVALID_PARAMS, f"{field} has {len(value)} characters; it may have {_NAME_CHARS} at most"
            )
    return await call_next(ctx)


def complaint(error: ValidationError, arguments: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Return a sentence about the first of the arguments that are wrong, and the number of the others."""
    faults = error.errors(include_url=False, include_context=False)
    first = faults[0]
    name = str(first["loc"][0]) if first["loc"] else "the arguments"
    if first["type"] == "missing":
        return f"{name} is missing; it is required"
    schema = schemas.get(name, {})
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    inside = first["loc"][1:] if len(kinds) == 1 else ()  # else they name what pydantic tried
    value: Any = first["input"] if inside else arguments.get(name)
    place = name + "".join(f"[{shown(part)}]" for part in inside if part != "[key]")
    kinds = [_inner(kinds[0], inside)] if inside else kinds
    wanted = _wanted(first["type"], first["msg"], kinds) + _such_as(value, kinds)
    beside = len({each["loc"] for each in faults}) - 1 if inside else 0
    others = f" and {beside} more {'is' if beside == 1 else 'are'} wrong" if beside else ""
    return f"{place} {_told(value, first['loc'])}{others}; {wanted}"


def shown(value: object) -> str:
    """Return the text of a value as an error repeats it, with JSON's words for true, false and null."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    brief = _Brief()
    brief.maxstring = brief.maxother = brief.maxlong = _SHOWN_CHARS
    return cut(brief.repr(value), _SHOWN_CHARS)


class _Brief(Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Return a bounded text; Python makes none of an integer of more than 4,300 digits."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"a whole number of about {round(x.bit_length() * _DIGITS_PER_BIT)} digits"


def _told(value: object, where: tuple[int | str, ...]) -> str:
    if any(name_looks_secret(str(part)) for part in where):
        return f"is {_kind_of(value)}"
    return f"is {shown(value)}"


def _kind_of(value: object) -> str:
    names: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array"}
    return "null" if value is None else _WORDS[names.get(type(value), "object")][0]


def _wanted(kind: str, message: str, kinds: list[dict[str, Any]]) -> str:
    if kind.startswith(_RANGES) or not kinds or not any(map(_words, kinds)):
        return f"{message[:1].lower()}{message[1:]}".replace("input should", "it must", 1)
    return f"give {' or '.join(filter(None, map(_words, kinds)))}"


def _words(schema: Mapping[str, Any]) -> str:
    """Return the words for what a schema takes; nothing where it says no type."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if choices := schema.get("enum"):
        return f"one of {', '.join(str(each) for each in choices if each is not None)}"
    words = _WORDS.get(cast("str", schema.get("type")), ("", ""))[0]
    inner = _plural(schema.get("items") or schema.get("additionalProperties"))
    joint = "of" if schema.get("type") == "array" else "with"
    return f"{words} {joint} {inner}" if words and inner else words


def _inner(schema: dict[str, Any], place: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the schema of what is at this place inside of a value of a schema."""
    for part in place:
        inner = schema.get("items" if isinstance(part, int) else "additionalProperties")
        if part == "[key]" or not isinstance(inner, dict):
            break
        schema = cast("dict[str, Any]", inner)
    return schema


def _such_as(value: object, kinds: list[dict[str, Any]]) -> str:
    """Return words with an example, for what callers get wrong: lists, objects, and true where a text is."""
    if len(kinds) != 1:
        return ""
    if isinstance(value, bool) and kinds[0].get("type") == "string" and "enum" not in kinds[0]:
        return f', such as "{json.dumps(value)}"'
    example = _example(kinds[0])
    return f", such as {json.dumps(example)}" if isinstance(example, list | dict) else ""


def _example(schema: Mapping[str, Any]) -> Any:
    """Return a text, or a list or an object of texts, that fits a schema; None for other schemas."""
    if schema.get("type") == "string":
        return "a"
    for key in ("items", "additionalProperties"):
        inner = schema.get(key)
        if isinstance(inner, dict) and (example := _example(cast("dict[str, Any]", inner))):
            return [example] if key == "items" else {"NAME": example}
    return None


def _plural(items: Any) -> str:
    if not isinstance(items, dict):
        return ""
    schema = cast("dict[str, Any]", items)
    many = _WORDS.get(schema.get("type", ""), ("", ""))[1]
    inner = _plural(schema.get("items"))
    return f"{many} of {inner}" if many and inner else many
