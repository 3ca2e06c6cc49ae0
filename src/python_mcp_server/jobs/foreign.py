"""Cancelling by the record alone: from another process, or from plain code on the owner's own loop.

The verdict goes into the record first; then the worker hears a signal, has its grace, and is killed
with its tree; the state is written when the last process is gone. Blocks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

OWNER_GRACE_S: Final = 5.0
"""How long the owner may take to settle a job whose worker is gone, before another process does."""

_POLL_S: Final = 0.005
_AGAIN_S: Final = 0.02


def cancel_record(store: JobStore, job_id: str, grace_s: float, has_ended: Callable[[], bool] = bool) -> Job:
    """Cancel a job that this call reaches only through its record; return what stands.

    Args:
        store: Where it lies.
        job_id: The job.
        grace_s: How long its body may clean up.
        has_ended: Whether the body has ended though its worker lives, where the caller can know.

    Raises:
        JobNotFound: There is no such job.
    """
    job = store.update(job_id, lambda job: job if job.ending else job.evolve(ending=JobState.CANCELLED.value))
    if job.status.terminal:
        return job
    if job.worker is not None and processes.is_alive(job.worker):
        _end_worker(job.worker, job_id, grace_s, has_ended)
    if job.owner is not None and job.owner.pid != os.getpid() and processes.is_alive(job.owner):
        job = _await_owner(store, job_id)
        if job.status.terminal:
            return job
    return settle(store, job_id, Outcome(cancelled=True))


def _end_worker(worker: ProcessIdentity, job_id: str, grace_s: float, has_ended: Callable[[], bool]) -> None:
    deadline = time.monotonic() + grace_s
    signal_at = 0.0
    while processes.is_alive(worker) and not has_ended() and (now := time.monotonic()) < deadline:
        if now >= signal_at:  # again and again: one that lands in our own code is not heard
            processes.send_signal(worker, signal.SIGTERM)
            signal_at = now + _AGAIN_S
        time.sleep(_POLL_S)
    processes.kill_tree(worker, job_id=job_id, with_root=processes.is_alive(worker))


def _await_owner(store: JobStore, job_id: str) -> Job:
    deadline = time.monotonic() + OWNER_GRACE_S
    while True:
        job = store.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        if job.status.terminal or time.monotonic() >= deadline:
            return job
        time.sleep(_POLL_S)
