"""The JSON form of a value: the same for answers, for records, and in workers that hold no model.

It is the form that pydantic gives a value of unknown type, and so the SDK's for a tool without a model; a
test compares the two. Beyond pydantic it knows arrays and scalars of numpy and its like, mappings and
sequences of any class, and bytes that are not text. The module imports nothing that a worker can do without.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from re import Pattern
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

TEXT_LIMIT: Final = 20_000
"""Characters kept of a value that has no form in JSON; guessed: enough to recognise the value."""

_SIMPLE: Final = frozenset({str, bool, type(None)})
_NUMBERS: Final = frozenset({int, float})
_BITS: Final = 14_000
"""Of the largest number that is written as one: Python refuses more than 4,300 digits."""

_DEPTH: Final = 180
"""Containers within each other: clients refuse a message that nests deeper than 200, and an answer that shows
a list of jobs needs some of them."""

_LONGEST: Final = {"f": 8, "c": 16}
"""Bytes of the largest numbers, real and complex, that Python has."""
_FINE: Final = ("[ns]", "[ps]", "[fs]", "[as]")
_TOLD: Final = 3
"""Places that a note names."""

_CONTAINERS: Final = frozenset({dict, list, tuple})
_BLOCKS: Final = frozenset({"text", "image", "audio", "resource", "resource_link"})
_HELPERS: Final = ("to_image_content", "to_audio_content", "to_resource_content")
"""Methods by which the SDK's and FastMCP's helpers for media become blocks of content."""

_AS_TEXT: Final = (
    Decimal, UUID, PurePath, Fraction, IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface,
    IPv6Network,
)  # fmt: skip


class Jsonable(NamedTuple):
    """A value as JSON.

    Attributes:
        value: Only JSON types, and no number that JSON lacks.
        note: What the JSON leaves out of the original; None where it is complete.
    """

    value: Any
    note: str | None = None


def jsonable(value: Any, *, by_alias: bool | None = True) -> Jsonable:
    """Return the JSON form of any value.

    Args:
        value: The value; its own code may run.
        by_alias: Whether fields of models have the names that their models give them outside of Python; None
            where each model says so itself.
    """
    form = Form(by_alias=by_alias)
    try:
        return Jsonable(form.of(value), form.note)
    except BaseException as error:  # noqa: BLE001  the value's own code, such as SystemExit; or it contains itself
        deep = isinstance(error, RecursionError)
        said = (
            "it contains itself, or is nested too deeply" if deep else text_of(error) or type(error).__name__
        )
        return Jsonable(
            text_of(value), f"a value of type {_name(value)} is not JSON ({said}); this is its text"
        )


class Form:
    """Makes the JSON form of one value, and notes what that form leaves out.

    Args:
        by_alias: As `jsonable` takes it.
    """

    def __init__(self, *, by_alias: bool | None) -> None:
        self._by_alias = by_alias
        self._depth = 0
        self._troubles: dict[str, list[str]] = {}

    @property
    def note(self) -> str | None:
        """The parts that the form leaves out, each with its first places."""
        return "; ".join(map(_sentence, self._troubles, self._troubles.values())) or None

    def of(self, value: Any, where: str = "") -> Any:
        """Return the form of a part of the value.

        Raises:
            Exception: Any exception of the value's own code.
        """
        kind = cast("type[object]", type(value))
        if kind in _SIMPLE:
            return value
        if kind in _NUMBERS:
            return self._number(value, where)
        self._depth += 1
        if self._depth > _DEPTH:
            raise RecursionError
        if kind is dict:
            form: Any = self._object(value, where)
        elif kind is list or kind is tuple:
            form = self._array(value, where)
        else:
            form = self._other(value, where)
        self._depth -= 1
        return form

    def _number(self, value: float, where: str) -> Any:
        if isinstance(value, int):
            return value if value.bit_length() < _BITS else self._as_text(hex(value), value, where)
        if math.isfinite(value):
            return value
        self._tell("JSON has no NaN and no infinity, so null stands for it", where)
        return None

    def _object(self, value: Mapping[Any, Any], where: str) -> dict[str, Any]:
        if set(map(type, value)) <= {str}:
            if _are_plain(value.values()):
                return dict(value)
            return {name: self.of(each, f"{where}.{name}") for name, each in value.items()}
        names = {self._key(name): name for name in value}
        return {name: self.of(value[key], f"{where}.{name}") for name, key in names.items()}

    def _array(self, values: Collection[Any], where: str) -> list[Any]:
        if _are_plain(values):
            return list(values)
        return [self.of(each, f"{where}[{index}]") for index, each in enumerate(values)]

    def _key(self, key: Any) -> str:
        """Return a key as pydantic writes it."""
        if isinstance(key, tuple):
            return ",".join(map(self._key, cast("tuple[Any, ...]", key)))
        if isinstance(key, float) and not isinstance(key, Enum):
            return repr(float(key))
        form = Form(by_alias=self._by_alias).of(key)
        if isinstance(form, bool):
            return "true" if form else "false"
        return form if isinstance(form, str) else str(form)

    def _other(self, value: Any, where: str) -> Any:
        if isinstance(value, Enum):
            return self.of(value.value, where)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int | float):
            return self._number(int(value) if isinstance(value, int) else float(value), where)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(cast("bytes", value)), where)
        if (text := _as_said(value)) is not None:
            return text
        if (fields := self._fields(value)) is not None:
            return self.of(fields, where)
        if hasattr(value, "dtype") and hasattr(value, "tolist"):
            return self.of(_untyped(value), where)
        return self._contents(value, where)

    def _fields(self, value: Any) -> Any:
        """Return the fields of a model or a dataclass; None for anything else."""
        if isinstance(value, type):
            return None
        serializer: Any = getattr(cast("Any", type(value)), "__pydantic_serializer__", None)
        if serializer is not None:
            # blocks of content have many fields that are not sent where they are not set
            how: dict[str, Any] = {"by_alias": self._by_alias, "warnings": False, "fallback": self.of}
            known = type(value).__module__.startswith("mcp_types")
            return serializer.to_python(value, mode="json", exclude_none=known, **how)
        for name in _HELPERS:
            if hasattr(value, name):
                return getattr(value, name)()
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return None

    def _contents(self, value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            return self._object(dict(cast("Mapping[Any, Any]", value)), where)
        if isinstance(value, AbstractSet):
            return self._array(_in_order(cast("AbstractSet[Any]", value)), where)
        if isinstance(value, Iterator):
            return self._array(list(unspent(cast("Iterator[Any]", value))), where)
        if isinstance(value, Sequence) or type(value).__module__ == "collections":
            return self._array(list(cast("Iterable[Any]", value)), where)
        return self._as_text(str(value), value, where)

    def _bytes(self, data: bytes, where: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._tell("these bytes are not text in UTF-8, so base64 stands for them", where)
            return base64.b64encode(data).decode()

    def _as_text(self, text: str, value: Any, where: str) -> str:
        self._tell(f"a value of type {_name(value)} has no form in JSON, so its text stands for it", where)
        return _shortened(text)

    def _tell(self, trouble: str, where: str) -> None:
        self._troubles.setdefault(trouble, []).append(where.removeprefix("."))


def block_of(value: Any) -> dict[str, Any] | None:
    """Return a block of MCP content, or the output of a helper for media, in the protocol's form; else
    None.
    """
    kind = cast("type[object]", type(value))
    if kind in _SIMPLE or kind in _NUMBERS or kind in _CONTAINERS:
        return None
    known = kind.__module__.startswith("mcp_types") and getattr(value, "type", None) in _BLOCKS
    return jsonable(value).value if known or any(hasattr(value, name) for name in _HELPERS) else None


def unspent(values: Iterator[Any]) -> Iterator[Any]:
    """Return a copy of an iterator where that can be made, so that the next reader of the iterator finds all
    items.
    """
    try:
        return copy.deepcopy(values)
    except Exception:  # noqa: BLE001  such as a generator, which no other code holds
        return values


def _sentence(trouble: str, places: list[str]) -> str:
    told = [place for place in places[:_TOLD] if place]
    if len(places) > _TOLD:
        told.append(f"{len(places) - _TOLD} more")
    return f"{', '.join(told)}: {trouble}" if told else trouble


def _are_plain(values: Collection[Any]) -> bool:
    """Whether these are texts, booleans, nulls and numbers that JSON has. This is fast, because an answer may
    hold millions.
    """
    kinds: set[type[object]] = set(map(type, values))
    if kinds <= _SIMPLE:
        return True
    if not kinds <= _SIMPLE | _NUMBERS:
        return False
    numbers = values if kinds <= _NUMBERS else [each for each in values if type(each) in _NUMBERS]
    try:
        return all(map(math.isfinite, numbers))
    except OverflowError:
        return False  # an integer beyond the range of floats; each is looked at


def _as_said(value: Any) -> str | None:
    """Return the text that stands for a value of certain types; None for other types."""
    if isinstance(value, datetime | time):
        text = value.isoformat()
        return f"{text[:-6]}Z" if text.endswith("+00:00") else text
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, complex):
        return str(value).strip("()")
    if isinstance(value, Pattern):
        return str(cast("Pattern[Any]", value).pattern)
    return str(value) if isinstance(value, _AS_TEXT) else None


def _duration(span: timedelta) -> str:
    """Return ISO 8601 text, in years of 365 days as pydantic writes it."""
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    years, days = divmod(span.days, 365)
    hours, rest_s = divmod(span.seconds, 3600)
    minutes, seconds = divmod(rest_s, 60)
    exact = f"{seconds}.{span.microseconds:06}".rstrip("0").rstrip(".") if span.microseconds else str(seconds)
    on = "".join(f"{number}{unit}" for number, unit in ((years, "Y"), (days, "D")) if number)
    at = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    at += f"{exact}S" if exact != "0" else ""
    return f"{sign}P{on}" + (f"T{at}" if at else "" if on else "T0S")


def _untyped(value: Any) -> Any:
    """Return the Python values of an array or a scalar of numpy's kind."""
    kind: str = getattr(value.dtype, "str", "")
    if kind[1:3] in ("M8", "m8") and kind.endswith(_FINE):  # they would come as bare numbers
        value = value.astype(f"{kind[1:3]}[us]")
    elif kind[1:2] in ("f", "c") and value.dtype.itemsize > _LONGEST[kind[1]]:  # they would stay numpy's own
        value = value.astype(f"{kind[1]}{_LONGEST[kind[1]]}")
    return value.tolist()


def _in_order(values: AbstractSet[Any]) -> list[Any]:
    """Return the members of a set, in the same order in each process."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def text_of(value: Any, limit: int = TEXT_LIMIT) -> str:
    """Return the text of any value, with so many characters of it at most."""
    try:
        return _shortened(str(value), limit)
    except BaseException as error:  # noqa: BLE001  the value's own code, such as SystemExit
        return f"<its text cannot be made: {type(error).__name__}>"


def _name(value: object) -> str:
    kind = type(value)
    try:
        module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__  # the copy of a worker
        return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    except BaseException:  # noqa: BLE001  the code of its metaclass
        return "unknown"


def _shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit} characters left out)"
