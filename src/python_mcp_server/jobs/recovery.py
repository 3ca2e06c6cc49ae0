"""Settles jobs whose processes are gone, when any process reads them.

queued, with a reason to end        ended: the process that wrote the reason may be gone
owner lives, worker lives or none   left to the owner
owner lives, worker dead            left to the owner for 5 s after a reader saw it first, because
                                    it may be stopped, or hang; then the next reader settles it
owner gone, queued                  with a spec it waits for another server, else it has failed
owner and worker gone, not begun    the same: the server ended before its worker had read the call
owner gone, worker lives            left to the worker, which writes its outcome before it leaves;
                                    a reason to end that is in the record is carried out; a job never
                                    handed over ends with its worker, which may be too busy to leave
owner or worker out of reach        of another container: the reader asks in the record, which the
                                    owner refreshes each second; silence means that it is gone
owner gone, worker dead or none     there will never be an outcome: failed, after what is left of
                                    its tree is killed
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.cancel import OWNER_GRACE_S, carry_out_end
from python_mcp_server.jobs.record import WAITS_FOR_A_SERVER
from python_mcp_server.jobs.settle import never_started, settle
from python_mcp_server.model import Failure, Job, JobState, Outcome, ProcessIdentity, utc_now
from python_mcp_server.pool.outcomes import death
from python_mcp_server.pool.protocol import is_unbegun

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
GRAPH_TOOL: Final = "graph"
"""The tool of the job that stands for a graph, and is its gate while it is submitted."""

_OWNER_GRACE: Final = timedelta(seconds=OWNER_GRACE_S)
_SILENCE: Final = timedelta(seconds=60)
"""Heartbeat timeout for owners in another PID namespace. Guessed: 60 times the refresh interval."""

_STALE: Final = timedelta(hours=1)
"""A request older than this is repeated, because the machine may have slept right after it."""

_GRACE_S: Final = 2.0
"""How long a body that a reader ends may clean up."""

PENDING_AGAIN: Final = {"status": JobState.PENDING, "started_at": None, "worker": None, "missed_at": None}
"""The changes that make a job pending again."""

_EXIT_CODE_FIELD: Final = 49
"""Of /proc/<pid>/stat, counted behind the name."""


def recovered(store: JobStore, job: Job) -> Job:
    """Return the present state of the job, settled if its processes are gone. Blocks.

    Args:
        store: Where the job is stored. If the end cannot be written now, the job is returned unchanged.
        job: A job that the calling manager does not run.
    """
    try:
        return _recovered(store, job)
    except JobNotFound:
        return job  # pruned meanwhile
    except StoreError as error:
        _log.warning("the end of job %s cannot be written: %s", job.id, error)
        return job


def _recovered(store: JobStore, job: Job) -> Job:
    if job.status is JobState.PENDING and job.ending is not None and job.background:
        return _cancelled(store, job)
    if job.status.terminal or (job.owner is None and job.worker is None and not can_be_started(store, job)):
        return job
    if any(one is not None and processes.is_out_of_reach(one) for one in (job.owner, job.worker)):
        return _of_another_container(store, job)
    if job.owner is not None and not processes.is_gone(job.owner):
        return _of_living_owner(store, job, job.owner)
    # This process may have been stopped since it read the job, and the worker may have another one by now.
    fresh = store.get(job.id)
    if fresh is None or fresh.status.terminal or fresh.owner != job.owner:
        return fresh or job
    job = fresh
    if can_be_started(store, job):
        return job.evolve(**PENDING_AGAIN, message=WAITS_FOR_A_SERVER)
    if job.worker is not None and job.background and not processes.is_gone(job.worker):
        return carry_out_end(store, job, _GRACE_S)
    return _settled(store, job)


def _cancelled(store: JobStore, job: Job) -> Job:
    """Cancel a queued job that is to be; the gate of a graph only if its submitter, who opens it last, is
    gone.
    """
    if job.tool == GRAPH_TOOL and job.owner is not None and not processes.is_gone(job.owner):
        return _of_another_container(store, job) if processes.is_out_of_reach(job.owner) else job
    return settle(store, job.id, Outcome(cancelled=True), only_if=lambda found: _is_same(found, job))


def can_be_started(store: JobStore, job: Job) -> bool:
    """Whether the server of this job is gone, its body has not begun, and another server may start it."""
    if job.status.terminal or job.call is None or job.ending is not None:
        return False
    if job.owner is not None and not processes.is_gone(job.owner):
        return False
    if job.status is JobState.PENDING:
        return True
    gone = job.worker is not None and processes.is_gone(job.worker)
    return gone and is_unbegun(Path(store.folder_text(job.id)))


def _of_living_owner(store: JobStore, job: Job, owner: ProcessIdentity) -> Job:
    if job.worker is None or job.worker == owner or not processes.is_gone(job.worker):
        return job
    now = utc_now()
    if job.missed_at is None or job.missed_at > now:  # the clock was set back
        return _evolved(store, job, missed_at=now)
    return _settled(store, job) if now - job.missed_at > _OWNER_GRACE else job


def _of_another_container(store: JobStore, job: Job) -> Job:
    now = utc_now()
    if job.missed_at is None or not timedelta() <= now - job.missed_at < _STALE:
        return _evolved(store, job, missed_at=now)
    if now - job.missed_at < _SILENCE:
        return job
    if job.status is JobState.PENDING and job.call is not None and job.ending is None:
        return _evolved(store, job, owner=None, missed_at=None)
    sentence = "its container has ended, or does not reach this home any more; start it again"
    failure = Failure("JobFailed", f"nothing was heard of the job for a minute: {sentence}", kind="lost")
    return settle(store, job.id, Outcome(failure=failure), only_if=lambda found: _is_same(found, job))


def _evolved(store: JobStore, job: Job, **facts: Any) -> Job:
    return store.update(job.id, lambda found: found.evolve(**facts) if _is_same(found, job) else found)


def _is_same(found: Job, seen: Job) -> bool:
    """Whether no other process has taken over the job since it was read."""
    facts = (found.status, found.owner, found.worker, found.missed_at)
    return facts == (seen.status, seen.owner, seen.worker, seen.missed_at)


def _settled(store: JobStore, job: Job) -> Job:
    failure = _cause(job)  # before the kill: the exit code is readable only until the parent has gone
    if job.worker is not None:
        processes.kill_tree(job.worker, job_id=job.id, with_root=not processes.is_gone(job.worker))
    return settle(store, job.id, Outcome(failure=failure), only_if=lambda found: _is_same(found, job))


def _cause(job: Job) -> Failure:
    if job.status is JobState.PENDING:
        return never_started()
    if not job.background:
        sentence = "the server ended while the job was still waited for, and the job with it"
        return Failure("JobFailed", sentence, kind="server_died")
    if job.worker is None:
        sentence = "the server ended, and the job, which ran inside of it, with it"
        return Failure("JobFailed", sentence, kind="server_died")
    return death(_exit_code(job.worker))


def _exit_code(worker: ProcessIdentity) -> int | None:
    """Return the exit code of a dead worker that its parent has not reaped yet; negative for a signal."""
    if not processes.LINUX:
        return None
    try:
        with open(f"/proc/{worker.pid}/stat", "rb") as file:
            facts = file.read().rpartition(b")")[2].split()
    except OSError:
        return None  # the process has been reaped
    if int(facts[19]) != worker.start_ticks or facts[0] not in b"ZX":
        return None
    return os.waitstatus_to_exitcode(int(facts[_EXIT_CODE_FIELD]))
