"""What can be decorated, with which options, and the type that a decorated function has for type checkers.

A wrong use fails where the author wrote it, with a sentence that shows the right form. Every module that
holds a body loads this one, and so workers do too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NotRequired,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    cast,
    overload,
)

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import cut

_USAGE: Final = "write @smart_async or @smart_async(default_timeout=20) above a function"
_TIMES: Final = "default_timeout is how long a caller waits, timeout_seconds how long the body may run"
_FRAMEWORKS: Final = ("mcp", "fastmcp")
_SHOWN_CHARS: Final = 80
_CHOICES: Final = {
    "on_client_cancel": ("auto", "cancel", "detach"),
    "isolation": ("process", "inline"),
    "task": ("auto", "required", "never"),
}


def check_options(
    timeout_env: object, default_timeout: object, choices: Mapping[str, str], name: object, manager: object
) -> None:
    """Check the options of a decoration; `limits` checks its own.

    Args:
        timeout_env: The first argument: it tells the decorator from the function that it decorates.
        default_timeout: The second one.
        choices: Mapping of the options with a choice of words to the words.
        name: The tool's name in its jobs.
        manager: The manager of its jobs.

    Raises:
        TypeError: One of the first two is of another kind.
        InvalidInput: Another option has no meaning.
    """
    _check_variable(timeout_env)
    if isinstance(default_timeout, bool) or not isinstance(default_timeout, (int, float)):
        raise TypeError(f"default_timeout is {_shown(default_timeout)}; it must be a number of seconds")
    for option, word in choices.items():
        if word not in (known := _CHOICES[option]):
            raise InvalidInput(f"{option} is {_shown(word)}; it must be one of {', '.join(known)}")
    if name is not None and not (isinstance(name, str) and name):
        raise InvalidInput(f"name is {_shown(name)}; it must be a text, the tool's name in its jobs")
    if manager is not None:
        from python_mcp_server.jobs.manager import JobManager  # loaded already: the caller has a manager

        if not isinstance(manager, JobManager):
            raise InvalidInput(f"manager is {_shown(manager)}; it must be a JobManager")


def refuse_unknown(options: Collection[str], known: Collection[str]) -> None:
    """Refuse options that the decorator does not have.

    Raises:
        TypeError: There is one; the sentence names the option that may be meant.
    """
    for option in options:
        if any(word in option for word in ("time", "budget", "seconds")):
            hint = f"{_TIMES}: write @smart_async(default_timeout=20)"
        else:
            from difflib import get_close_matches  # late, because only a wrong call needs it

            near = get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
        raise TypeError(f"smart_async has no option {option!r}; {hint}")


def check_function(function: object, isolation: str) -> inspect.Signature:
    """Return the signature of the decorated object.

    Raises:
        TypeError: The object is not a function that a worker can run to one result, or the decorator stands
            in the wrong place.
    """
    _refuse_other_decorators(function)
    if inspect.isclass(function):
        raise TypeError(
            f"smart_async got {_shown(function)}, which is not a function but makes an object; decorate its "
            f"methods, or {_USAGE}"
        )
    if not callable(function):
        raise TypeError(f"smart_async got {_shown(function)}, which is not a function; {_USAGE}")
    if any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _called(function)
    ):
        raise TypeError(
            f"smart_async got {_shown(function)}, a generator, and a call has one result; return a list, and "
            "tell of each step with report_progress"
        )
    if isolation == "inline" and not any(
        map(inspect.iscoroutinefunction, (*_called(function), inspect.unwrap(function)))
    ):
        raise TypeError(
            f"smart_async got {_shown(function)}, which would block the server with isolation='inline'; make "
            "it an async def that only waits, or leave isolation out"
        )
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"smart_async got {_shown(function)}, whose parameters Python does not know; call it in a "
            "function of yours, and decorate that"
        ) from error


def checked_secrets(names: Collection[str] | None, parameters: frozenset[str]) -> frozenset[str] | None:
    """Return the names of the parameters that hold secrets.

    Raises:
        InvalidInput: It is no list, or one of them is no parameter.
    """
    if names is None:
        return None
    given: Any = names  # an author may give anything, such as an iterator, which is empty at the second look
    listed = isinstance(given, Collection) and not isinstance(given, str)
    if not listed or not parameters.issuperset(names):
        known = ", ".join(sorted(parameters)) or "none"
        raise InvalidInput(
            f"secret_parameters is {_shown(names)}; it must be a list of these parameters: {known}"
        )
    return frozenset(names)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, of what a partial calls, or of the class of another object."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return getattr(function, "__name__", type(function).__name__)


def _check_variable(first: object) -> None:
    """Check the name of the variable that holds the budget."""
    _refuse_other_decorators(first)
    if inspect.iscoroutine(first):
        first.close()
        raise TypeError(
            f"smart_async got a call of {first.__qualname__}; pass the function without calling it"
        )
    if (number := _number(first)) is not None:
        raise TypeError(
            f"smart_async got {first!r}, which is neither a function nor the name of a variable; write "
            f"@smart_async(default_timeout={number:g}) above a function"
        )
    if not isinstance(first, str) or not first or first[0].isdigit() or any(c in first for c in "=\0 "):
        raise TypeError(
            f"smart_async got {_shown(first)}, which is neither a function nor the name of a variable; "
            f"{_USAGE}"
        )


def _number(first: object) -> float | None:
    """Return the number that was given in place of a variable's name, or None if it is not a number."""
    if not isinstance(first, str | int | float) or isinstance(first, bool):
        return None
    try:
        return float(first)
    except (ValueError, OverflowError):
        return None


