"""The one way to a terminal state for server, worker and recovery alike, and from a failed attempt to the
next.

The first writer wins, under the store's lock. A reason to end the job that was written before the kill
(`ending`) overrides any outcome of the body.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import remove_file
from python_mcp_server.job_result import ENDED, TEXT_LIMIT, unreadable, with_end
from python_mcp_server.jobs.chains import release_after
from python_mcp_server.jobs.concurrency_keys import release_key
from python_mcp_server.jobs.reply import Show, Shown, show_raw
from python_mcp_server.jobs.spending import count_run
from python_mcp_server.jsonable import text_of
from python_mcp_server.model import (
    MB,
    Failure,
    Job,
    JobProgress,
    JobState,
    Outcome,
    Usage,
    iso,
    utc_now,
)
from python_mcp_server.options import Cancel, JobOptions, Snooze
from python_mcp_server.pool.protocol import unbegun_note

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)


def settle(
    store: JobStore,
    job_id: str,
    outcome: Outcome,
    *,
    progress: JobProgress | None = None,
    usage: Usage | None = None,
    cpu_s: float = 0.0,
    tree_gone: bool = True,
    show: Show | None = None,
    only_if: Callable[[Job], bool] | None = None,
    spec: dict[str, Any] | None = None,
) -> Job:
    """Write the terminal state of a job, unless it has one; return the job in its state afterwards.

    Args:
        store: Where the job is stored.
        job_id: The job.
        outcome: How its body ended.
        progress: The last progress, where known.
        usage: The last sample, where known.
        cpu_s: The CPU time of the body, where it is known without a sample.
        only_if: Called with the present job; where it returns False, nothing is written.
        tree_gone: Whether the job's last process is gone. Where a process may live, a job that is to be ended
            is not settled: the job is returned unfinished, and its tree must be ended first.
        show: Turns the value into the form in the record; where None, the value is shown as plain JSON.
        spec: The spec with which any server may start the job again, where its record has it no more.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    shown = _shown(outcome, show or (lambda value: show_raw(value, None)))
    former: Job | None = None

    def change(job: Job) -> Job:
        nonlocal former
        former = job
        if only_if is not None and not only_if(job):
            return job
        now = job.evolve(progress=progress or job.progress, usage=merged_usage(job.usage, usage))
        if job.ending is not None and not tree_gone:
            return job if now == job else now
        return _settled(now, outcome, shown, spec)

    count_run(store, job_id, usage, cpu_s, only_if)
    job = store.update(job_id, change)
    if job.status.terminal:
        release_after(store, job_id)
    if former is None:
        return job
    if job.status.terminal and former.call is not None:  # it may have ended before a worker began it
        _remove_note(store, job_id)
    if _has_left_key(former, job):
        release_key(store, str(job.options and job.options.key))
    return job


def _remove_note(store: JobStore, job_id: str) -> None:
    try:
        remove_file(unbegun_note(store.home, job_id))
    except OSError as error:
        _log.info("the note that job %s has not begun stays: %s", job_id, error)


def _has_left_key(former: Job, job: Job) -> bool:
    """Whether the job, which was ready or ran, has ended or waits for its next attempt."""
    if job.options is None or job.options.key is None or former.behind_key:
        return False
    return former.status is not job.status and (job.status.terminal or job.status is JobState.PENDING)


def _settled(job: Job, outcome: Outcome, shown: Shown, own_spec: dict[str, Any] | None) -> Job:
    """Return the job in the terminal state of its outcome, or of the reason why it was ended."""
    spec, own_spec = kept_spec(job), own_spec if job.call is None else job.call
    job = job.evolve(completed_at=utc_now(), **ENDED)
    if job.ending == JobState.CANCELLED or (outcome.cancelled and job.ending is None):
        return job.evolve(status=JobState.CANCELLED)
    if job.ending is not None:
        sentence = job.error or f"ended at its {job.ending.replace('_', ' ')}"
        failed = job.evolve(status=JobState.FAILED, error=sentence, error_kind=job.ending)
        return _run_again(job, spec, failed, ()) or failed.evolve(call=spec)
    if outcome.failure is not None:
        failed = _failed(job, outcome.failure)
        return _run_again(job, spec, failed, outcome.failure.bases) or failed.evolve(call=spec)
    if isinstance(outcome.value, Snooze) and job.background:  # else a caller has it as its answer
        if own_spec is None and job.owner is None:
            return _failed(job, _never_again())
        until = utc_now() + timedelta(seconds=outcome.value.seconds)
        return _waiting_again(job.evolve(options=job.options or JobOptions()), own_spec, until)
    if isinstance(outcome.value, Cancel):
        return job.evolve(status=JobState.CANCELLED, error=text_of(outcome.value.reason, TEXT_LIMIT))
    ended = with_end(job, shown.result, shown.note, (job.reply or {}) | dict(shown.reply))
    if ended.status is not JobState.FAILED:
        return ended
    return _run_again(job, spec, ended, ()) or ended.evolve(call=spec)


