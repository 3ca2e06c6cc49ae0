"""The result of a job, and how a record keeps it.

A record has the data as its `result`, and the rest in its `reply`, under `JOB_RESULT`: `{"success", "error",
"metadata"}`. So a result reads the same in every process, also after a restart. Bodies, stores and the
manager import this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from python_mcp_server.jsonable import jsonable, text_of
from python_mcp_server.model import JOB_RESULT, Job, JobState, utc_now

UNSUCCESSFUL: Final = "unsuccessful"
"""The `error_kind` of a job whose own result says that it failed."""

ERROR_KIND: Final = "error_kind"
"""The key of the metadata in which a result may say how it failed."""

LEFT_OUT: Final = "left_out"
"""The key of the metadata that says what of the given metadata is not there."""

TEXT_LIMIT: Final = 100_000
"""Characters kept of an error, and of the JSON of metadata, as of an exception's message: lists of jobs have
them."""

_TOLD: Final = 3
_NAME_CHARS: Final = 60

ENDED: Final[Mapping[str, Any]] = {"message": None, "call": None, "missed_at": None, "questions": ()}
"""The fields of a record that only a live job has."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. `execute` returns one, and `JobManager.get_result` reads it.

    Attributes:
        success: Whether all that was asked for was done.
        data: The result; a failed job may have one too. It is read as plain JSON.
        error: Why the job failed, in a sentence; the first 100,000 characters are kept.
        metadata: Further facts, as JSON of up to 100,000 characters; `left_out` says what is not kept. A
            failed job's `error_kind` is the text under that name here.
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
        return JobResult(data=jsonable(self.data).value, **_told(self))


def facts_of(value: Any) -> tuple[Any, str | None, dict[str, Any]]:
    """Return what a record has of the end of a job: its result, a note on what the JSON leaves out, and its
    reply. A value that is no `JobResult` is the data of a success. The code of the data may run.
    """
    result = value if isinstance(value, JobResult) else JobResult(success=True, data=value)
    data, note = jsonable(result.data)
    return data, note, {JOB_RESULT: _told(result)}


def unreadable(value: Any, why: str) -> dict[str, Any]:
    """Return the reply of a job whose value cannot be read: a `JobResult` of it is no success."""
    if not isinstance(value, JobResult):
        return {}
    return {JOB_RESULT: {"success": False, "error": why, "metadata": {}}}


def _told(result: JobResult) -> dict[str, Any]:
    """Return `{"success", "error", "metadata"}` as JSON. Nothing that an author gives can raise here, because
    a result that cannot be read would cost the outcome.
    """
    error = None if result.error is None else text_of(result.error, TEXT_LIMIT)
    try:
        success = bool(result.success)
    except BaseException as broken:  # noqa: BLE001  the value's own code, such as that of an array
        success, error = (
            False,
            error or f"the success of the job is neither true nor false: {text_of(broken)}",
        )
    return {"success": success, "error": error, "metadata": _metadata(result.metadata)}


def _metadata(given: Any) -> dict[str, Any]:
    try:
        entries: dict[Any, Any] = {} if given is None else dict(given)
    except BaseException:  # noqa: BLE001  no mapping, or one whose own code raises
        return {LEFT_OUT: f"the metadata is no mapping; this is its text: {text_of(given)}"}
    form: Any = jsonable(entries).value
    if isinstance(form, dict):
        return _bounded(cast("dict[str, Any]", form))
    # an entry nests too deeply, or holds itself
    return _bounded({text_of(name): jsonable(value).value for name, value in entries.items()})


def _bounded(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return as many of the entries as the record has room for, the smallest first."""
    sizes = {name: len(json.dumps({name: value})) for name, value in metadata.items()}
    room = TEXT_LIMIT
    left_out: list[str] = []
    for name in sorted(sizes, key=sizes.__getitem__):
        room -= sizes[name]
        if room < 0:
            left_out.append(name)
    if not left_out:
        return metadata
    told = ", ".join(f"{name:.{_NAME_CHARS}}" for name in left_out[:_TOLD])
    more = f" and {len(left_out) - _TOLD} more" if len(left_out) > _TOLD else ""
    kept = {name: value for name, value in metadata.items() if name not in set(left_out)}
    return kept | {LEFT_OUT: f"the metadata is too large; it is kept without {told}{more}"}


def with_end(job: Job, data: Any, note: str | None, reply: Mapping[str, Any] | None) -> Job:
    """Return the job, completed or failed as its reply says."""
    told: dict[str, Any] = (reply or {}).get(JOB_RESULT) or {}
    ended = job.evolve(result=data, result_note=note, reply=dict(reply) if reply else None)
    if told.get("success", True):
        return ended.evolve(status=JobState.COMPLETED)
    kind: Any = told["metadata"].get(ERROR_KIND)
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
