"""The check of keywords that a method hands on to its namesake: a wrong one is refused in a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from python_mcp_server.errors import InvalidInput


def check_keywords(method: Callable[..., Any], given: Iterable[str]) -> None:
    """Refuse keywords that a method does not have.

    Raises:
        InvalidInput: The text names one, and those that there are.
    """
    known = [name for name in inspect.signature(method).parameters if name != "self"]
    if unknown := set(given) - set(known):
        raise InvalidInput(
            f"{method.__name__} has no parameter {min(unknown)!r:.100}; it has {', '.join(known)}"
        )
