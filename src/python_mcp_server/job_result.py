"""The result of a job, and how a record keeps it.

A record has the data as its `result`, and the rest in its `reply`, under `JOB_RESULT`: `{"success", "error",
"metadata"}`. So a result reads the same in every process, also after a restart. Bodies, stores and the
manager import this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from python_mcp_server.jsonable import jsonable
from python_mcp_server.model import JOB_RESULT, Job, JobState, utc_now

UNSUCCESSFUL: Final = "unsuccessful"
"""The `error_kind` of a job whose own result says that it failed."""

ERROR_KIND: Final = "error_kind"
"""The key of the metadata in which a result may say how it failed."""

ENDED: Final[Mapping[str, Any]] = {"message": None, "call": None, "missed_at": None, "questions": ()}
"""The fields of a record that only a live job has."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. `execute` returns one, and `JobManager.get_result` reads it.

    Attributes:
        success: Whether all that was asked for was done.
        data: The result; a failed job may have one too. It is read as plain JSON.
        error: Why the job failed, in a sentence.
        metadata: Further facts, as JSON. A failed job's `error_kind` is the text under that name here.
    """

    success: bool
    data: Any = None
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """Return `{"success", "data", "error", "metadata"}`; the code of the data may run."""
        plain = self.portable()
        told = {"success": plain.success, "data": plain.data, "error": plain.error}
        return told | {"metadata": plain.metadata}

    def portable(self) -> JobResult:
        """Return the result as JSON, which every process can read; the code of the data may run."""
        error = None if self.error is None else str(self.error)
        metadata = jsonable(dict(self.metadata or {})).value
        return JobResult(bool(self.success), jsonable(self.data).value, error, metadata)


def facts_of(value: Any) -> tuple[Any, str | None, dict[str, Any]]:
    """Return what a record has of the end of a job: its result, a note on what the JSON leaves out, and its
    reply. A value that is no `JobResult` is the data of a success. The code of the data may run.
    """
    result = value if isinstance(value, JobResult) else JobResult(success=True, data=value)
    data, note = jsonable(result.data)
    rest = replace(result, data=None).portable()
    told = {"success": rest.success, "error": rest.error, "metadata": rest.metadata}
    return data, note, {JOB_RESULT: told}


def with_end(job: Job, data: Any, note: str | None, reply: Mapping[str, Any] | None) -> Job:
    """Return the job, completed or failed as its reply says."""
    told: dict[str, Any] = (reply or {}).get(JOB_RESULT) or {}
    ended = job.evolve(result=data, result_note=note, reply=dict(reply) if reply else None)
    if told.get("success", True):
        return ended.evolve(status=JobState.COMPLETED)
    kind = told["metadata"].get(ERROR_KIND)
    return ended.evolve(
        status=JobState.FAILED,
        error=told["error"] or "the job says that it failed, and not why",
        error_kind=kind if isinstance(kind, str) else UNSUCCESSFUL,
    )


def settled_with(job: Job, result: JobResult) -> Job:
    """Return the job in the terminal state of this result, for a job that no other process settles."""
    return with_end(job.evolve(completed_at=utc_now(), **ENDED), *facts_of(result))


def result_of(job: Job) -> JobResult:
    """Return the result of a job that has ended.

    The result of a job that returned no `JobResult` is made from its state: of a cancelled job the error is
    "cancelled", and the metadata of a failed one has its `error_kind`.
    """
    told: dict[str, Any] = (job.reply or {}).get(JOB_RESULT) or {}
    if job.status is JobState.CANCELLED:
        return JobResult(success=False, error="cancelled", metadata={ERROR_KIND: job.status.value})
    if told and (told["success"] or job.status is JobState.FAILED):
        return JobResult(told["success"], job.result, told["error"], told["metadata"])
    if job.status is JobState.COMPLETED:
        return JobResult(success=True, data=job.result)
    return JobResult(success=False, error=job.error, metadata={ERROR_KIND: job.error_kind})
