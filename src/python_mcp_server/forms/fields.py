"""One field of a form: what its schema may say, and which values it takes.

Imported by `whole` and whoever shows or makes a form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

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
        InvalidInput: It cannot be shown or checked; the text says what is wrong, and what would be right.
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
    """Whether a field's schema says that it is of one type, or null."""
    said: Any = cast("Form", prop).get("type") if isinstance(prop, dict) else None
    kinds = cast("list[Any]", said) if isinstance(said, list) else []
    return "null" in kinds and len([each for each in kinds if each != "null"]) == 1


def options(prop: Form) -> list[Any] | None:
    """Return the values that a field offers; None where any value of its type will do."""
    inner: Form = prop["items"] if prop["type"] == "array" else prop
    if "enum" in inner:
        return inner["enum"]
    titled = inner.get("oneOf", inner.get("anyOf"))
    return None if titled is None else [each["const"] for each in titled]


def type_problem(kind: str, value: Any) -> str | None:
    """Return what a value must be to be of a type; None where it is."""
    types_of: dict[str, Any] = {"string": str, "number": (int, float), "integer": int, "array": list}
    if kind == "boolean":
        return None if isinstance(value, bool) else "true or false"
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return None
    fits = isinstance(value, types_of[kind]) and not isinstance(value, bool)
    article = "an" if kind[0] in "ai" else "a"
    return None if fits else f"{article} {kind}"


def choice_problem(prop: Form, value: Any) -> str | None:
    """Return what a value of the right type must be to be offered; None where it is."""
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
    """Return the values of `[{"const": ...}]`; as it is what has another shape."""
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
    """Its bounds are not looked at: a default may say that nothing was given, such as an empty text."""
    if "default" not in prop:
        return None
    value = prop["default"]
    problem = type_problem(prop["type"], value) or choice_problem(prop, value)
    return f"has default {value!r}; it must be {problem}" if problem else None
