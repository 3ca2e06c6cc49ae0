"""The public interface of the library: the decorator, and the plain functions of `functions`.

Every module that holds a body imports this one, and so workers do too: the manager is loaded with the first
call, and the SDK's view of a function only where the SDK is loaded.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from python_mcp_server.body_context import BodyContext
from python_mcp_server.context import BODY_ATTRIBUTE, create_progress_callback, in_worker
from python_mcp_server.decoration import (
    Decorated,
    Decorator,
    Handle,
    check_function,
    check_options,
    checked_secrets,
    name_of,
    refuse_unknown,
)
from python_mcp_server.functions import (
    STATE,
    AppState,
    JobMeta,
    RunScriptResult,
    answer_job,
    cancel_job,
    default_manager,
    default_tools,
    get_job_status,
    initialize_state,
    job_status,
    list_jobs,
    prune_jobs,
)
from python_mcp_server.limits import Limits
from python_mcp_server.settings import BUDGET_VARIABLE, DEFAULT_BUDGET_S
from python_mcp_server.tool_options import ADDED_PARAMETERS, ToolOptions

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.server.sdk.adapter import ToolAdapter

__all__ = [
    "STATE",
    "AppState",
    "Handle",
    "JobMeta",
    "RunScriptResult",
    "answer_job",
    "cancel_job",
    "create_progress_callback",
    "default_manager",
    "get_job_status",
    "initialize_state",
    "job_status",
    "list_jobs",
    "prune_jobs",
    "smart_async",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def smart_async(timeout_env: Callable[_P, Awaitable[_R]], /) -> Decorated[_P, _R]: ...
@overload
def smart_async(timeout_env: Callable[_P, _R], /) -> Decorated[_P, _R]: ...
@overload
def smart_async(
    timeout_env: str = ...,
    default_timeout: float = ...,
    *,
    on_client_cancel: str = ...,
    isolation: str = ...,
    task: str = ...,
    name: str | None = ...,
    manager: JobManager | None = ...,
    memory_limit_mb: float | None = ...,
    cpu_time_limit_seconds: float | None = ...,
    disk_limit_mb: float | None = ...,
    timeout_seconds: float | None = ...,
    nice: int | None = ...,
    cpus: int | Sequence[int] | None = ...,
    secret_parameters: Collection[str] | None = ...,
) -> Decorator: ...


def smart_async(
    timeout_env: Any = BUDGET_VARIABLE,
    default_timeout: float = DEFAULT_BUDGET_S,
    *,
    on_client_cancel: str = "auto",
    isolation: str = "process",
    task: str = "auto",
    name: str | None = None,
    manager: JobManager | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    disk_limit_mb: float | None = None,
    timeout_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | Sequence[int] | None = None,
    secret_parameters: Collection[str] | None = None,
    **unknown: object,
) -> Any:
    """Run a function in a worker process, and hand it over as a job when it outlasts the budget.

    The decorator works with and without parentheses, on `def` and `async def`. The decorated function is
    async. In time, it returns the body's value or raises the body's exception; past the budget it returns
    `{"job_id", "status", "message"}`, and the same run goes on. The function takes two more parameters,
    unless the body declares them: `async_mode=True` starts a background job at once, `job_label` names it. As
    a tool of the SDK's server the function answers a `CallToolResult` with a schema.

    Args:
        timeout_env: The variable that holds the budget in seconds, read at each call.
        default_timeout: The budget where the variable is not set.
        on_client_cancel: How a call ends whose client gives up before the hand-off: "auto" hands the call
            over after a time-out or a lost connection, and cancels it otherwise; "cancel" always cancels it,
            "detach" always hands it over.
        isolation: "process", or "inline" for async bodies that only wait: no hard kill, no survival.
        task: The answer to a client of the Tasks extension. "auto": a task past the budget, or at once with
            `async_mode=True`; "required": always a task, and clients without the extension are
            refused; "never": the job handle that others get.
        name: The tool's name in its jobs; the function's own name where None.
        manager: The manager of the jobs; the default manager where None.
        memory_limit_mb: Memory of the worker with all that the body starts, in MB. Beyond this limit the
            processes are killed, and the call raises `LimitExceeded`, or the job has failed.
        cpu_time_limit_seconds: The same for the CPU time of all of them together.
        disk_limit_mb: The same for the disk space of the body's output and of the files in its job's folder.
        timeout_seconds: The same for the time that the body runs. The budget is the time that a caller waits.
        nice: Priority of the body, from -20 (first) to 19 (last).
        cpus: Cores that the body may use: a count, or their numbers.
        secret_parameters: Parameters that hold secrets. A job with such a value waits only in its own server,
            because another server would need the value in the record. Where None, names and texts that look
            like secrets count.
        **unknown: Any other option, which is refused.

    Raises:
        InvalidInput: An argument of the decorator has no meaning.
        TypeError: The decorated object is not a function, or the decorator is used wrongly.
    """
    refuse_unknown(unknown, [*inspect.signature(smart_async).parameters][:-1] if unknown else ())
    function = None
    if callable(timeout_env):
        function, timeout_env = timeout_env, BUDGET_VARIABLE
    choices = {"on_client_cancel": on_client_cancel, "isolation": isolation, "task": task}
    check_options(timeout_env, default_timeout, choices, name, manager)
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb,
        cpu_time_limit_seconds=cpu_time_limit_seconds,
        disk_limit_mb=disk_limit_mb,
        timeout_seconds=timeout_seconds,
        nice=nice,
        cpus=cpus,
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        parameters = frozenset(check_function(function, isolation).parameters)
        options = ToolOptions(
            body=function,
            timeout_env=timeout_env,
            default_timeout=default_timeout,
            on_client_cancel=on_client_cancel,
            isolation=isolation,
            task=task,
            manager=manager,
            body_parameters=parameters,
            name=name or name_of(function),
            limits=limits,
            secret_parameters=checked_secrets(secret_parameters, parameters),
        )
        return wrap(options, _adapt(function, options.name))

    return decorate if function is None else decorate(function)


def _adapt(function: Callable[..., Any], name: str) -> ToolAdapter | None:
    """Return the SDK's view of a function, where the SDK is loaded and this is no worker."""
    if in_worker() or "mcp" not in sys.modules:
        return None
    from python_mcp_server.server.sdk.adapter import adapt

    return adapt(function if hasattr(function, "__name__") else _named(function, name))


