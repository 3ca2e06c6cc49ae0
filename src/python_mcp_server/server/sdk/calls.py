"""A call of a decorated function by the SDK, from the request to the answer.

The answer is a `CallToolResult` or a round of questions, never an exception that the SDK would hide from
the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mcp_types import InputRequiredResult

from python_mcp_server.body_context import BodyContext
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.request import JobResult
from python_mcp_server.server.principals import current_principal
from python_mcp_server.server.sdk.elicitation import Caller
from python_mcp_server.server.sdk.private import ProgressFeed, cancel_cause, request_of
from python_mcp_server.server.tasks import offers

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from python_mcp_server.server.sdk.adapter import ToolAdapter
    from python_mcp_server.server.sdk.private import AnyContext
    from python_mcp_server.terms import ToolOptions

_CANCEL_WISHES: Final = {"timeout": "detach_recorded", "dropped": "detach_recorded", "user": "cancel"}


async def answer_call(
    terms: ToolOptions, face: ToolAdapter, kwargs: dict[str, Any]
) -> CallToolResult | InputRequiredResult:
    """Make a call by the SDK, with progress on the way and errors as sentences.

    Args:
        terms: What the decoration says.
        face: What the SDK sees of the function.
        kwargs: The arguments, the SDK's context among them.

    Raises:
        MCPError, ToolError, ResourceError: The body raised one, or the client cannot take a task where
            only a task will do; the SDK itself knows what to answer.
    """
    ctx = kwargs.pop(face.context_name)
    if face.body_context is not None:
        kwargs[face.body_context] = BodyContext()
    try:
        return await _answer(terms, face, ctx, kwargs)
    except JobCancelled as cancelled:
        return face.error(InvalidInput(str(cancelled)))
    except Exception as error:  # noqa: BLE001  the SDK would hide its text from the model
        return face.error(error)


async def _answer(
    terms: ToolOptions, face: ToolAdapter, ctx: AnyContext, kwargs: dict[str, Any]
) -> CallToolResult | InputRequiredResult:
    asked = request_of(ctx)
    if terms.task == "required":
        offers.require_task(terms.name, asked)
    replies = face.replies_to(ctx)
    request = replace(terms.request((), kwargs, current_principal()), replies=replies)
    if terms.task == "required" or terms.wants_job(kwargs):
        return _handed_over(terms, face, await terms.submit(request))
    caller = Caller(asked, terms.body, may_be_task=terms.task != "never")
    how: Any = {"budget_s": terms.budget_s(), "on_caller_left": lambda: _wish(terms, ctx)}
    async with ProgressFeed(ctx) as listener:
        if (job_id := caller.job_id) is None:
            result = await terms.run(request, listener=listener, ask=caller.ask, **how)
        else:
            result = await caller.go_on(terms.the_manager(), job_id, face, listener=listener, **how)
    if not isinstance(result, JobResult):
        return result
    if not result.handed_over:
        value = result.value  # the body's own round of questions is for the SDK
        own = isinstance(value, InputRequiredResult)
        return value if own else face.answer(value, replies, note=result.note)
    return caller.round_of(result) or _handed_over(terms, face, result.handle())


def _handed_over(terms: ToolOptions, face: ToolAdapter, handle: dict[str, Any]) -> CallToolResult:
    """The job handle, and a task in its place where the caller takes tasks."""
    answer = face.handle(handle)
    if terms.task != "never" and (offer := offers.current()) is not None:
        offer.take(terms.the_manager(), handle["job_id"])
    return answer


def _wish(terms: ToolOptions, ctx: AnyContext) -> str:
    if terms.on_client_cancel != "auto":
        return terms.on_client_cancel
    return _CANCEL_WISHES[cancel_cause(ctx)]
