"""The form of a question: a JSON schema of an object with flat properties, as MCP's elicitation has it.

Forms and answers are checked here, single fields in `fields`; `makers` makes a form from a
class. Imported with the first question, by whoever asks or answers.

https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.forms.fields import Form, choice_problem, field_of, is_optional, type_problem

_MOST_BYTES: Final = 64 * 1024
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
