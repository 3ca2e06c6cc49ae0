"""The options of one decoration, and the requests of its calls.

The module is apart from `smart_async`, because the SDK's side of a decorated function needs these options,
and `smart_async` loads that side where the SDK is loaded. Every module that holds a body loads this one, and
so workers do too: the manager is loaded with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, RemoteError
from python_mcp_server.functions import default_manager
from python_mcp_server.limits import Limits
from python_mcp_server.settings import BUDGET_VARIABLE, DEFAULT_BUDGET_S, budget

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.request import CallResult, Request

ADDED_PARAMETERS: Final = ("async_mode", "job_label")
"""The parameters that a decorated function takes beyond its body's, unless the body declares them."""


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """The options of one decoration.

    Attributes:
        body: The undecorated function.
        timeout_env: The variable that holds the budget.
        default_timeout: The budget in seconds, where the variable is not set.
        on_client_cancel: "auto", "cancel" or "detach".
        isolation: "process" or "inline".
        task: "auto", "required" or "never".
        manager: The manager of these jobs; the default manager where None.
        body_parameters: The names of the body's parameters.
        name: The tool's name in its jobs.
        limits: The limits of the body; None for no limits.
        secret_parameters: Parameters of the body that hold secrets; None where that is not declared.
        grace_s: How long the body may clean up after a cancel; None for the setting.
    """

    body: Callable[..., Any]
    name: str
    body_parameters: frozenset[str]
    manager: JobManager | None = None
    timeout_env: str = BUDGET_VARIABLE
    default_timeout: float = DEFAULT_BUDGET_S
    on_client_cancel: str = "auto"
    isolation: str = "process"
    task: str = "auto"
    limits: Limits | None = None
    secret_parameters: frozenset[str] | None = None
    grace_s: float | None = None

    def resolve_manager(self) -> JobManager:
        """Return the manager of the jobs of this tool."""
        return self.manager or default_manager()

    def budget_s(self) -> float:
        """Return the present budget.

        Raises:
            InvalidInput: The variable does not hold a budget.
        """
        return budget(self.timeout_env, self.default_timeout)

    def wants_job(self, kwargs: dict[str, Any]) -> bool:
        """Whether a call asks for a background job at once.

        Raises:
            InvalidInput: `async_mode` is neither True nor False.
        """
        if "async_mode" in self.body_parameters:
            return False
        wanted = kwargs.get("async_mode", False)
        if not isinstance(wanted, bool):
            raise InvalidInput(f"async_mode is {wanted!r}; it must be True or False")
        return wanted

    def body_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return these keyword arguments without those that the decorator added."""
        if not kwargs:
            return kwargs
        dropped = set(ADDED_PARAMETERS) - self.body_parameters
        return {name: value for name, value in kwargs.items() if name not in dropped}

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any], principal: str | None = None) -> Request:
        """Return the request for a call with these arguments."""
        from python_mcp_server.jobs.request import Request

        return Request(
            self.body,
            args,
            self.body_arguments(kwargs),
            kwargs.get("job_label"),
            self.name,
            self.isolation,
            limits=self.limits,
            principal=principal,
            secret_parameters=self.secret_parameters,
            grace_s=self.grace_s,
        )

    async def run(self, request: Request, **how: Any) -> CallResult:
        """Run a request as `JobManager.run` does; a body's StopIteration becomes a `RemoteError`."""
        try:
            return await self.resolve_manager().run(request, **how)
        except RuntimeError as error:
            stop = error.__cause__
            if not isinstance(stop, StopIteration) or str(error) != "coroutine raised StopIteration":
                raise
            notes = "\n".join(getattr(stop, "__notes__", ()))
            raise RemoteError("StopIteration", str(stop), notes) from None

    async def submit(self, request: Request) -> dict[str, Any]:
        """Start a background job, and return its handle."""
        job = await self.resolve_manager().submit_request(request)
        return {"job_id": job.id, "status": job.status.value}
