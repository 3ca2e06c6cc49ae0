"""The durable record of a job: created once, kept fresh, and settled. `settle` is the one way to a terminal
state for server, worker and recovery alike.

The first writer wins, under the store's lock. A reason to end the job that was written before the kill
(`ending`) overrides any outcome of the body.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.questions import exchange, with_questions
from python_mcp_server.jobs.reply import Show, Shown, show_raw
from python_mcp_server.jobs.state import RecordState
from python_mcp_server.model import (
    MB,
    Failure,
    Job,
    JobProgress,
    JobState,
    Outcome,
    ProcessIdentity,
    Usage,
    utc_now,
)
from python_mcp_server.pool.protocol import is_unbegun, mark_unbegun
from python_mcp_server.store.opening import check_there, is_gone, open_locator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from python_mcp_server.jobs.limit_watch import EndReason
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.limits import Breach
    from python_mcp_server.questions.model import InputAnswer, Question
    from python_mcp_server.store.contract import JobStore


WAITS_FOR_A_SERVER: Final = "its server has ended; the next one with this home starts it"
_log: Final = logging.getLogger(__name__)


class RecordWriter:
    """The record of one job in the hands of its server."""

    def __init__(
        self,
        services: Services,
        job_id: str,
        look: Callable[[], Job],
        on_durable: Callable[[], None],
        show: Show | None = None,
    ) -> None:
        self.job_id = job_id
        self.state = RecordState.NONE
        self._services = services
        self._look = look
        self._on_durable = on_durable
        self._show = show
        self._task: asyncio.Future[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the record exists or is being written."""
        return self.state is not RecordState.NONE

    @property
    def durable(self) -> bool:
        """Whether others can read the job."""
        return self.state is RecordState.DURABLE

    def adopt(self) -> None:
        """Take over the record of another server, which exists already."""
        self.state = RecordState.DURABLE

    def create_soon(self) -> None:
        """Write the record in the background."""
        if self.state is RecordState.NONE:
            self.state = RecordState.WRITING
            self._task = self._services.spawn(self._create(), f"record-{self.job_id}")

    async def ensure_durable(self) -> None:
        """Return when the record is durable.

        Raises:
            StoreError: The record cannot be written.
        """
        self.create_soon()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _create(self) -> None:
        try:
            await self._services.in_store(self._services.store.create, self._look())
        except BaseException as error:
            self.state = RecordState.NONE
            _log.warning("job %s has no record: %s", self.job_id, error or type(error).__name__)
            raise
        self.state = RecordState.DURABLE
        self._on_durable()

    async def join(self) -> None:
        """Wait until no record is being written."""
        if self.state is RecordState.WRITING and self._task is not None:
            await asyncio.wait({self._task})

    async def refresh(self) -> Job | None:
        """Bring the record up to date, and return the job in its state afterwards; None where that failed. A
        failure is only logged, because the next refresh may succeed.
        """
        return await self._change(self._refreshed)

    def _refreshed(self, job: Job) -> Job:
        now = self._look()
        news = job.evolve(
            missed_at=None,  # a process that missed this process sees that it lives
            message=now.message,
            progress=now.progress or job.progress,
            usage=now.usage or job.usage,
            background=now.background,
        )
        if job.status is JobState.PENDING:
            news = news if job.ending else news.evolve(call=now.call)
        elif now.status is JobState.PENDING:
            return job  # the job has just become running, or must wait again: `start` and `withdraw` say so
        else:
            news = with_questions(news, job.questions)  # others may have answered
            if job.call is not None and not is_unbegun(Path(self._services.store.folder_text(job.id))):
                news = news.evolve(call=None)
            news = news.evolve(started_at=now.started_at, worker=now.worker or job.worker)
        return job if news == job else news

    async def request_end(self, reason: EndReason) -> None:
        """Write the reason why the job is ended, before the kill."""
        await self.join()
        await self._change(
            lambda job: job if job.ending else job.evolve(ending=reason.ending, error=reason.sentence)
        )

    async def _change(self, change: Callable[[Job], Job]) -> Job | None:
        if not self.durable:
            return None
        try:
            return await self._services.in_store(self._services.store.update, self.job_id, change)
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self.job_id, error)
            return None

    async def start(self, worker: ProcessIdentity | None) -> bool:
        """Change the record from pending to running, compare-and-set under the lock, before the body is sent:
        from then on a cancel by the record finds the worker there.

        Args:
            worker: The process that is about to run the body; None for this process.

        Returns:
            Whether the body may start; False when the job was cancelled meanwhile.

        Raises:
            StoreError, JobNotFound: The record cannot be written, or is gone.
        """
        await self.join()
        if not self.durable:
            return True
        start = partial(start_record, self._services.store, self.job_id, self._services.identity, worker)
        return await self._services.in_store(start)

    async def withdraw(self) -> None:
        """Change the record from running back to pending, because the worker was gone before it read the
        call.

        Raises:
            StoreError, JobNotFound: As `start`.
        """
        await self.join()
        if self.durable:
            await self._services.in_store(self._services.store.update, self.job_id, self._withdrawn)

    def _withdrawn(self, job: Job) -> Job:
        if job.ending or job.owner != self._services.identity:
            return job
        now = self._look()
        return job.evolve(
            status=JobState.PENDING,
            started_at=None,
            worker=None,
            missed_at=None,
            call=now.call,
            message=now.message,
        )

    async def requeue(self) -> None:
        """Leave a queued job to another server; where that cannot be written, the end of this process has the
        same effect.
        """
        await self._change(self._released)

    def _released(self, job: Job) -> Job:
        if job.ending or job.owner != self._services.identity:
            return job
        return self._withdrawn(job).evolve(owner=None, message=WAITS_FOR_A_SERVER)

    def abandon(self) -> None:
        """Leave a queued job to another server, or fail the job where no server can start it. Blocks."""
        store = self._services.store
        try:
            if self._look().call is not None:
                store.update(self.job_id, self._released)
            else:
                settle(store, self.job_id, Outcome(failure=never_started()))
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self.job_id, error)

    async def orphan(self) -> None:
        """Leave a running job to its worker: from now on the job lives as long as the worker."""
        await self._change(lambda job: self._refreshed(job).evolve(owner=None))

    def settle(self, outcome: Outcome, *, tree_gone: bool) -> Job:
        """Write the end, and return the job in its state afterwards; see `settle`. Blocks.

        Raises:
            StoreError, JobNotFound: The end cannot be written, or the record is gone.
        """
        now = self._look()
        return settle(
            self._services.store,
            self.job_id,
            outcome,
            progress=now.progress,
            usage=now.usage,
            tree_gone=tree_gone,
            show=self._show,
        )


