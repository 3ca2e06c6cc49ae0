"""Text that can be sent: valid Unicode, bounded, and available even where an exception hides its own.

The module knows no SDK. Text that JSON in UTF-8 cannot carry would end the SDK's stock transports with their
server.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Final, cast

import pydantic_core
from pydantic_core import PydanticSerializationError

_MESSAGE_CHARS: Final = 4_000


def repair_unicode(value: Any) -> Any:
    """Return plain data with its broken Unicode repaired; the same object where none is broken.

    Halves of surrogate pairs that belong together are joined, others become U+FFFD.

    Raises:
        RecursionError: The value contains itself.
    """
    if type(value) in {dict, list}:  # this finds out ten times faster that nothing is broken
        try:
            pydantic_core.to_json(value)
        except (PydanticSerializationError, ValueError):
            return _parts_repaired(value)
        return value
    return _parts_repaired(value)


def _parts_repaired(value: Any) -> Any:
    if isinstance(value, str):
        if _encodable(value):
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if type(value) is dict:
        items = cast("dict[Any, Any]", value).items()
        made = {_parts_repaired(name): _parts_repaired(item) for name, item in items}
        same = all(a is b and x is y for (a, x), (b, y) in zip(made.items(), items, strict=False))
        return cast("Any", value) if same and len(made) == len(items) else made
    if type(value) in {list, tuple, set, frozenset}:
        parts = [_parts_repaired(part) for part in value]
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _whole_fields(value)
    return value


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole_fields(value: Any) -> Any:
    old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    new = {name: _parts_repaired(item) for name, item in old.items()}
    changed = [name for name in old if new[name] is not old[name]]
    if not changed:
        return value
    made = copy.copy(value)
    for name in changed:
        object.__setattr__(made, name, new[name])
    return made


def message_of(exc: BaseException) -> str:
    """Return an exception's text, head and tail of a long one."""
    try:
        text = repair_unicode(str(exc))
    except BaseException as broken:  # noqa: BLE001  `__str__` is the body's code, which may raise SystemExit
        return f"(its text cannot be had: {type(broken).__name__})"
    return shortened(text)


def shortened(text: str) -> str:
    """Return a text, head and tail of a long one."""
    if len(text) <= _MESSAGE_CHARS:
        return text
    half = _MESSAGE_CHARS // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[-half:]}"


def named(exc: BaseException) -> str:
    """Return the name of an exception's class, without its module, and its text."""
    name, message = type(exc).__name__, message_of(exc)
    return f"{name}: {message}" if message else name


def type_name(value: object) -> str:
    """Return the qualified name of a value's type."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