def _run_again(job: Job, spec: dict[str, Any] | None, failed: Job, bases: tuple[str, ...]) -> Job | None:
    """Return the job as it waits for its next attempt, or None where its author allows none, or a caller
    waits for the outcome of this one.

    Args:
        job: The job as it ran.
        spec: The spec with which any server may start it.
        failed: The job as it has failed.
        bases: The qualified names of the exception's class and the classes above, where it raised one.
    """
    retry = None if job.options is None else job.options.retry
    if retry is None or not job.background or job.status is JobState.PENDING:
        return None
    if not retry.allows(failed.error_kind or "", bases):
        return None
    if (delay_s := retry.delay_after(job.attempt)) is None or (spec is None and job.owner is None):
        return None
    attempt = attempt_of(failed)
    again = _waiting_again(job, spec, utc_now() + timedelta(seconds=delay_s))
    return again.evolve(attempt=job.attempt + 1, attempts=(*job.attempts, attempt))


def attempt_of(failed: Job) -> dict[str, Any]:
    """Return the attempt that has failed, as the history of the next ones has it."""
    return {
        "attempt": failed.attempt,
        "started_at": iso(failed.started_at),
        "ended_at": iso(failed.completed_at),
        "error": failed.error,
        "error_kind": failed.error_kind,
        "usage": None if failed.usage is None else failed.usage.to_json(),
    }


def _waiting_again(job: Job, spec: dict[str, Any] | None, until: datetime) -> Job:
    """Return the job as it waits for a time. Only its server can start a job without a spec again."""
    return job.evolve(
        status=JobState.PENDING,
        call=spec,
        owner=job.owner if spec is None else None,
        worker=None,
        started_at=None,
        completed_at=None,
        progress=None,
        ending=None,
        error=None,
        not_before=until,
    )


def _failed(job: Job, failure: Failure) -> Job:
    if failure.kind == "exception":
        error = failure.sentence + (f"\n\n{failure.traceback_text}" if failure.traceback_text else "")
    else:
        error = failure.message + (_memory(job.usage) if failure.kind == "worker_died" else "")
    return job.evolve(
        status=JobState.FAILED,
        error=error,
        error_kind=failure.kind,
        error_type=failure.type_name if failure.kind == "exception" else None,
        rpc_error=failure.rpc_error,
    )


def _memory(usage: Usage | None) -> str:
    """Return the memory that was measured last, because the kernel may have ended the process for lack of
    memory.
    """
    if usage is None or not usage.rss_bytes:
        return ""
    return (
        f" (its last memory was {usage.rss_bytes / MB:.0f} MB, its peak {usage.peak_rss_bytes / MB:.0f} MB)"
    )


def _shown(outcome: Outcome, show: Show) -> Shown:
    """Return the value as the record has it. The value's own code may run here, so never call this under a
    lock.
    """
    if outcome.cancelled or outcome.failure is not None:
        return Shown()
    if outcome.shown is not None:
        return Shown(*outcome.shown, {"raw": True})
    try:
        return show(outcome.value)
    except BaseException as error:  # noqa: BLE001  such as SystemExit: it must not cost the outcome
        note = f"the result cannot be shown: {type(error).__name__}"
        return Shown(None, note, {"raw": True} | unreadable(outcome.value, note))


def merged_usage(former: Usage | None, latest: Usage | None) -> Usage | None:
    """Return the latest usage, with the peak that only the former process could see."""
    if former is None or latest is None:
        return latest or former
    peak_bytes = max(former.peak_rss_bytes, latest.peak_rss_bytes)
    cpu_s = max(former.cpu_seconds, latest.cpu_seconds)
    return replace(latest, peak_rss_bytes=peak_bytes, cpu_seconds=cpu_s)


def kept_spec(job: Job) -> dict[str, Any] | None:
    """Return the spec that a job keeps once its body has begun, and where it fails: that of a job with
    options, which may run again.
    """
    return None if job.options is None else job.call


def never_started() -> Failure:
    """Return the failure of a queued job that no server will start."""
    sentence = "the server ended before the job was started; start it again"
    return Failure("JobFailed", sentence, kind="server_died")


def _never_again() -> Failure:
    """Return the failure of a job that asks to run again, and that no server can start any more."""
    sentence = "the job asked to run again later, and its server, which alone could start it, has ended"
    return Failure("JobFailed", sentence, kind="server_died")
