"""Values as plain JSON, for records that other processes read and that outlive every class.

The jobs and the pool use it, the latter only for values that cannot be sent: it loads what a worker can
do without.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

TEXT_LIMIT: Final = 20_000
"""Characters kept of a value that is no JSON; guessed: enough to recognise it by."""


def to_json(value: Any) -> tuple[Any, str | None]:
    """Return the value as JSON types, and a note where that was not possible.

    Models (anything with `model_dump`), dataclasses, enums, paths, times, sets and tuples become
    what JSON has for them. Anything else becomes a bounded text of itself, and the note says so.
    """
    try:
        return json.loads(json.dumps(value, default=_simplify, allow_nan=False)), None
    except Exception as error:  # noqa: BLE001  the value's own code may run here
        kind = cast("type[object]", type(value))
        note = f"the result, a {kind.__module__}.{kind.__qualname__}, is no JSON ({error}); this is its text"
        return _text(value), note


def described(value: Any) -> tuple[Any, str | None]:
    """Do what `to_json` does, whatever the value's own code does to prevent it."""
    try:
        return to_json(value)
    except BaseException as error:  # noqa: BLE001  such as SystemExit: it must not cost the outcome
        return None, f"the result, a {type(value).__qualname__}, has no text: {type(error).__name__}"


def _simplify(value: Any) -> Any:
    plain: Any = value  # isinstance would narrow it to a mapping of unknown things
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (PurePath, UUID, Decimal)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(plain)
    if isinstance(value, AbstractSet):
        return sorted(plain, key=repr)
    raise TypeError(f"a {type(value).__qualname__} has no form in JSON")


def _text(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  the value's own code
        if type(value) is int:
            return _shortened(hex(value))  # decimal digits are refused from a few thousand on
        text = f"<its text cannot be made: {type(error).__name__}>"
    return _shortened(text)


def _shortened(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}... ({len(text) - TEXT_LIMIT} characters left out)"
