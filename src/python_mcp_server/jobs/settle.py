"""The one way to a terminal state, for manager, worker and recovery alike.

First writer wins, under the store's lock; a verdict that was written before a kill (`ending`) beats
whatever the body still said.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.jobs.results import to_json
from python_mcp_server.model import Failure, Job, JobProgress, JobState, Outcome, Usage, utc_now

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

COMMIT: Final = "python_mcp_server.jobs.settle:commit"
"""How the worker of a kept job finds `commit`, without the pool knowing this module."""

_LIMIT_SENTENCES: Final = {
    "time_limit": "the job was ended at its time limit",
    "memory_limit": "the job was ended at its memory limit",
}


def settled(job: Job, outcome: Outcome) -> Job:
    """Return the job in the terminal state that this outcome, or its verdict, gives it."""
    job = job.evolve(completed_at=utc_now(), message=None)
    if job.ending == JobState.CANCELLED or (outcome.cancelled and job.ending is None):
        return job.evolve(status=JobState.CANCELLED)
    if job.ending is not None:
        sentence = _LIMIT_SENTENCES.get(job.ending, job.ending)
        return job.evolve(status=JobState.FAILED, error=sentence, error_kind=job.ending)
    if outcome.failure is not None:
        return _failed(job, outcome.failure)
    result, note = to_json(outcome.value)
    return job.evolve(status=JobState.COMPLETED, result=result, result_note=note)


def _failed(job: Job, failure: Failure) -> Job:
    if failure.kind == "exception":
        error = failure.sentence + (f"\n\n{failure.traceback_text}" if failure.traceback_text else "")
    else:
        error = failure.message
    return job.evolve(status=JobState.FAILED, error=error, error_kind=failure.kind)


def settle(
    store: JobStore,
    job_id: str,
    outcome: Outcome,
    *,
    progress: JobProgress | None = None,
    usage: Usage | None = None,
    tree_gone: bool = True,
) -> Job:
    """Write the terminal state of a job, unless it has one; return what stands.

    Args:
        store: Where it lies.
        job_id: The job.
        outcome: How its body ended.
        progress: The last progress, where it is known.
        usage: The last sample, where it is known.
        tree_gone: Whether its last process is gone. Where it may live, a verdict that somebody wrote
            is not settled: the job is returned as it is, and the tree must be ended first.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """

    def change(job: Job) -> Job:
        if job.ending is not None and not tree_gone:
            return job
        done = settled(job, outcome)
        return done.evolve(progress=progress or job.progress, usage=usage or job.usage)

    return store.update(job_id, change)


def commit(job_id: str, outcome: Outcome, sink: dict[str, Any]) -> None:
    """Settle a kept job from inside its worker, whose parent is gone.

    Args:
        job_id: The job.
        outcome: How its body ended.
        sink: `{"home": ..., "lock_s": ..., "fsync": ...}` of the file store.
    """
    from python_mcp_server.store.files import FileJobStore

    store = FileJobStore(Path(sink["home"]), lock_s=sink["lock_s"], fsync=sink["fsync"])
    try:
        settle(store, job_id, outcome)
    finally:
        store.close()
