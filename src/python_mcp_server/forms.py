"""The form of a question: a JSON schema of an object with flat properties, as MCP's elicitation has it.

Forms and answers are checked here; `form_makers` makes a form from a class. Imported with the first
question, by whoever asks or answers.

https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput

Form = dict[str, Any]

_MOST_BYTES: Final = 64 * 1024
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
_TOP: Final = frozenset(
    {"type", "properties", "required", "title", "description", "$schema", "$defs", "additionalProperties"}
)


def checked(schema: Form) -> Form:
    """Return the schema as a form.

    Raises:
        InvalidInput: It is not one; the text says what is wrong, and what would be right.
    """
    properties = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not isinstance(properties, dict):
        raise InvalidInput("schema must be that of an object: {'type': 'object', 'properties': {...}}")
    if unknown := sorted(schema.keys() - _TOP):
        raise InvalidInput(f"schema has {unknown[0]!r}; a question's schema has 'properties' and 'required'")
    fields = cast("dict[str, Any]", properties)
    for name, prop in fields.items():
        _check_property(name, prop)
    required = schema.get("required", [])
    missing = [name for name in required if name not in fields]
    if missing:
        raise InvalidInput(f"schema requires {missing[0]!r}, which is none of its properties")
    form = {"type": "object", "properties": fields, "required": list(required)}
    _check_size(form, "schema")
    return form


def _check_property(name: object, given: Any) -> None:
    prop = cast("Form", given if isinstance(given, dict) else {})
    kind: Any = prop.get("type")
    if not isinstance(name, str) or kind not in KEYWORDS:
        raise InvalidInput(
            f"field {name!r} of the schema is {given!r}; its type must be one of {', '.join(KEYWORDS)}"
        )
    if unknown := sorted(prop.keys() - KEYWORDS[kind] - WORDS - {"type"}):
        known = ", ".join(sorted(KEYWORDS[kind] | WORDS))
        raise InvalidInput(f"field {name!r} of the schema has {unknown[0]!r}; a {kind} may have {known}")
    if prop.get("format", "date") not in FORMATS:
        raise InvalidInput(
            f"field {name!r} of the schema has format {prop['format']!r}; it may have {', '.join(FORMATS)}"
        )
    choices = options(prop)
    if kind == "array" and choices is None:
        raise InvalidInput(f"field {name!r} of the schema is an array; its items must be an enum of texts")
    if choices is not None and not all(isinstance(choice, str) for choice in choices):
        raise InvalidInput(f"field {name!r} of the schema offers {choices!r}; only texts can be offered")


def options(prop: Form) -> list[Any] | None:
    """Return the values that a property offers; None where any value of its type will do."""
    inner: Any = prop.get("items", {}) if prop["type"] == "array" else prop
    if isinstance(inner.get("enum"), list):
        return inner["enum"]
    titled: Any = inner.get("oneOf") or inner.get("anyOf")
    return None if titled is None else [each.get("const") for each in titled]


def _check_size(value: object, what: str) -> None:
    try:
        size = len(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} holds something that is no JSON: {error}") from None
    if size > _MOST_BYTES:
        raise InvalidInput(f"{what} takes {size} bytes; it may take {_MOST_BYTES}")


# ---- answers


def fitted(form: Form, content: object, *, strict: bool = False) -> dict[str, Any]:
    """Return the content of an answer, with the defaults of what was left out.

    Args:
        form: The form.
        content: What was answered.
        strict: Whether fields that the form does not have are refused; else they are left out.

    Raises:
        InvalidInput: It does not fit the form.
    """
    if not isinstance(content, Mapping):
        raise InvalidInput(f"the answer is {content!r}; it must be an object with {_names(form)}")
    said = cast("Mapping[str, Any]", content)
    _check_size(said, "the answer")
    given = {name: value for name, value in said.items() if value is not None}
    properties: dict[str, Form] = form["properties"]
    if strict and (unknown := sorted(given.keys() - properties.keys())):
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
    problem = _type_problem(kind, value) or _choice_problem(prop, value) or _bounds_problem(prop, value)
    if problem:
        raise InvalidInput(f"{name!r} of the answer is {value!r}; it must be {problem}")
    return value


def _type_problem(kind: str, value: Any) -> str | None:
    types_of: dict[str, Any] = {"string": str, "number": (int, float), "integer": int, "array": list}
    if kind == "boolean":
        return None if isinstance(value, bool) else "true or false"
    fits = isinstance(value, types_of[kind]) and not isinstance(value, bool)
    article = "an" if kind[0] in "ai" else "a"
    return None if fits else f"{article} {kind}"


def _choice_problem(prop: Form, value: Any) -> str | None:
    choices = options(prop)
    if choices is None:
        return None
    chosen = cast("list[Any]", value if isinstance(value, list) else [value])
    offered = ", ".join(map(repr, choices))
    if all(each in choices for each in chosen):
        return None
    return f"some of {offered}" if prop["type"] == "array" else f"one of {offered}"


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
    """Return the content that somebody typed, each field as a text, in the types of the form."""
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
