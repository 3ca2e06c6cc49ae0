"""Jobs as the dictionaries that tools, functions and the command line answer with."""

from __future__ import annotations

from typing import Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import Job, JobState


def state_named(name: str | None) -> JobState | None:
    """Return the state of this name; None stays None.

    Raises:
        InvalidInput: There is no such state; the text lists those there are.
    """
    try:
        return None if name is None else JobState(name)
    except ValueError:
        known = ", ".join(state.value for state in JobState)
        raise InvalidInput(f"status_filter is {name!r}; it must be one of {known}") from None


def listing(jobs: list[Job], more: bool) -> dict[str, Any]:
    """Return `{"jobs", "total", "more"}`; total counts what is in the answer."""
    return {"jobs": [job.to_json() for job in jobs], "total": len(jobs), "more": more}


def cancellation(job: Job, *, ended_before: bool) -> dict[str, Any]:
    """Return `{"job_id", "status", "message"}` of a job after somebody tried to cancel it."""
    if ended_before:
        message = f"Job {job.id} had already ended as {job.status}; nothing was cancelled"
    elif job.status is JobState.CANCELLED:
        message = f"Job {job.id} was cancelled; its last process is gone"
    else:
        message = f"Job {job.id} ended as {job.status} before it could be cancelled"
    return {"job_id": job.id, "status": job.status.value, "message": message}
