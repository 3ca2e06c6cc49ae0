"""The shapes of what the job tools answer: their output schemas.

From `typing_extensions`, for below Python 3.12 pydantic takes no nested `typing.TypedDict`.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class JobView(TypedDict):
    """A job: its state, what it says of its progress, and its result or error once it has ended."""

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


class PrunedJobs(TypedDict):
    """Answer of py_prune_jobs."""

    removed: int
    remaining: int
