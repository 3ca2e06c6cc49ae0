"""The tool that answers what a job asks. A model reads the docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from python_mcp_server.jobs.answering import answer_of
from python_mcp_server.jobs.questions import question_of
from python_mcp_server.server.answers import AnsweredJob
from python_mcp_server.server.job_tools import JobId
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.registry import make_tool
from python_mcp_server.server.text import whole

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.manager import JobManager

Response = Annotated[
    dict[str, Any] | list[str] | str | float | bool | None,
    "An object with the fields of the question's schema, or the bare value where it has one field.",
]
Action = Annotated[
    Literal["accept", "decline", "cancel"],
    '"decline": the user says no; "cancel": they make no choice; both without a response.',
]


class AnswerTool:
    """`py_answer_job` of one server, over its manager."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    def tool(self) -> Tool:
        """Return it, ready to register."""
        hints = {"destructive_hint": False, "idempotent_hint": False, "open_world_hint": False}
        return make_tool(self.answer_job, "py_answer_job", "Answer a job's question", **hints)

    async def answer_job(
        self,
        job_id: JobId,
        key: Annotated[str, "The key of the question."],
        response: Response = None,
        action: Action = "accept",
    ) -> AnsweredJob:
        """Answer a question that a job asks: one whose status is input_required.

        The job lists its questions (py_job_status), each with a key, a message and a schema. They are for
        the user: pass them on and answer with what the user said, unless you know the answer for sure. The
        first answer counts; then the job goes on, and py_wait_job waits for its result or next question.
        """
        job = await find_job(self._manager, job_id)
        answer = answer_of(question_of(job, key), response, action)
        job = await self._manager.answer(job_id, {key: answer})
        told: AnsweredJob = {"job_id": job.id, "status": job.status.value}
        if rest := job.open_questions:
            told["questions"] = whole([question.to_json() for question in rest])
        return told
