"""Jobs that wait for other jobs: released when the last of these has ended, or skipped if one failed.

A job waits in the list of the first job in its `waits_for`. The process that settles that job moves it on,
and each server looks for those that were missed, because a process was killed in between.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.store.keys import AFTER

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 100
GRAPH_TOOL: Final = "graph"
"""The tool of the jobs that stand for whole graphs."""

SKIPPED: Final = "skipped"
"""The `error_kind` of a job that was not started, because a job that it waits for did not complete."""


def release_after(store: JobStore, job_id: str) -> None:
    """Move on the jobs that wait for this job, if it has ended, and those that wait for jobs that are skipped
    then. Blocks.

    Raises:
        StoreError: The store cannot be read.
    """
    following = [job_id]
    while following:
        following += _release_list(store, following.pop())


def _release_list(store: JobStore, job_id: str) -> list[str]:
    """Move on the jobs that wait for this job, if it has ended; return the ids of the jobs whose lists are
    looked at next: those that were skipped, and those that the others wait for now.
    """
    following = list[str]()
    while waiting := store.indexed(AFTER + job_id, _AT_ONCE):
        ended = store.peek(job_id)
        if ended is not None and not ended.status.terminal:
            break
        moves = [_move_on(store, job.id, job_id, ended) for job in waiting]
        moved = [job for job in moves if job is not None]
        following += [job.id for job in moved if job.status.terminal]
        following += {job.waits_for[0] for job in moved if job.waits_for}
        if not moved:
            break
    return following


def _move_on(store: JobStore, waiting_id: str, ended_id: str, ended: Job | None) -> Job | None:
    """Take a job off the list of one that has ended, and return it; None where that cannot be written."""
    try:
        job = store.update(waiting_id, lambda job: _moved(job, ended_id, ended))
    except (StoreError, JobNotFound) as error:
        _log.warning("job %s still waits for job %s: %s", waiting_id, ended_id, error)
        return None
    return None if ended_id in job.waits_for else job


def _moved(job: Job, ended_id: str, ended: Job | None) -> Job:
    if job.status is not JobState.PENDING or ended_id not in job.waits_for:
        return job
    if (reason := _reason_to_skip(job, ended_id, ended)) is not None:
        return _skipped(job, ended, reason)
    rest = tuple(other for other in job.waits_for if other != ended_id)
    return job.evolve(waits_for=rest, queued_at=job.queued_at if rest else utc_now())


def _reason_to_skip(job: Job, ended_id: str, ended: Job | None) -> str | None:
    if job.options is not None and job.options.run_after_failure:
        return None
    if ended is None:
        return f"job {ended_id}, which it waits for, was removed"
    if ended.status is JobState.COMPLETED:
        return None
    label = "" if ended.label == ended.id else f" ({ended.label})"
    how = "was cancelled" if ended.status is JobState.CANCELLED else "failed"
    return f"job {ended.id}{label}, which it waits for, {how}"


def _skipped(job: Job, ended: Job | None, reason: str) -> Job:
    cancelled = ended is not None and ended.status is JobState.CANCELLED
    return job.evolve(
        status=JobState.CANCELLED if cancelled else JobState.FAILED,
        completed_at=utc_now(),
        message=None,
        call=None if cancelled else job.call,
        waits_for=(),
        error=f"skipped: {reason}",
        error_kind=None if cancelled else SKIPPED,
    )
