"""The type of a decorated function, as type checkers see it.

The parameters and the result stay those of the body, and a call may name `async_mode` and `job_label` too.
No `ParamSpec` can add keywords, so the other arguments of a call with one of these are not checked. No
protocol can tell class methods, and static methods of an instance, from plain methods: calls of these miss an
argument, as type checkers see it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    NotRequired,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    overload,
)

__all__ = ["Decorated", "Decorator", "Handle"]

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
    """A decorated function.

    Attributes:
        __wrapped__: The body.
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