def _refuse_other_decorators(function: object) -> None:
    """Refuse what another decorator made, which would hide the body or stay undecorated."""
    if isinstance(function, (classmethod, staticmethod)):
        kind = type(cast("object", function)).__name__
        raise TypeError(f"smart_async got a {kind}; put @{kind} above @smart_async")
    if isinstance(function, property):
        raise TypeError("smart_async got a property, which is not called; decorate a method")
    framework = type(function).__module__.partition(".")[0]
    if hasattr(function, "__fastmcp__") or (framework in _FRAMEWORKS and hasattr(function, "parameters")):
        made = getattr(function, "name", None) or name_of(cast("Any", function))
        raise TypeError(
            f"smart_async got {made!r}, which a server has registered already, undecorated; put @mcp.tool() "
            "above @smart_async"
        )
    if hasattr(function, BODY_ATTRIBUTE):
        made = name_of(cast("Any", function))
        raise TypeError(
            f"smart_async got {made!r}, which it has decorated already; decorate {made}, or "
            f"{made}.__wrapped__, once"
        )


def _called(function: object) -> tuple[object, object]:
    """Return the two that a call may run: a function or what a partial calls, or the method of an object."""
    return function, type(function).__call__


def _shown(value: object) -> str:
    return cut(repr(value), _SHOWN_CHARS)


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Handle(TypedDict):
    """What a direct call answers in place of the body's value.

    Attributes:
        job_id: The job's id.
        status: The job's state, such as "running".
        message: Why there is a job; a call with `async_mode=True` has none.
    """

    job_id: str
    status: str
    message: NotRequired[str]


class Decorated(Protocol, Generic[P, R_co]):
    """A decorated function: the parameters and the result stay those of the body (`__wrapped__`), and a call
    may name `async_mode` and `job_label` too.

    No `ParamSpec` can add keywords, so the other arguments of a call with one of these are not checked. No
    protocol can tell class methods, and static methods of an instance, from plain methods: calls of these
    miss an argument, as type checkers see it.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, Any]

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    @overload
    def __call__(
        self, *args: Any, async_mode: Literal[True], job_label: str | None = ..., **kwargs: Any
    ) -> Coroutine[Any, Any, Handle]: ...
    @overload
    def __call__(
        self, *args: Any, async_mode: bool, job_label: str | None = ..., **kwargs: Any
    ) -> Coroutine[Any, Any, R_co | Handle]: ...
    @overload
    def __call__(self, *args: Any, job_label: str | None, **kwargs: Any) -> Coroutine[Any, Any, R_co]: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Decorated[P, R_co]: ...
    @overload
    def __get__(
        self: Decorated[Concatenate[Any, Q], R], instance: object, owner: type | None = None, /
    ) -> Decorated[Q, R]: ...


class Decorator(Protocol):
    """The decorator, with its options given."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Decorated[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Decorated[P, R]: ...
