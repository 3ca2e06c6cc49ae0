"""The form of a question: a JSON schema of an object with flat properties, as in MCP's elicitation.

A form is made from a schema, a dataclass, a TypedDict, or a pydantic model, without an import of pydantic.
Forms are checked when they are made, and answers against their form. The module is imported with the first
question. jsonschema is not used: its formats need more packages, and its import takes 0.1 s in a worker.

https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Final, Literal, NotRequired, Required, Union, cast

from python_mcp_server.errors import InvalidInput

Form = dict[str, Any]

WORDS: Final = frozenset({"title", "description", "default"})
_ARRAY: Final = frozenset({"items", "minItems", "maxItems"})
KEYWORDS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"minLength", "maxLength", "format", "enum", "enumNames", "oneOf"}),
    "number": frozenset({"minimum", "maximum"}),
    "integer": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "array": _ARRAY,
}
FORMATS: Final = ("email", "uri", "date", "date-time")
_RANGES: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))


def field_of(name: object, given: Any) -> Form:
    """Return the schema of a field; one of type `["string", "null"]` as that of a string.

    Raises:
        InvalidInput: The field cannot be shown or checked; the text says what is wrong, and what would be
            right.
    """
    prop: Form = dict(cast("Form", given)) if isinstance(given, dict) else {}
    if is_optional(prop):
        prop["type"] = next(each for each in prop["type"] if each != "null")
        if prop.get("default", ...) is None:
            del prop["default"]
    kind: Any = prop.get("type")
    if not (isinstance(name, str) and isinstance(kind, str) and kind in KEYWORDS):
        raise InvalidInput(
            f"field {name!r} of the schema is {given!r}; its type must be one of {', '.join(KEYWORDS)}"
        )
    if unknown := sorted(prop.keys() - KEYWORDS[kind] - WORDS - {"type"}, key=str):
        known = ", ".join(sorted(KEYWORDS[kind] | WORDS))
        raise InvalidInput(f"field {name!r} of the schema has {unknown[0]!r}; a {kind} may have {known}")
    if problem := _offer_problem(prop) or _keyword_problem(prop) or _default_problem(prop):
        raise InvalidInput(f"field {name!r} of the schema {problem}")
    return prop


def is_optional(prop: object) -> bool:
    """Whether a field's schema allows one type, or null."""
    said: Any = cast("Form", prop).get("type") if isinstance(prop, dict) else None
    kinds = cast("list[Any]", said) if isinstance(said, list) else []
    return "null" in kinds and len([each for each in kinds if each != "null"]) == 1


def options(prop: Form) -> list[Any] | None:
    """Return the values that a field offers; None where it accepts any value of its type."""
    inner: Form = prop["items"] if prop["type"] == "array" else prop
    if "enum" in inner:
        return inner["enum"]
    titled = inner.get("oneOf", inner.get("anyOf"))
    return None if titled is None else [each["const"] for each in titled]


def type_problem(kind: str, value: Any) -> str | None:
    """Describe the required type if a value does not have it; else return None."""
    types_of: dict[str, Any] = {"string": str, "number": (int, float), "integer": int, "array": list}
    if kind == "boolean":
        return None if isinstance(value, bool) else "true or false"
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return None
    fits = isinstance(value, types_of[kind]) and not isinstance(value, bool)
    article = "an" if kind[0] in "ai" else "a"
    return None if fits else f"{article} {kind}"


def choice_problem(prop: Form, value: Any) -> str | None:
    """Return which values a field offers; None where this value of the right type is one of them."""
    choices = options(prop)
    if choices is None:
        return None
    chosen = cast("list[Any]", value if isinstance(value, list) else [value])
    if all(each in choices for each in chosen):
        return None
    offered = ", ".join(map(repr, choices))
    return f"some of {offered}" if prop["type"] == "array" else f"one of {offered}"


# ---- what stands in the schema


