"""What one decoration says, and the calls that are made under it.

Loaded with every module that holds a body, so by workers too: the manager is loaded when the first call is
made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import RemoteError
from python_mcp_server.functions import default_manager
from python_mcp_server.limits import Limits
from python_mcp_server.settings import budget

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.request import JobResult, Request

ADDED_PARAMETERS: Final = ("async_mode", "job_label")
"""The parameters that a decorated function takes beyond its body's, unless the body declares them."""

_USAGE: Final = "write @smart_async or @smart_async(default_timeout=20) above a function"


def check_arguments(first: object, default_timeout: object) -> None:
    """Check the two arguments that the decorator takes by position.

    Raises:
        TypeError: One of them is of another kind; the decorator is told from what it decorates by these.
    """
    _refuse_descriptor(first)
    if inspect.iscoroutine(first):
        first.close()
        raise TypeError(
            f"smart_async got a call of {first.__qualname__}; pass the function without calling it"
        )
    if not isinstance(first, str) or _is_number(first):
        raise TypeError(
            f"smart_async got {first!r}, which is neither a function nor the name of a variable; {_USAGE}"
        )
    if isinstance(default_timeout, bool) or not isinstance(default_timeout, (int, float)):
        raise TypeError(f"default_timeout is {default_timeout!r}; it must be a number of seconds")


def signature_of(function: object) -> inspect.Signature:
    """Return the signature of what is decorated.

    Raises:
        TypeError: It is not a function that a worker can run to one result.
    """
    _refuse_descriptor(function)
    if inspect.isclass(function) or not callable(function):
        raise TypeError(f"smart_async got {function!r}, which is not a function; {_USAGE}")
    for called in (function, type(function).__call__):
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"smart_async got {function!r}, a generator, and a call has one result; return a list, and "
                "tell of each step with report_progress"
            )
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"smart_async got {function!r}, whose parameters Python does not know; call it in a function of "
            "yours, and decorate that"
        ) from error


def _refuse_descriptor(function: object) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        kind = type(cast("object", function)).__name__
        raise TypeError(f"smart_async got a {kind}; put @{kind} above @smart_async")
    if isinstance(function, property):
        raise TypeError("smart_async got a property, which is not called; decorate a method")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What one decoration says.

    Attributes:
        body: The undecorated function.
        timeout_env: The variable that holds the budget.
        default_timeout: The budget where that is not set, in seconds.
        on_client_cancel: "auto", "cancel" or "detach".
        isolation: "process" or "inline".
        task: "auto", "required" or "never".
        manager: Whose jobs these are; the default manager's where None.
        own: The names of the body's parameters.
        name: What jobs call the tool.
        limits: What the body may use; None for all there is.
    """

    body: Callable[..., Any]
    timeout_env: str
    default_timeout: float
    on_client_cancel: str
    isolation: str
    task: str
    manager: JobManager | None
    own: frozenset[str]
    name: str
    limits: Limits | None

    def the_manager(self) -> JobManager:
        """Return whose jobs these are."""
        return self.manager or default_manager()

    def budget_s(self) -> float:
        """Return the present budget.

        Raises:
            InvalidInput: The variable holds none.
        """
        return budget(self.timeout_env, self.default_timeout)

    def wants_job(self, kwargs: dict[str, Any]) -> bool:
        """Whether a call asks for a background job at once."""
        return "async_mode" not in self.own and bool(kwargs.get("async_mode"))

    def without_extras(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the body gets of these keyword arguments."""
        if not kwargs:
            return kwargs
        return {
            name: value for name, value in kwargs.items() if name in self.own or name not in ADDED_PARAMETERS
        }

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any], principal: str | None = None) -> Request:
        """Return what a call with these arguments asks for."""
        from python_mcp_server.jobs.request import Request

        return Request(
            self.body,
            args,
            self.without_extras(kwargs),
            kwargs.get("job_label"),
            self.name,
            self.isolation,
            limits=self.limits,
            principal=principal,
        )

    async def run(self, request: Request, **how: Any) -> JobResult:
        """Do what `JobManager.run` does; a body's StopIteration is a `RemoteError`."""
        try:
            return await self.the_manager().run(request, **how)
        except RuntimeError as error:
            stop = error.__cause__
            if not isinstance(stop, StopIteration) or str(error) != "coroutine raised StopIteration":
                raise
            notes = "\n".join(getattr(stop, "__notes__", ()))
            raise RemoteError("StopIteration", str(stop), notes) from None

    async def submit(self, request: Request) -> dict[str, Any]:
        """Start a background job, and return its handle."""
        job = await self.the_manager().submit(request)
        return {"job_id": job.id, "status": job.status.value}
