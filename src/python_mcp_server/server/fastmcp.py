"""What FastMCP wants to see of a decorated function; imported only where the program has FastMCP loaded.

One function may become a tool of either kind of server, and nobody knows of which when it is decorated.
The SDK recognises the parameter for its context by the type, FastMCP by the default: so the one that the
decorator adds has both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from fastmcp.exceptions import FastMCPError
from fastmcp.server.context import Context
from fastmcp.server.dependencies import CurrentContext, OptionalCurrentContext


def context_parameter(fn: Callable[..., Any]) -> str | None:
    """Return the parameter that FastMCP fills with its context: by its type, or by its default."""
    hints = _hints(fn)
    filled = (type(CurrentContext()), type(OptionalCurrentContext()))
    for name, parameter in inspect.signature(fn).parameters.items():
        if isinstance(parameter.default, filled) or _is_context(hints.get(name)):
            return name
    return None


def context_default() -> Any:
    """Return the default that makes FastMCP hand its context over, and hides the parameter from clients."""
    return OptionalCurrentContext()


def sentence_of(exc: BaseException) -> str | None:
    """Return what an exception of FastMCP's own says, which its servers pass on as it is; else None."""
    return str(exc) if isinstance(exc, FastMCPError) else None


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(fn)
    except (NameError, TypeError):  # a forward reference, or no function: FastMCP finds no types either
        return {}


def _is_context(annotation: Any) -> bool:
    kinds = (annotation, *get_args(annotation))
    return any(isinstance(kind, type) and issubclass(kind, Context) for kind in kinds)