def start_record(
    store: JobStore, job_id: str, owner: ProcessIdentity | None, worker: ProcessIdentity | None
) -> bool:
    """Change a queued job of this owner to running, and return whether that was done. Blocks.

    Its worker gets the call only after that. Where this process ends before the worker has read the call, a
    note in the job's folder says so, and another server starts the job by its spec.

    Raises:
        StoreError, JobNotFound: The record cannot be written, or is gone.
    """
    started = False

    def start(job: Job) -> Job:
        nonlocal started
        started = job.status is JobState.PENDING and not job.ending and job.owner == owner
        if not started:
            return job
        if job.call is not None:
            with translate_os_errors(str(store.home), f"note that job {job_id} has not begun"):
                mark_unbegun(store.folder(job_id), fsync=store.fsync)
        return job.evolve(
            status=JobState.RUNNING,
            started_at=utc_now(),
            message=None,
            worker=worker,
            missed_at=None,
        )

    store.update(job_id, start)
    return started


WORKER_RECORD: Final = "python_mcp_server.jobs.record:WorkerRecord"
"""The name by which the worker of a detached job finds `WorkerRecord`; so the pool need not import this
module.
"""


def _settled(job: Job, outcome: Outcome, shown: Shown) -> Job:
    """Return the job in the terminal state of its outcome, or of the reason why it was ended."""
    job = job.evolve(completed_at=utc_now(), message=None, call=None, missed_at=None, questions=())
    if job.ending == JobState.CANCELLED or (outcome.cancelled and job.ending is None):
        return job.evolve(status=JobState.CANCELLED)
    if job.ending is not None:
        sentence = job.error or f"ended at its {job.ending.replace('_', ' ')}"
        return job.evolve(status=JobState.FAILED, error=sentence, error_kind=job.ending)
    if outcome.failure is not None:
        return _failed(job, outcome.failure)
    reply = (job.reply or {}) | dict(shown.reply)
    return job.evolve(
        status=JobState.COMPLETED, result=shown.result, result_note=shown.note, reply=reply or None
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
        return Shown(None, f"the result cannot be shown: {type(error).__name__}", {"raw": True})


def _merged(former: Usage | None, latest: Usage | None) -> Usage | None:
    """Return the latest usage, with the peak that only the former process could see."""
    if former is None or latest is None:
        return latest or former
    peak_bytes = max(former.peak_rss_bytes, latest.peak_rss_bytes)
    cpu_s = max(former.cpu_seconds, latest.cpu_seconds)
    return replace(latest, peak_rss_bytes=peak_bytes, cpu_seconds=cpu_s)


def settle(
    store: JobStore,
    job_id: str,
    outcome: Outcome,
    *,
    progress: JobProgress | None = None,
    usage: Usage | None = None,
    tree_gone: bool = True,
    show: Show | None = None,
    only_if: Callable[[Job], bool] | None = None,
) -> Job:
    """Write the terminal state of a job, unless it has one; return the job in its state afterwards.

    Args:
        store: Where the job is stored.
        job_id: The job.
        outcome: How its body ended.
        progress: The last progress, where known.
        usage: The last sample, where known.
        only_if: Called with the present job; where it returns False, nothing is written.
        tree_gone: Whether the job's last process is gone. Where a process may live, a job that is to be ended
            is not settled: the job is returned unfinished, and its tree must be ended first.
        show: Turns the value into the form in the record; where None, the value is shown as plain JSON.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    shown = _shown(outcome, show or (lambda value: show_raw(value, None)))

    def change(job: Job) -> Job:
        if only_if is not None and not only_if(job):
            return job
        now = job.evolve(progress=progress or job.progress, usage=_merged(job.usage, usage))
        if job.ending is not None and not tree_gone:
            return job if now == job else now
        return _settled(now, outcome, shown)

    return store.update(job_id, change)


def never_started() -> Failure:
    """Return the failure of a queued job that no server will start."""
    sentence = "the server ended before the job was started; start it again"
    return Failure("JobFailed", sentence, kind="server_died")


class WorkerRecord:
    """The record of a detached job in the hands of its worker, after the server is gone."""

    def __init__(self, job_id: str, record_locator: dict[str, Any]) -> None:
        """Make the record; nothing is opened yet.

        Args:
            job_id: The job.
            record_locator: The `locator` of the store, with `"grace_s"`, and `"reply"`, the form of the
                job's reply.
        """
        self.grace_s: float = record_locator["grace_s"]
        self._job_id = job_id
        self._locator = record_locator
        self._store: JobStore | None = None

    def refresh(self, progress: JobProgress | None, usage: Usage | None) -> bool:
        """Write the progress of the job.

        Returns:
            Whether the body must end: the record says so, or is settled.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """

        def change(job: Job) -> Job:
            if job.ending is not None:
                return job
            now = job.evolve(
                background=True,
                call=None,  # its body runs
                missed_at=None,  # a process that missed this process sees that it lives
                progress=progress or job.progress,
                usage=_merged(job.usage, usage),
            )
            return job if now == job else now

        job = self._open().update(self._job_id, change)
        return job.status.terminal or job.ending is not None

    def request_end(self, breach: Breach) -> None:
        """Write that the job is ended at a limit, before the kill.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """

        def change(job: Job) -> Job:
            settled = job.status.terminal or job.ending is not None
            return job if settled else job.evolve(ending=breach.kind, error=breach.sentence)

        self._open().update(self._job_id, change)

    def exchange(
        self, asked: Collection[Question], expired: Collection[str]
    ) -> Mapping[str, InputAnswer | None]:
        """Write the body's questions into the record; return them by key, each with its answer if there is
        one.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """
        job = exchange(self._open(), self._job_id, asked, expired)
        return {question.key: question.answer for question in job.questions}

    def commit(self, outcome: Outcome, progress: JobProgress | None, usage: Usage | None) -> None:
        """Settle the job. A job that is to be ended is left unsettled, because this process, the last of the
        job, still lives; the next reader settles it.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """
        store = self._open()
        try:
            known: dict[str, Any] = {"progress": progress, "usage": usage}
            settle(store, self._job_id, outcome, tree_gone=False, show=self._show, **known)
        except JobNotFound:  # pruned: its server had settled it before it was killed
            store.discard_folder(self._job_id)
            raise

    def _show(self, value: Any) -> Shown:
        return show_raw(value, self._locator.get("reply"))

    def gone(self) -> bool:
        """Whether the store was removed; a disk that cannot be read does not count as removed."""
        return is_gone(self._locator)

    def close(self) -> None:
        """Bring the list for people up to date."""
        if self._store is not None:
            self._store.close()

    def _open(self) -> JobStore:
        """Return the store; a missing store, such as on a disk that is gone, is not made anew."""
        if self._store is None:
            self._store = open_locator(self._locator)
        else:
            check_there(self._locator)
        return self._store