def _offer_problem(prop: Form) -> str | None:
    inner: Any = prop.get("items") if prop["type"] == "array" else prop
    if prop["type"] == "array" and not _offers_texts(inner):
        return "is an array; its items must be an enum of texts"
    for word in ("enum", "oneOf", "anyOf"):
        said = inner.get(word, ...)
        if said is not ... and not _all_texts(said if word == "enum" else _constants(said)):
            how = "" if word == "enum" else ", each as {'const': ...}"
            return f"offers {said!r}; only texts can be offered, one or more{how}"
    return None


def _offers_texts(items: Any) -> bool:
    if not isinstance(items, dict):
        return False
    inner = cast("Form", items)
    return inner.get("type", "string") == "string" and not inner.keys().isdisjoint({"enum", "oneOf", "anyOf"})


def _all_texts(value: object) -> bool:
    texts = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(texts) and all(isinstance(text, str) for text in texts)


def _constants(titled: object) -> object:
    """Return the values of `[{"const": ...}]`; any other shape is returned as it is."""
    if not isinstance(titled, list):
        return titled
    each_said = cast("list[Any]", titled)
    return [cast("Form", each).get("const") if isinstance(each, dict) else None for each in each_said]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


_MEANT: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    **dict.fromkeys(("title", "description"), (_text, "a text")),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (_count, "a whole number from 0")),
    **dict.fromkeys(("minimum", "maximum"), (_number, "a number")),
    "enumNames": (_all_texts, "a list of texts"),
    "format": (FORMATS.__contains__, f"one of {', '.join(FORMATS)}"),
}


def _keyword_problem(prop: Form) -> str | None:
    for word, value in prop.items():
        fits, right = _MEANT.get(word, (None, ""))
        if fits is not None and not fits(value):
            return f"has {word} {value!r}; it must be {right}"
    for least, most in _RANGES:
        if least in prop and most in prop and prop[least] > prop[most]:
            return f"has {least} {prop[least]!r} above {most} {prop[most]!r}; nothing would fit"
    return None


def _default_problem(prop: Form) -> str | None:
    """Describe a fault of a default. It may be out of bounds: an empty text means that nothing is given."""
    if "default" not in prop:
        return None
    value = prop["default"]
    problem = type_problem(prop["type"], value) or choice_problem(prop, value)
    return f"has default {value!r}; it must be {problem}" if problem else None


_MISSING: Final = type(dataclasses.MISSING)
"""The name, not the object: a class that was sent by value has an object of its own."""

_PLAIN: Final[dict[Any, Form]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
}


