"""Jobs as the protocol shows them: their result, their questions, and the job itself as a task.

Records hold plain JSON and how it is answered, so any server on the same home answers a call as the
server that started the job would have.

Tasks are dictionaries, because models would lose `ttlMs: null`.
https://modelcontextprotocol.github.io/ext-tasks/specification/2026-07-28/tasks.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server import functions
from python_mcp_server.errors import InvalidInput, JobNotFound, PythonMcpError, bare_name
from python_mcp_server.model import Job, JobProgress, JobState, iso, utc_now
from python_mcp_server.questions.model import ACTIONS, InputAnswer
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.sdk.replies import error_result, error_with_trace, failure, result_from_record
from python_mcp_server.server.text import repair_unicode, shortened

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.questions.model import Question
    from python_mcp_server.server.sdk.adapter import ToolAdapter


_OURS: Final = re.compile(r"python_mcp_server\.errors\.(?!RemoteError\b)\w+")
_SAYS_ITSELF: Final = re.compile(r"mcp\.server\.mcpserver\.exceptions\.(Tool|Resource)Error")
_TRACE: Final = re.compile(r"(?<!\s)\s+(?=Traceback \(most|\+ Exception Group|\.\.\. \(cut\))")
"""Begins at no blank after another one, or an error of many line ends would hold the event loop."""


def result_of(job: Job, adapter: ToolAdapter | None) -> CallToolResult:
    """Return the answer that the call would have given if it had waited for the end.

    Args:
        job: A job that completed or failed.
        adapter: How its tool answers; None where this server does not know the tool.
    """
    if job.status is not JobState.COMPLETED:
        return _failed(job)
    style = (job.reply or {}).get("style", "mcp")
    return result_from_record(job, None if adapter is None else adapter.replies(style))


def protocol_error(job: Job) -> dict[str, Any] | None:
    """Return the JSON-RPC error that the body raised on purpose, or None."""
    if job.status is not JobState.FAILED or job.rpc_error is None:
        return None
    return repair_unicode({key: value for key, value in job.rpc_error.items() if value is not None})


def _failed(job: Job) -> CallToolResult:
    """Return the failure in the words that the caller would have read."""
    text = job.error or f"the job failed: {job.error_kind or 'for an unknown reason'}"
    if job.error_kind != "exception":
        return failure(PythonMcpError(text))
    sentence, trace = _parted(text)
    kind = job.error_type or ""
    message = sentence.removeprefix(bare_name(kind)).removeprefix(": ")
    if _SAYS_ITSELF.fullmatch(kind):
        return error_result(f"Error executing tool {job.tool}: {message}")  # the SDK's words around it
    if _OURS.fullmatch(kind):
        return failure(PythonMcpError(message))
    return error_with_trace(shortened(sentence), trace)


def _parted(text: str) -> tuple[str, str]:
    """Return the sentence of an error, and the traceback after it or an empty text."""
    for gap in _TRACE.finditer(text):
        if "\n\n" in gap[0]:
            at = text.index("\n\n", gap.start())
            return text[:at], text[at + 2 :]
    return text, ""


def requests_of(questions: tuple[Question, ...]) -> dict[str, Any]:
    """Return questions as the protocol asks them: a mapping of key to request."""
    return {
        question.key: {
            "method": "elicitation/create",
            "params": repair_unicode(
                {"mode": "form", "message": question.message, "requestedSchema": question.schema}
            ),
        }
        for question in questions
    }


def answers_of(responses: Any, questions: Iterable[Question]) -> dict[str, InputAnswer]:
    """Read `inputResponses`: the answers to these questions. Others are left out.

    Raises:
        InvalidInput: The value is not such a mapping.
    """
    if responses is not None and not isinstance(responses, Mapping):
        raise InvalidInput(f"inputResponses is {responses!r}; it must be an object")
    said = cast("Mapping[str, Any]", responses or {})
    keys = {question.key for question in questions}
    return {key: _answer(key, each) for key, each in said.items() if key in keys}


def _answer(key: str, response: Any) -> InputAnswer:
    said = cast("Mapping[str, Any]", response if isinstance(response, Mapping) else {})
    if said.get("action") not in ACTIONS:
        raise InvalidInput(f"the response to {key!r} must have an action: {', '.join(ACTIONS)}")
    return InputAnswer(said["action"], said.get("content"))


COMPLETE: Final = {"resultType": "complete"}
"""The acknowledgement of an update or a cancel."""

_STATUSES: Final = {
    JobState.PENDING: "working",
    JobState.RUNNING: "working",
    JobState.INPUT_REQUIRED: "input_required",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "completed",  # "failed" is for errors of the protocol only
    JobState.CANCELLED: "cancelled",
}
_SOONEST_S: Final = 0.1
_LATEST_S: Final = 5.0
_SHARE_OF_AGE: Final = 0.1  # a result is seen at most a tenth of its time late
_MESSAGE_CHARS: Final = 500


def summary(job: Job) -> dict[str, Any]:
    """Return the fields of every form of a task: its state, and when to ask again."""
    task: dict[str, Any] = {
        "taskId": job.id,
        "status": status_of(job),
        "createdAt": iso(job.created_at),
        "lastUpdatedAt": iso(job.completed_at or job.started_at or job.created_at),
        "ttlMs": None,  # when a job goes depends on its end, and on others
    }
    if message := _message(job):
        task["statusMessage"] = message
    if not job.status.terminal:
        task["pollIntervalMs"] = poll_interval_ms(job)
    return task


def detailed(
    job: Job, adapter: ToolAdapter | None = None, questions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a task with what belongs to its status: the result, the error, or open questions.

    Args:
        job: The job.
        adapter: How its tool answers; None where this server does not know the tool.
        questions: Its open questions, as requests by key.
    """
    task = summary(job)
    if task["status"] == "input_required":
        task["inputRequests"] = dict(questions or {})
    elif task["status"] == "failed":
        task["error"] = protocol_error(job)
    elif task["status"] == "completed":
        result = result_of(job, adapter)
        task["result"] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return task


