"""What a kind of job may say of itself, checked where a job is submitted, for `kinds`."""

from __future__ import annotations

from typing import Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.options import check_seconds

_ISOLATIONS: Final = ("process", "inline")


def check_kind(isolation: object, **seconds: object) -> None:
    """Refuse values that a job cannot have.

    Args:
        isolation: How it says that it runs.
        seconds: Durations by their names; None where a job has no such duration.

    Raises:
        InvalidInput: The text names the value.
    """
    if isolation not in _ISOLATIONS:
        raise InvalidInput(f"isolation is {isolation!r:.160}; it must be one of {', '.join(_ISOLATIONS)}")
    for name, value in seconds.items():
        if value is not None:
            check_seconds(name, value)
