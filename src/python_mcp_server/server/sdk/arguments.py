"""How the arguments of a tool are read: text stays text, a number is taken as text where text is wanted, and
null means the default.

Clients send JSON in a string where a list or an object is meant, numbers where texts are meant, and fill in
every optional parameter with null. The SDK parses each string that looks like JSON before it looks at the
parameter's type, which takes text apart, and refuses null where the type does not have it. So the annotation
of each parameter says here how it is read, in terms of pydantic, which the SDK and FastMCP both use; the JSON
schema stays as it is.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Annotated, Any, Final, Literal, cast, get_args, get_origin
from uuid import UUID

from mcp.server.mcpserver import Resolve
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from pydantic import BaseModel, Field, GetCoreSchemaHandler, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUseDefault, SchemaValidator, core_schema
from typing_inspection.introspection import is_union_origin

_EMPTY: Final = inspect.Parameter.empty
_TEXTS: Final = (str, bytes, PurePath, Enum, date, time, timedelta, Decimal, UUID)
_OF_FIELDS: Final = frozenset({"default", "default_factory", "repr"})
_MANY: Final = 5_000
"""Faults of one value that are told apart; pydantic takes 2 s to tell of a million."""
_MOST_BITS: Final = 14_000
"""Of an integer that is taken as text: Python makes none of more than 4,300 digits."""
_CONTAINERS: Final = frozenset({"list", "tuple", "set", "frozenset", "dict", "generator"})
_NO_SCHEMAS: Final = frozenset({"metadata", "default", "expected"})
"""The parts of a schema that are no schemas."""


@dataclass(frozen=True, slots=True)
class Read:
    """How a parameter is read, among the metadata of its annotation."""

    kind: Any
    optional: bool

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Let pydantic read the value as the author's annotation has it, and else as `_Reader` does."""
        schema = handler.generate_schema(self.kind)
        reader = _Reader(self.optional, _fast(schema, handler))
        return core_schema.no_info_wrap_validator_function(reader.read, schema)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the values of one parameter.

    Attributes:
        optional: Whether null means the default.
        fast: Makes a validator that stops at the first fault, and takes numbers as texts.
    """

    optional: bool
    fast: Callable[[], SchemaValidator]

    def read(self, value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
        """Return a value as it is meant."""
        try:
            return self._taking_numbers(value, validate)
        except ValidationError:
            if value is None and self.optional:
                raise PydanticUseDefault from None
            if not isinstance(value, str) or not isinstance(meant := _parsed(value), list | dict | NoneType):
                raise
            try:
                return self._taking_numbers(meant, validate)
            except ValidationError:
                pass  # the error is about the value that was sent, not its parsed form
            raise

    def _taking_numbers(self, value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
        """Validate a value; a number in the place of a text is taken as its text."""
        try:
            return validate(value)
        except ValidationError as error:
            if error.error_count() > _MANY:
                try:
                    return self.fast().validate_python(value)
                except ValidationError as first:  # a model's own validator takes no number as a text
                    if not _numbers_for_texts(first):
                        raise
            numbers = _numbers_for_texts(error)
            if not numbers:
                raise
        meant = copy.deepcopy(value)
        for place in numbers:
            meant = _with_text(meant, place)
        return validate(meant)


def _fast(schema: core_schema.CoreSchema, handler: GetCoreSchemaHandler) -> Callable[[], SchemaValidator]:
    """Return a maker of the schema's validator, which stops at the first fault and takes numbers as texts."""
    definitions: dict[str, Any] = {}

    def changed(part: Any) -> Any:
        if isinstance(part, list | tuple):
            parts = [changed(each) for each in cast("list[Any]", part)]
            return tuple(parts) if isinstance(part, tuple) else parts
        if not isinstance(part, dict):
            return part
        node = cast("dict[str, Any]", part)
        kind, ref = node.get("type"), node.get("schema_ref")
        if kind == "definition-ref" and ref not in definitions:
            definitions[cast("str", ref)] = None  # it may contain itself
            definitions[cast("str", ref)] = changed(handler.resolve_ref_schema(cast("Any", node)))
        made = {key: each if key in _NO_SCHEMAS else changed(each) for key, each in node.items()}
        if kind == "str":
            made["coerce_numbers_to_str"] = True
        elif isinstance(kind, str) and kind in _CONTAINERS:
            made["fail_fast"] = True
        return made

    whole = changed(schema)
    return functools.cache(
        lambda: SchemaValidator(core_schema.definitions_schema(whole, list(definitions.values())))
    )


