"""The public interface of the library: the decorator, and the plain functions of `functions`.

Every module that holds a body imports this one, and so workers do too: the manager is loaded with the first
call, and the SDK's view of a function only where the SDK is loaded.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, cast, overload

from python_mcp_server.body_context import BodyContext
from python_mcp_server.context import BODY_ATTRIBUTE, create_progress_callback, in_worker
from python_mcp_server.errors import InvalidInput
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

_USAGE: Final = "write @smart_async or @smart_async(default_timeout=20) above a function"
_POLICIES: Final = ("auto", "cancel", "detach")
_ISOLATIONS: Final = ("process", "inline")
_TASKS: Final = ("auto", "required", "never")


@overload
def smart_async(timeout_env: Callable[..., Any], /) -> Callable[..., Coroutine[Any, Any, Any]]: ...
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
) -> Callable[[Callable[..., Any]], Callable[..., Coroutine[Any, Any, Any]]]: ...


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

    Raises:
        InvalidInput: An argument of the decorator has no meaning.
        TypeError: The decorated object is not a function, or the decorator is used wrongly.
    """
    if callable(timeout_env):
        return smart_async()(timeout_env)
    _check_positional(timeout_env, default_timeout)
    _check_choice("on_client_cancel", on_client_cancel, _POLICIES)
    _check_choice("isolation", isolation, _ISOLATIONS)
    _check_choice("task", task, _TASKS)
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb,
        cpu_time_limit_seconds=cpu_time_limit_seconds,
        disk_limit_mb=disk_limit_mb,
        timeout_seconds=timeout_seconds,
        nice=nice,
        cpus=cpus,
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        parameters = frozenset(_signature_of(function).parameters)
        options = ToolOptions(
            body=function,
            timeout_env=timeout_env,
            default_timeout=default_timeout,
            on_client_cancel=on_client_cancel,
            isolation=isolation,
            task=task,
            manager=manager,
            body_parameters=parameters,
            name=name or getattr(function, "__name__", type(function).__name__),
            limits=limits,
            secret_parameters=_checked_secrets(secret_parameters, parameters),
        )
        return wrap(options, _adapt(function))

    return decorate


def _checked_secrets(names: Collection[str] | None, parameters: frozenset[str]) -> frozenset[str] | None:
    if names is None:
        return None
    given: Any = names  # an author may give anything, such as an iterator, which is empty at the second look
    listed = isinstance(given, Collection) and not isinstance(given, str)
    if not listed or not parameters.issuperset(names):
        known = ", ".join(sorted(parameters)) or "none"
        raise InvalidInput(f"secret_parameters is {names!r}; it must be a list of these parameters: {known}")
    return frozenset(names)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _check_positional(first: object, default_timeout: object) -> None:
    """Check the two arguments that the decorator takes by position.

    Raises:
        TypeError: One of them is of another kind; they tell the decorator from the function that it
            decorates.
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


def _signature_of(function: object) -> inspect.Signature:
    """Return the signature of the decorated object.

    Raises:
        TypeError: The object is not a function that a worker can run to one result.
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


def _adapt(function: Callable[..., Any]) -> ToolAdapter | None:
    """Return the SDK's view of a function, where the SDK is loaded and this is no worker.

    An object without a name of its own, such as a partial, is not a tool and has no such view.
    """
    if in_worker() or "mcp" not in sys.modules or not hasattr(function, "__name__"):
        return None
    from python_mcp_server.server.sdk.adapter import adapt

    return adapt(function)


def wrap(options: ToolOptions, adapter: ToolAdapter | None) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the decorated function.

    Args:
        options: The options of the decoration.
        adapter: The SDK's view of the function; None where no SDK calls it.
    """
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
