"""Ends a job by its record alone: from another process, or from plain code on the owner's own loop.

The reason goes into the record first; then the worker gets a signal, has its grace, and is killed with its
tree; the state is written when the last process is gone. All functions block.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound, PythonMcpError, StoreLocked
from python_mcp_server.jobs.expired import not_found
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

OWNER_GRACE_S: Final = 5.0
"""How long the owner may take to settle a job whose worker is gone, before another process does."""

_POLL_S: Final = 0.005
_AGAIN_S: Final = 0.02
_TRIES: Final = 3
"""Time to take a lock whose holder was ended: another process of the same tree may have waited for it too."""

_STOP: Final[int | None] = getattr(signal, "SIGSTOP", None)
_CONTINUE: Final[int | None] = getattr(signal, "SIGCONT", None)


def cancel_record(store: JobStore, job_id: str, grace_s: float, has_ended: Callable[[], bool] = bool) -> Job:
    """Cancel a job that this call reaches only through its record; return the job in its state afterwards.

    Args:
        store: Where the job is stored.
        job_id: The job.
        grace_s: How long its body may clean up, where its record does not say that.
        has_ended: Whether the body has ended although its worker lives, where the caller can know.

    Raises:
        JobNotFound: There is no such job.
        JobCancelled: This process itself runs the job.
        PythonMcpError: Some of its processes did not end, or cannot be reached from here: the reason stays in
            the record, and the job ends when they do.
    """
    job = _request_end(store, job_id)
    if job.status is JobState.PENDING and job.worker is None:  # a server that starts it sees the reason first
        job = settle(
            store, job_id, Outcome(cancelled=True), only_if=lambda job: job.status is JobState.PENDING
        )
    if job.status.terminal:
        return job
    if job.worker is not None and job.worker == processes.identify(os.getpid()):
        from python_mcp_server.cancelled import JobCancelled

        raise JobCancelled("the job cancelled itself")
    job, hindrance = _carry_out(store, job, grace_s, has_ended)
    if hindrance is not None:
        raise PythonMcpError(
            f"Job {job_id} is not cancelled yet: {hindrance}; its record says what is wanted"
        )
    return job


def carry_out_end(store: JobStore, job: Job, grace_s: float) -> Job:
    """End a job whose record has a reason to end it, where only its worker is left to do so, because the
    process that wrote the reason may be gone. Return the job in its state afterwards. Readers call this; any
    other job is returned unchanged.

    Args:
        store: Where the job is stored.
        job: The job as it was read.
        grace_s: How long its body may clean up, where its record does not say that: counted anew, because
            the time already spent is not known.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    if job.status.terminal or job.ending is None or job.worker is None:
        return job
    own = processes.identify(os.getpid())
    answerable = job.owner is not None and job.owner != job.worker and not processes.is_gone(job.owner)
    if answerable or own in (job.owner, job.worker) or processes.is_out_of_reach(job.worker):
        return job
    return _carry_out(store, job, grace_s, bool)[0]


def _request_end(store: JobStore, job_id: str) -> Job:
    try:
        return store.update(job_id, _with_reason)
    except StoreLocked as error:
        return _take_lock(store, job_id, error)
    except JobNotFound:
        raise not_found(store, job_id) from None


def _take_lock(store: JobStore, job_id: str, error: StoreLocked) -> Job:
    """Write the reason although a process holds the lock for too long. If the holder belongs to the tree of
    the job, it is ended, because it may be stopped.
    """
    job = store.get(job_id)
    if job is None or job.worker is None or job.status.terminal:
        raise error
    for _ in range(_TRIES):
        holder = _holder_in_tree(job.worker, job_id, error)
        with _stopped(job.worker):
            if holder == job.worker:  # while the worker is there to hold its orphans
                processes.kill_tree(job.worker, job_id=job_id, with_root=False)
            if holder is not None:
                processes.send_signal(holder, processes.KILL)
            try:
                return store.update(job_id, _with_reason)
            except StoreLocked as again:
                error = again
    raise error


def _holder_in_tree(worker: ProcessIdentity, job_id: str, error: StoreLocked) -> ProcessIdentity | None:
    """Return the process that holds the lock; None if it has ended meanwhile. For a holder outside of the
    tree `error` is raised, which names it.
    """
    holder = None if error.holder_pid is None else processes.identify(error.holder_pid)
    if holder is None and error.holder_pid is not None:
        return None
    tree = (worker, *processes.find_tree(worker, job_id))
    if holder is None or holder.pid not in {member.pid for member in tree}:
        raise error
    return holder


@contextmanager
def _stopped(worker: ProcessIdentity) -> Generator[None]:
    """Stop a worker, so that its body cannot react to the end of a child by ending itself."""
    if _STOP is not None:
        processes.send_signal(worker, _STOP)
    try:
        yield
    finally:
        if _CONTINUE is not None:
            processes.send_signal(worker, _CONTINUE)


def _with_reason(job: Job) -> Job:
    return job if job.ending else job.evolve(ending=JobState.CANCELLED.value)


def _carry_out(
    store: JobStore, job: Job, grace_s: float, has_ended: Callable[[], bool]
) -> tuple[Job, str | None]:
    """End the job; return its state afterwards, and the reason where it has not ended. The grace is the one
    that the job was started with, where its record has it.
    """
    grace_s = grace_s if job.grace_s is None else job.grace_s
    if any(one is not None and processes.is_out_of_reach(one) for one in (job.owner, job.worker)):
        job = _await_owner(store, job.id, grace_s + 2 * OWNER_GRACE_S)
        return job, None if job.status.terminal else "it runs elsewhere, and its server is silent"
    if job.worker is not None and (survivors := _end_worker(job.worker, job.id, grace_s, has_ended)):
        return job, f"these processes would not end: {', '.join(map(str, survivors))}"
    if job.owner is not None and job.owner.pid != os.getpid() and processes.is_alive(job.owner):
        job = _await_owner(store, job.id, OWNER_GRACE_S)
    return job if job.status.terminal else settle(store, job.id, Outcome(cancelled=True)), None


def _end_worker(
    worker: ProcessIdentity, job_id: str, grace_s: float, has_ended: Callable[[], bool]
) -> list[int]:
    """Let the body clean up, then end the tree; return the pids that did not end."""
    deadline = time.monotonic() + grace_s
    signal_at = 0.0
    while processes.is_alive(worker) and not has_ended() and (now := time.monotonic()) < deadline:
        if now >= signal_at:  # repeated: a signal that lands in our own code is ignored
            processes.send_signal(worker, signal.SIGTERM)
            if _CONTINUE is not None:  # a stopped process receives nothing
                processes.send_signal(worker, _CONTINUE)
            signal_at = now + _AGAIN_S
        time.sleep(_POLL_S)
    return processes.kill_tree(worker, job_id=job_id, with_root=processes.is_alive(worker))


def _await_owner(store: JobStore, job_id: str, wait_s: float) -> Job:
    deadline = time.monotonic() + wait_s
    while True:
        job = store.get(job_id)
        if job is None:
            raise not_found(store, job_id)
        if job.status.terminal or time.monotonic() >= deadline:
            return job
        time.sleep(_POLL_S)
