"""The form of a question, made from a class or a schema: a dataclass, a TypedDict, or a pydantic model,
whose library is not imported for it. Imported with the first question, by whoever asks."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Final, Literal, NotRequired, Required, Union, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.forms.fields import FORMATS, KEYWORDS, WORDS, Form
from python_mcp_server.forms.whole import checked

_MISSING: Final = type(dataclasses.MISSING)
"""Not the object itself: a class that travelled by value has one of its own."""

_PLAIN: Final[dict[Any, Form]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
}


def form_of(schema: object) -> Form:
    """Return the form that a schema stands for; a single text field, `answer`, where it is None.

    Args:
        schema: A JSON schema, or a class: a dataclass, a TypedDict or a pydantic model.

    Raises:
        InvalidInput: It is something else, or has a field that no client can ask for.
    """
    if schema is None:
        return checked(
            {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        )
    if isinstance(schema, Mapping):
        return checked(dict(cast("Mapping[str, Any]", schema)))
    if isinstance(schema, type):
        kind: Any = cast("Any", schema)
        render: Any = getattr(kind, "model_json_schema", None)
        if render is not None:
            return checked(_flattened(render()))
        if dataclasses.is_dataclass(kind) or hasattr(kind, "__required_keys__"):
            return checked(_of_class(kind))
    raise InvalidInput(
        f"schema is {schema!r}; it must be a JSON schema, a dataclass, a TypedDict or a pydantic model"
    )


def _of_class(kind: Any) -> Form:
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise InvalidInput(f"a type of {kind.__name__} cannot be found: {error}") from error
    if not dataclasses.is_dataclass(kind):
        fields = {name: _property(name, hint) for name, hint in hints.items()}
        return {
            "type": "object",
            "properties": fields,
            "required": [n for n in fields if _needed(kind, n, hints[n])],
        }
    properties: dict[str, Any] = {}
    needed: list[str] = []
    for each in dataclasses.fields(kind):
        properties[each.name] = _property(each.name, hints[each.name]) | _words(each.metadata)
        if not isinstance(each.default, _MISSING):
            properties[each.name] |= {} if each.default is None else {"default": _plain(each.default)}
        elif isinstance(each.default_factory, _MISSING):
            needed.append(each.name)
    return {"type": "object", "properties": properties, "required": needed}


def _needed(kind: Any, name: str, hint: Any) -> bool:
    """Whether a TypedDict requires a key; it cannot tell itself where its annotations are texts."""
    marker = typing.get_origin(hint)
    return marker is Required or (name in kind.__required_keys__ and marker is not NotRequired)


def _words(said: Mapping[str, Any]) -> Form:
    return {key: said[key] for key in ("title", "description") if key in said}


def _plain(value: object) -> Any:
    return value.value if isinstance(value, Enum) else value


def _property(name: str, hint: Any) -> Form:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Required, NotRequired):
        return _property(name, args[0])
    if origin is Annotated:
        said = [getattr(each, "description", each) for each in args[1:]]
        described = {"description": said[0]} if said and isinstance(said[0], str) else {}
        return _property(name, args[0]) | described
    if origin in (Union, types.UnionType):
        rest = [each for each in args if each is not types.NoneType]
        if len(rest) == 1:
            return _property(name, rest[0])
    if origin in (list, set, frozenset) and (choices := _choices(args[0])):
        return {"type": "array", "items": {"type": "string", "enum": choices}}
    if choices := _choices(hint):
        return {"type": "string", "enum": choices}
    if isinstance(hint, type) and hint in _PLAIN:
        return dict(_PLAIN[hint])
    raise InvalidInput(
        f"field {name!r} is of type {getattr(hint, '__name__', hint)}; a question may ask for str, int, "
        "float, bool, date, datetime, one of several texts (Literal, Enum), or a list of such texts"
    )


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        values = typing.get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        values = tuple(member.value for member in hint)
    else:
        return []
    return list(values) if all(isinstance(value, str) for value in values) else []


def _flattened(schema: Form) -> Form:
    """Return pydantic's schema of a model with nothing nested: references resolved, null left out."""
    kinds: dict[str, Form] = schema.get("$defs", {})
    properties = {name: _flat(each, kinds) for name, each in schema.get("properties", {}).items()}
    return {"type": "object", "properties": properties, "required": schema.get("required", [])}


def _flat(prop: Form, kinds: dict[str, Form]) -> Form:
    prop = dict(prop)
    if "$ref" in prop:
        prop = kinds.get(prop.pop("$ref").rpartition("/")[2], {}) | prop
    variants: list[Form] = prop.get("anyOf", []) or prop.get("allOf", [])
    kept = [each for each in variants if each.get("type") != "null"]
    if len(kept) == 1:
        prop = _flat(kept[0], kinds) | {k: v for k, v in prop.items() if k not in ("anyOf", "allOf")}
    if "const" in prop:
        prop["enum"] = [prop.pop("const")]
    if "items" in prop:
        prop["items"] = {k: v for k, v in _flat(prop["items"], kinds).items() if k in ("type", "enum")}
    known = WORDS | {"type"} | KEYWORDS.get(prop.get("type", ""), frozenset())
    odd = prop.get("type") not in KEYWORDS  # it is refused, and should be shown as it is
    flat = {key: value for key, value in prop.items() if odd or key in known}
    if flat.get("format", "date") not in FORMATS:
        del flat["format"]
    if flat.get("default", ...) is None:
        del flat["default"]
    return flat
