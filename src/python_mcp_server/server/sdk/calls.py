"""A call of a decorated function by the SDK, from the request to the answer.

The answer is a `CallToolResult` or a round of questions, never an exception that the SDK would hide from
the model.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context
from mcp_types import InputRequiredResult

from python_mcp_server.body_context import BodyContext
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.request import CallResult, Request
from python_mcp_server.model import JobState
from python_mcp_server.server.principals import current_principal
from python_mcp_server.server.sdk.elicitation import QuestionChannel
from python_mcp_server.server.sdk.private import (
    cancel_cause,
    client_name,
    progress_sender,
    request_of,
    tools_of,
)
from python_mcp_server.server.sdk.progress import ProgressForwarder
from python_mcp_server.server.tasks import negotiation

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from python_mcp_server.server.sdk.adapter import ToolAdapter
    from python_mcp_server.server.sdk.private import AnyContext
    from python_mcp_server.tool_options import ToolOptions

_WAITS: Final = "py_wait_job"
_JOB_TOOLS: Final = f"call {_WAITS} with this job_id for the result"
_NO_JOB_TOOLS: Final = (
    "this server has no tool for the result: `python-mcp-server jobs show JOB_ID` in a shell, or "
    "get_job_status in Python, has it"
)

_CANCEL_WISHES: Final = {"timeout": "detach_recorded", "dropped": "detach_recorded", "user": "cancel"}


_log: Final = logging.getLogger(__name__)
_taken: Final[ContextVar[list[Request] | None]] = ContextVar("taken", default=None)


@contextmanager
def taking_request() -> Generator[list[Request]]:
    """Make no call within the block: the list gets the request of a call whose arguments are right."""
    token = _taken.set(taken := [])
    try:
        yield taken
    finally:
        _taken.reset(token)


async def answer_call(
    options: ToolOptions, adapter: ToolAdapter, kwargs: dict[str, Any]
) -> CallToolResult | InputRequiredResult:
    """Make a call by the SDK, with progress on the way and errors as sentences.

    Raises:
        MCPError, ToolError, ResourceError: The body raised one, or the client cannot take a task where a task
            is required; the SDK itself answers these.
    """
    ctx = kwargs.pop(adapter.context_name)
    if adapter.body_context is not None:
        kwargs[adapter.body_context] = BodyContext()
    try:
        return await _answer(options, adapter, ctx, kwargs)
    except JobCancelled as cancelled:
        return adapter.error(InvalidInput(str(cancelled)))
    except Exception as error:  # noqa: BLE001  the SDK would hide its text from the model
        return adapter.error(error)


async def _answer(
    options: ToolOptions, adapter: ToolAdapter, ctx: AnyContext, kwargs: dict[str, Any]
) -> CallToolResult | InputRequiredResult:
    asked = request_of(ctx)
    replies = adapter.replies_to(ctx)
    request = options.request((), kwargs, current_principal())
    request = replace(request, replies=replies, client=client_name(ctx))
    if (taken := _taken.get()) is not None:
        taken.append(request)
        return adapter.handle({})
    if options.task == "required":
        negotiation.require_tasks_for(options.name, asked)
    if options.task == "required" or options.wants_job(kwargs):
        return await _handed_over(options, adapter, ctx, await options.submit(request))
    channel = QuestionChannel(asked, options.body, may_be_task=options.task != "never")
    how: Any = {"budget_s": options.budget_s(), "on_caller_left": lambda: _wish(options, ctx)}
    async with ProgressForwarder(progress_sender(ctx)) as listener:
        if (job_id := channel.job_id) is None:
            result = await options.run(request, listener=listener, ask=channel.ask, **how)
        else:
            result = await channel.resume(
                options.resolve_manager(), job_id, adapter, listener=listener, **how
            )
    if not isinstance(result, CallResult):
        return result
    if not result.handed_over:
        value = result.value  # the body's own round of questions is for the SDK
        own = isinstance(value, InputRequiredResult)
        return (
            value if own else await _made(options, partial(adapter.answer, value, replies, note=result.note))
        )
    asked = channel.input_required_result(result)
    return asked or await _handed_over(options, adapter, ctx, result.handle())


async def _made(options: ToolOptions, answer: partial[CallToolResult]) -> CallToolResult:
    """Make the answer of a value; that of a large one in a thread, because it takes seconds."""
    from python_mcp_server.pool.pickling import exceed_inline_size  # late: it loads cloudpickle

    if options.isolation == "inline" or not exceed_inline_size(answer.args[:1], {}):
        return answer()  # the event loop may still change the value of an inline body
    return await options.resolve_manager().aside(f"answer of {options.name}", answer)


async def _handed_over(
    options: ToolOptions, adapter: ToolAdapter, ctx: AnyContext, handle: dict[str, Any]
) -> CallToolResult:
    """Return the job handle, or a task in its place where the client takes tasks."""
    said = [handle["message"]] if "message" in handle else []
    if not await _waits_for_jobs(ctx):
        _advise(options.name)
        said.append(_NO_JOB_TOOLS)
    elif handle["status"] != JobState.INPUT_REQUIRED:
        said.append(_JOB_TOOLS)
    answer = adapter.handle(handle | {"message": "; ".join(said)})
    if options.task != "never" and (offer := negotiation.current_offer()) is not None:
        offer.accept(options.resolve_manager(), handle["job_id"])
    return answer


async def _waits_for_jobs(ctx: Any) -> bool:
    """Whether the server that serves a call has the tool that waits for jobs."""
    if isinstance(ctx, Context):
        return _WAITS in tools_of(ctx.mcp_server)
    from python_mcp_server.server.fastmcp import serves_tool  # late: only a FastMCP server has it loaded

    try:
        return await serves_tool(ctx.fastmcp, _WAITS)
    except Exception:  # noqa: BLE001  of an author's transform: the caller gets the job_id all the same
        _log.warning("whether this server has the tool %s is not known", _WAITS, exc_info=True)
        return False


@cache
def _advise(tool: str) -> None:
    """Tell the author, once for each tool."""
    _log.warning(
        "the tool %s answered with a job, and this server has no tool for its result: call "
        "python_mcp_server.add_job_tools(mcp) before mcp.run()",
        tool,
    )


def _wish(options: ToolOptions, ctx: AnyContext) -> str:
    if options.on_client_cancel != "auto":
        return options.on_client_cancel
    return _CANCEL_WISHES[cancel_cause(ctx)]