def _named(made: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function in place of an object without a name, such as a partial: the SDK asks for one."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    signature = call.__signature__ = inspect.signature(made, eval_str=True)  # type: ignore[attr-defined]
    told = {each.name: each.annotation for each in signature.parameters.values()}
    told["return"] = signature.return_annotation
    call.__annotations__ = {key: kind for key, kind in told.items() if kind is not signature.empty}
    call.__name__, call.__doc__ = name, inspect.getdoc(made)
    return call


def wrap(options: ToolOptions, adapter: ToolAdapter | None) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the decorated function."""
    body = options.body

    @functools.wraps(body)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if in_worker():
            value = body(*args, **options.body_arguments(kwargs))
            return await value if inspect.isawaitable(value) else value
        if (
            adapter is not None
            and adapter.context_name in kwargs
            and not isinstance(kwargs[adapter.context_name], BodyContext)
        ):
            from python_mcp_server.server.sdk.calls import answer_call

            return await answer_call(options, adapter, kwargs)
        return await _call(options, args, kwargs)

    setattr(wrapper, BODY_ATTRIBUTE, body)
    if not hasattr(body, "__name__"):
        wrapper.__name__ = wrapper.__qualname__ = options.name
        wrapper.__annotations__ = {}
    if adapter is not None:
        _register(options, adapter)
        wrapper.__signature__ = adapter.signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = adapter.annotations
    else:
        signature = wrapper.__signature__ = _extended_signature(body)  # type: ignore[attr-defined]
        added = [name for name in ADDED_PARAMETERS if name not in options.body_parameters]
        annotations = {name: signature.parameters[name].annotation for name in added}
        wrapper.__annotations__ = annotations | wrapper.__annotations__
    return wrapper


def _register(options: ToolOptions, adapter: ToolAdapter) -> None:
    """Tell the manager about the tool, so that it also answers for jobs of this tool from other processes."""
    if options.manager is None:
        from python_mcp_server.startup import take_over_at_start  # it loads asyncio, as the SDK did

        take_over_at_start()
        default_tools()[options.name] = adapter
    else:
        options.manager.tools[options.name] = adapter


def _extended_signature(body: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(body)
    given = list(signature.parameters.values())
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("async_mode", keyword, default=False, annotation=bool),
        inspect.Parameter("job_label", keyword, default=None, annotation=str | None),
    ]
    added = [parameter for parameter in added if parameter.name not in signature.parameters]
    before = [parameter for parameter in given if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    after = [parameter for parameter in given if parameter.kind is inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*before, *added, *after])


async def _call(options: ToolOptions, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a direct call: return the value itself, or the handle as a dictionary."""
    request = options.request(args, kwargs)
    if options.wants_job(kwargs):
        return await options.submit(request)
    result = await options.run(
        request,
        budget_s=options.budget_s(),
        on_caller_left=lambda: "detach" if options.on_client_cancel == "detach" else "cancel",
    )
    return result.handle() if result.handed_over else result.value
