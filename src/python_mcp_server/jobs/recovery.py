"""Jobs that nobody is left to settle: whoever reads one first settles it.

While the owner lives, it settles; once it is dead, the worker's life is the job's, and a worker
writes its outcome before it leaves. So when both are gone and the record is not terminal, there will
never be an outcome.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Failure, Job, JobState, Outcome, ProcessIdentity

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore


def recovered(store: JobStore, job: Job) -> Job:
    """Return the job as it is, or settled as failed (or as its verdict says) if its processes are gone.

    Args:
        store: Where it lies.
        job: A job that no attempt of the calling manager is at work on.

    Raises:
        StoreError: The end cannot be written.
    """
    if job.status.terminal or job.owner is None:
        return job
    if job.owner == processes.identify(os.getpid()):
        if job.worker is None:
            return job  # of another manager of this process, which has it in hand
    elif not _gone(job.owner):
        return job
    if job.worker is not None:
        if not _gone(job.worker):
            return job
        processes.kill_tree(job.worker, job_id=job.id, with_root=False)
    try:
        return settle(store, job.id, Outcome(failure=_cause(job)))
    except JobNotFound:
        return job  # pruned meanwhile


def _gone(identity: ProcessIdentity) -> bool:
    """Whether this process surely runs no more: of another namespace's processes nobody here knows."""
    own = processes.identify(os.getpid())
    same_boot = own is not None and own.boot_id == identity.boot_id
    if same_boot and own is not None and own.pid_namespace != identity.pid_namespace:
        return False
    return not processes.is_alive(identity)


def _cause(job: Job) -> Failure:
    if job.status is JobState.PENDING:
        sentence = "the server ended before the job was started; start it again"
        return Failure("JobFailed", sentence, kind="server_died")
    if not job.background:
        sentence = "the server ended while the job was still waited for, and the job with it"
        return Failure("JobFailed", sentence, kind="server_died")
    return Failure("WorkerDied", "the worker process ended without a result", kind="worker_died")
