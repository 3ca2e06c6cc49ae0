"""Delivers a job's questions to its caller through the best channel that the client supports.

task     a client of the Tasks extension gets its task at once; `tasks/get` shows the questions and
         `tasks/update` takes the answers
rounds   another client of 2026-07-28 that can elicit gets an `InputRequiredResult`, and makes the call
         again with the answers: the same job goes on
live     an older client that can elicit is asked by `elicitation/create` while its call is in flight
handle   any other client gets the job handle, and `py_answer_job`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver.resolve import find_resolved_parameters
from mcp_types import CallToolResult, ElicitRequest, InputRequest, InputRequiredResult

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import Job, JobState
from python_mcp_server.questions.model import InputAnswer
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.tasks import negotiation
from python_mcp_server.server.tasks.wire import answers_of, requests_of, result_of
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.questions import Ask
    from python_mcp_server.jobs.request import CallResult
    from python_mcp_server.questions.model import Question
    from python_mcp_server.server.sdk.adapter import ToolAdapter

_STATE: Final = "python-mcp-job:"
"""The beginning of our `requestState`, which is sealed and goes to the client and back."""


class QuestionChannel:
    """The caller of one call of a decorated tool, and how the caller can be asked.

    Args:
        request: The request of that call; None outside of a request.
        body: The tool's body.
        may_be_task: Whether its calls may become tasks.

    Attributes:
        ask: Asks the caller while the call is in flight; None where that is not possible.
    """

    def __init__(
        self,
        request: ServerRequestContext[Any, Any] | None,
        body: Callable[..., Any],
        *,
        may_be_task: bool,
    ) -> None:
        self._request = request
        self._body = body
        takes_tasks = may_be_task and (offer := negotiation.current_offer()) is not None and offer.wanted
        modern = request is not None and request.protocol_version in negotiation.VERSIONS
        self._params = (request.params if request is not None and modern else None) or {}
        asks = request is not None and not takes_tasks and can_elicit(request)
        self._by_rounds = asks and modern
        self.ask: Ask | None = self._elicit if asks and not modern else None

    @property
    def job_id(self) -> str | None:
        """Return the job that this call continues; None for a new job."""
        state = self._params.get("requestState")
        return state.removeprefix(_STATE) if isinstance(state, str) and state.startswith(_STATE) else None

    async def _elicit(self, _job_id: str, question: Question) -> InputAnswer | None:
        request = self._request
        if request is None or not request.session.can_send_request:
            return None
        shown = repair_unicode(question.to_json())
        said = await request.session.elicit_form(shown["message"], shown["schema"], request.request_id)
        return InputAnswer(said.action, None if said.content is None else dict(said.content))

    def input_required_result(self, result: CallResult) -> InputRequiredResult | None:
        """Return the questions of a job that was handed over, for a client that makes the call again;
        None where it gets the handle, such as where the SDK asks for the tool's own parameters."""
        if not (result.questions and self._by_rounds) or find_resolved_parameters(self._body):
            return None
        asked: dict[str, InputRequest] = {
            key: ElicitRequest.model_validate(each) for key, each in requests_of(result.questions).items()
        }
        return InputRequiredResult(input_requests=asked, request_state=_STATE + result.job_id)

    async def resume(
        self, manager: JobManager, job_id: str, adapter: ToolAdapter, **how: Any
    ) -> CallResult | CallToolResult:
        """Take the answers of this round, and wait again: for the end, the next question, or the budget.

        Raises:
            JobNotFound: The job does not exist, or belongs to another principal.
            InvalidInput: An answer does not fit its question; the job still waits.
        """
        job = await find_job(manager, job_id)
        answers = answers_of(self._params.get("inputResponses"), job.open_questions)
        await manager.answer(job_id, answers, lenient=True)
        found = await manager.rejoin(job_id, **how)
        if not isinstance(found, Job):
            return found
        if found.status is JobState.CANCELLED:
            raise InvalidInput(f"job {job_id} was cancelled")
        return result_of(found, adapter)


def can_elicit(request: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of this request can show a form to its user."""
    capabilities = request.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)