def status_of(job: Job) -> str:
    """Return the task's status; a body that failed has completed, with a result that says so."""
    return "failed" if protocol_error(job) is not None else _STATUSES[job.status]


def poll_interval_ms(job: Job) -> int:
    """Return how long a client should wait before it asks again: short for a young job."""
    age_s = (utc_now() - job.created_at).total_seconds()
    return round(1000 * min(max(age_s * _SHARE_OF_AGE, _SOONEST_S), _LATEST_S))


def _message(job: Job) -> str | None:
    if job.status is JobState.FAILED:
        said = (job.rpc_error or {}).get("message") or (job.error or job.error_kind or "").partition("\n")[0]
    elif job.status.terminal:
        return None
    elif job.open_questions and job.ending is None:
        said = "; ".join(question.message for question in job.open_questions)
    elif job.ending is not None:
        said = "being cancelled" if job.ending == JobState.CANCELLED else "being ended at its limit"
    else:
        said = job.message or _progress_text(job.progress)
    return repair_unicode(said[:_MESSAGE_CHARS]) or None


def _progress_text(progress: JobProgress | None) -> str:
    if progress is None:
        return ""
    numbers = progress.numbers(" of ")
    return f"{progress.message} ({numbers})" if progress.message else numbers


class TaskLookup:
    """Finds jobs by their id and shows them as tasks."""

    def __init__(self, manager: JobManager | None) -> None:
        self._manager = manager

    @property
    def manager(self) -> JobManager:
        """Return the manager of the jobs; the default manager may change, so it is looked up each time."""
        return self._manager or functions.default_manager()

    def holds(self, manager: JobManager) -> bool:
        """Whether the jobs of this manager are found here."""
        return manager is self.manager or manager.store.home == self.manager.store.home

    async def find(self, task_id: str) -> Job | None:
        """Return the job, or None if it does not exist or this client may not see it."""
        try:
            return await find_job(self.manager, task_id, whole=True)
        except JobNotFound:
            return None

    async def show(self, job: Job, *, asks: bool) -> dict[str, Any]:
        """Return the task as `tasks/get` shows it, less the type of the result; a result is made in a thread,
        because it may be large.

        Args:
            job: The job.
            asks: Whether its questions are shown: a client that cannot show a form gets none.
        """
        known = functions.default_tools() | self.manager.tools  # of tools that an author put beside ours, too
        adapter = cast("ToolAdapter | None", known.get(job.tool))
        show = partial(detailed, job, adapter, requests_of(job.open_questions) if asks else None)
        return await self.manager.aside(f"view of {job.id}", show) if job.status.terminal else show()

    def runs_here(self, job: Job) -> bool:
        """Whether this process runs the job, so that a look at it costs nothing."""
        return job.owner is not None and job.owner.pid == os.getpid()