def _numbers_for_texts(error: ValidationError) -> list[tuple[int | str, ...]]:
    """Return the places of the numbers that are where texts are expected."""
    faults = error.errors(include_url=False, include_context=False)
    return [fault["loc"] for fault in faults if fault["type"] == "string_type" and _is_number(fault["input"])]


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() <= _MOST_BITS
    return isinstance(value, float)


def _with_text(value: Any, place: tuple[int | str, ...]) -> Any:
    """Return JSON with the number at this place as text; the same JSON if the place does not exist."""
    if not place:
        return str(value) if _is_number(value) else value
    first, *rest = place
    inside = isinstance(value, dict) and first in value
    if inside or (isinstance(value, list) and isinstance(first, int)):
        parts = cast("dict[int | str, Any]", value)
        parts[first] = _with_text(parts[first], tuple(rest))
    return cast("Any", value)


def reading_as_meant(fn: Callable[..., Any], returns: Any = _EMPTY) -> Callable[..., Any]:
    """Return an async function of a tool with parameters that are read as `read_as_meant` says.

    Args:
        fn: The function.
        returns: The annotation of its results for the SDK; the function's own where left out.
    """
    signature = inspect.signature(fn, eval_str=True)
    context = find_context_parameter(fn)

    @functools.wraps(fn)
    async def wrapper(**arguments: Any) -> Any:
        return await fn(**arguments)

    given = [each if name == context else read_as_meant(each) for name, each in signature.parameters.items()]
    told = signature.return_annotation if returns is _EMPTY else returns
    wrapper.__signature__ = signature.replace(parameters=given, return_annotation=told)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in given} | {"return": told}
    return wrapper


def read_as_meant(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter with an annotation that reads text as text and null as the default.

    Args:
        parameter: One that a client fills in; its annotation is resolved, or missing.
    """
    base, *metadata = _parts(parameter)
    if isinstance(base, str) or any(isinstance(each, Read | Resolve) for each in metadata):
        return parameter  # a name that cannot be resolved, or not for a client
    if isinstance(parameter.default, FieldInfo):
        metadata.append(parameter.default)
    field = next((each for each in metadata if isinstance(each, FieldInfo) and not each.is_required()), None)
    optional = field is not None or (
        not isinstance(parameter.default, FieldInfo) and (parameter.default is not _EMPTY)
    )
    kind = Annotated[(base, *map(_inner, metadata))] if metadata else base
    # the SDK parses no text where it sees `str`; other types keep their face
    face = str if _takes_text(base) else base
    markers = [each for each in metadata if _is_foreign(each)]
    made = parameter.replace(annotation=Annotated[(face, Read(kind, optional), *markers)])
    if field is not None:
        return made.replace(default=_default_of(field))
    return made.replace(default=Field()) if isinstance(made.default, FieldInfo) else made


def _parts(parameter: inspect.Parameter) -> tuple[Any, ...]:
    annotation = parameter.annotation
    if annotation is _EMPTY:
        shown = {"title": parameter.name, "type": "string"}  # by the SDK; by FastMCP as it is
        return (Any,) if "fastmcp" in sys.modules else (Any, WithJsonSchema(shown))
    return get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)


def _inner(metadata: Any) -> Any:
    """Return the metadata beside the author's type: without a default, which belongs to the parameter, and
    with a text as the description that it is to FastMCP.
    """
    if isinstance(metadata, str) and "fastmcp" in sys.modules:
        return Field(description=metadata)
    if not isinstance(metadata, FieldInfo):
        return metadata
    facts = metadata.asdict()
    said = {name: value for name, value in facts["attributes"].items() if value is not None}
    described: Any = Field(**{name: value for name, value in said.items() if name not in _OF_FIELDS})
    described.metadata.extend(facts["metadata"])
    return described


def _default_of(field: FieldInfo) -> Any:
    if field.default_factory is None:
        return field.default
    return Field(default_factory=field.default_factory)  # type: ignore[reportArgumentType]


def _is_foreign(metadata: Any) -> bool:
    """Whether this metadata is unknown to pydantic: others look for it, such as FastMCP and `registry`."""
    if isinstance(metadata, FieldInfo) or hasattr(metadata, "__get_pydantic_core_schema__"):
        return False
    return type(metadata).__module__.partition(".")[0] not in ("annotated_types", "pydantic")


def _takes_text(kind: Any) -> bool:
    """Whether a text can be a value of this type as it is."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _takes_text(get_args(kind)[0])
    if is_union_origin(origin):
        return any(_takes_text(each) for each in get_args(kind))
    if origin is not None:
        return origin is Literal
    if kind in (Any, object) or not isinstance(kind, type):
        return kind is not None
    if issubclass(kind, _TEXTS):
        return True
    return hasattr(cast("object", kind), "__get_pydantic_core_schema__") and not issubclass(kind, BaseModel)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
