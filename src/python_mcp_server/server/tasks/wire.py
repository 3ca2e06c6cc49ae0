"""What a finished job's call would have answered, from the job's record.

Records hold plain JSON and how it is answered, so any server on the same home answers as the call would
have.


Jobs as the Tasks extension's wire shows them: dictionaries, for models would lose `ttlMs: null`.

https://modelcontextprotocol.github.io/ext-tasks/specification/2026-07-28/tasks.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, RemoteError
from python_mcp_server.model import Job, JobProgress, JobState, iso, utc_now
from python_mcp_server.server.sdk.replies import error_result, failure, recorded
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from python_mcp_server.server.sdk.adapter import ToolAdapter


_OURS: Final = re.compile(r"python_mcp_server\.errors\.(?!RemoteError\b)\w+")
_SAYS_ITSELF: Final = re.compile(r"mcp\.server\.mcpserver\.exceptions\.(Tool|Resource)Error")
_TRACE: Final = re.compile(r"\n\n(?=\s*(?:Traceback \(most|\+ Exception Group|\.\.\. \(cut\)))")
_TYPE: Final = re.compile(r"([\w.<>]+)(?:: )?")


def result_of(job: Job, face: ToolAdapter | None) -> CallToolResult:
    """Return what the call would have answered, had it waited for the end.

    Args:
        job: A job that completed or failed.
        face: How its tool answers; None where this server does not know the tool.
    """
    if job.status is not JobState.COMPLETED:
        return _failed(job)
    style = (job.reply or {}).get("style", "mcp")
    return recorded(job, None if face is None else face.replies(style))


def protocol_error(job: Job) -> dict[str, Any] | None:
    """Return the JSON-RPC error that the body raised on purpose, or None."""
    if job.status is not JobState.FAILED or job.rpc_error is None:
        return None
    return repair_unicode({key: value for key, value in job.rpc_error.items() if value is not None})


def _failed(job: Job) -> CallToolResult:
    """The failure in the words that the caller would have read."""
    text = job.error or f"the job failed: {job.error_kind or 'for an unknown reason'}"
    if job.error_kind != "exception":
        return failure(InvalidInput(text))
    sentence, trace = [*_TRACE.split(text, maxsplit=1), ""][:2]
    kind = _TYPE.match(sentence)
    name, message = (kind[1], sentence[kind.end() :]) if kind else ("", sentence)
    if _SAYS_ITSELF.fullmatch(name):
        return error_result(f"Error executing tool {job.tool}: {message}")  # the SDK's words around it
    return failure(InvalidInput(message) if _OURS.fullmatch(name) else RemoteError(name, message, trace))


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
    """Return what every form of a task says: where it stands, and when to ask again."""
    task: dict[str, Any] = {
        "taskId": job.id,
        "status": status_of(job),
        "createdAt": iso(job.created_at),
        "lastUpdatedAt": iso(job.completed_at or job.started_at or job.created_at),
        "ttlMs": None,  # jobs are kept until somebody prunes them
    }
    if message := _message(job):
        task["statusMessage"] = message
    if not job.status.terminal:
        task["pollIntervalMs"] = poll_interval_ms(job)
    return task


def detailed(
    job: Job, face: ToolAdapter | None = None, questions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a task with what belongs to its status: the result, the error, or open questions.

    Args:
        job: The job.
        face: How its tool answers; None where this server does not know the tool.
        questions: What it waits for, as requests by key.
    """
    task = summary(job)
    if task["status"] == "input_required":
        task["inputRequests"] = dict(questions or {})
    elif task["status"] == "failed":
        task["error"] = protocol_error(job)
    elif task["status"] == "completed":
        result = result_of(job, face)
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
    numbers = f"{progress.current:g}" + ("" if progress.total is None else f" of {progress.total:g}")
    return f"{progress.message} ({numbers})" if progress.message else numbers
