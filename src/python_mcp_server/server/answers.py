"""The shapes of what the job tools answer: their output schemas.

From `typing_extensions`, for below Python 3.12 pydantic takes no nested `typing.TypedDict`.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class JobView(TypedDict):
    """A job: its state, its progress, what it asks, and its result or error once it has ended."""

    id: str
    label: str
    tool: NotRequired[str]
    status: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    message: NotRequired[str | None]
    error: str | None
    error_kind: str | None
    result: Any
    result_note: NotRequired[str | None]
    progress: dict[str, Any] | None
    usage: dict[str, Any] | None
    questions: NotRequired[list[dict[str, Any]]]


class JobStatus(TypedDict):
    """Answer of py_job_status."""

    job: JobView
    new_stdout: NotRequired[str]
    new_stderr: NotRequired[str]


class WaitedJob(TypedDict):
    """Answer of py_wait_job."""

    job: JobView
    timed_out: bool


class JobOutput(TypedDict):
    """Answer of py_job_output."""

    text: str
    next_offset: int
    total_bytes: int
    eof: bool
    first_line: NotRequired[int]
    total_lines: NotRequired[int]
    matches: NotRequired[int]
    unfinished: NotRequired[str]


class JobList(TypedDict):
    """Answer of py_list_jobs."""

    jobs: list[JobView]
    total: int
    more: bool


class CancelledJob(TypedDict):
    """Answer of py_cancel_job."""

    job_id: str
    status: str
    message: str


class AnsweredJob(TypedDict):
    """Answer of py_answer_job: where the job stands now, and what it still asks."""

    job_id: str
    status: str
    questions: NotRequired[list[dict[str, Any]]]


class PrunedJobs(TypedDict):
    """Answer of py_prune_jobs."""

    removed: int
    remaining: int