def form_of(schema: object) -> Form:
    """Return the form that a schema stands for; None stands for a single text field, `answer`.

    Args:
        schema: A JSON schema, or a class: a dataclass, a TypedDict or a pydantic model.

    Raises:
        InvalidInput: The schema is something else, or has a field that no client can ask for.
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
    """Whether a TypedDict requires a key; the class itself does not know where its annotations are texts."""
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
    odd = prop.get("type") not in KEYWORDS  # the schema is refused, and should be shown as it is
    flat = {key: value for key, value in prop.items() if odd or key in known}
    if flat.get("format", "date") not in FORMATS:
        del flat["format"]
    if flat.get("default", ...) is None:
        del flat["default"]
    return flat


_MOST_BYTES: Final = 64 * 1024
_TOP: Final = frozenset(
    {"type", "properties", "required", "title", "description", "$schema", "$defs", "additionalProperties"}
)


def checked(schema: Form) -> Form:
    """Return the schema as a form.

    Raises:
        InvalidInput: The schema is not a form; the text says what is wrong, and what would be right.
    """
    properties = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not isinstance(properties, dict):
        raise InvalidInput("schema must be that of an object: {'type': 'object', 'properties': {...}}")
    if unknown := sorted(schema.keys() - _TOP, key=str):
        raise InvalidInput(f"schema has {unknown[0]!r}; a question's schema has 'properties' and 'required'")
    given = cast("dict[str, Any]", properties)
    said = schema.get("required", [])
    _check_size({"properties": given, "required": said}, "schema")
    required = _names_in(said)
    if missing := [name for name in required if name not in given]:
        raise InvalidInput(f"schema requires {missing[0]!r}, which is none of its properties")
    fields = {name: field_of(name, prop) for name, prop in given.items()}
    needed = [name for name in required if not is_optional(given[name])]
    return {"type": "object", "properties": fields, "required": needed}


def _names_in(required: object) -> list[str]:
    names = list(cast("Iterable[Any]", required)) if isinstance(required, list | tuple) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"schema has required {required!r}; it must be a list of names of its properties")
    return names


def _check_size(value: object, what: str) -> None:
    try:
        size = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} holds something that is no JSON: {error}") from None
    if size > _MOST_BYTES:
        raise InvalidInput(f"{what} takes {size} bytes; it may take {_MOST_BYTES}")


# ---- answers


def validate(form: Form, content: object, *, strict: bool = False) -> dict[str, Any]:
    """Return the content of an answer, with the defaults of missing fields.

    Args:
        form: The form.
        content: The answer's content.
        strict: Whether fields that the form does not have are refused; else they are left out.

    Raises:
        InvalidInput: The content does not fit the form.
    """
    if not isinstance(content, Mapping):
        raise InvalidInput(f"the answer is {content!r}; it must be an object with {_names(form)}")
    said = cast("Mapping[str, Any]", content)
    _check_size(said, "the answer")
    given = {name: value for name, value in said.items() if value is not None}
    properties: dict[str, Form] = form["properties"]
    if strict and (unknown := sorted(given.keys() - properties.keys(), key=str)):
        raise InvalidInput(f"the answer has {unknown[0]!r}; the question asks for {_names(form)}")
    for name in form["required"]:
        if name not in given:
            raise InvalidInput(f"the answer lacks {name!r}; the question asks for {_names(form)}")
    return {
        name: _value(name, prop, given[name]) if name in given else prop["default"]
        for name, prop in properties.items()
        if name in given or "default" in prop
    }


def _names(form: Form) -> str:
    said = [f"{name!r} ({prop['type']})" for name, prop in form["properties"].items()]
    return ", ".join(said) or "no fields"


def _value(name: str, prop: Form, value: Any) -> Any:
    kind: str = prop["type"]
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    problem = type_problem(kind, value) or choice_problem(prop, value) or _bounds_problem(prop, value)
    if problem:
        raise InvalidInput(f"{name!r} of the answer is {value!r}; it must be {problem}")
    return value


def _bounds_problem(prop: Form, value: Any) -> str | None:
    size = value if isinstance(value, int | float) else len(value)
    unit = {"string": " characters", "array": " choices"}.get(prop["type"], "")
    for word in ("minLength", "minItems", "minimum"):
        if word in prop and size < prop[word]:
            return f"at least {prop[word]}{unit}"
    for word in ("maxLength", "maxItems", "maximum"):
        if word in prop and size > prop[word]:
            return f"at most {prop[word]}{unit}"
    return _format_problem(prop.get("format"), str(value))


def _format_problem(name: str | None, value: str) -> str | None:
    if name == "email":
        return None if "@" in value[1:-1] else "an address such as name@example.org"
    if name == "uri":
        return None if ":" in value[1:] else "a URI such as https://example.org"
    if name is None:
        return None
    try:
        (date if name == "date" else datetime).fromisoformat(value)
    except ValueError:
        return "a date such as 2026-01-31" if name == "date" else "a time such as 2026-01-31T12:00:00Z"
    return None


def from_words(form: Form, words: Mapping[str, str]) -> dict[str, Any]:
    """Convert typed content, each field as a text, to the types of the form."""
    return {name: _from_word(form["properties"].get(name, {}), word) for name, word in words.items()}


def _from_word(prop: Form, word: str) -> Any:
    kind = prop.get("type")
    if kind == "array":
        return [part.strip() for part in word.split(",") if part.strip()]
    if kind == "boolean":
        return {"true": True, "yes": True, "false": False, "no": False}.get(word.lower(), word)
    for number in {"integer": (int,), "number": (int, float)}.get(kind or "", ()):
        try:
            return number(word)
        except ValueError:
            continue
    return word
