"""The durable record of a job in the hands of its server or its worker: created once, kept fresh, settled."""

from __future__ import annotations

import asyncio
import logging
import os
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server import processes
from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.questions import exchange, with_questions
from python_mcp_server.jobs.reply import Show, Shown, show_raw
from python_mcp_server.jobs.settle import kept_spec, merged_usage, never_started, settle
from python_mcp_server.jobs.spending import count_call
from python_mcp_server.jobs.state import RecordState
from python_mcp_server.model import (
    Job,
    JobProgress,
    JobState,
    Outcome,
    ProcessIdentity,
    Usage,
    utc_now,
)
from python_mcp_server.pool.protocol import is_unbegun, mark_unbegun, unbegun_note
from python_mcp_server.store.opening import check_there, is_gone, open_locator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from python_mcp_server.jobs.limit_watch import EndReason
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.limits import Breach
    from python_mcp_server.questions.model import InputAnswer, Question
    from python_mcp_server.store.contract import JobStore


WAITS_FOR_A_SERVER: Final = "waiting for a server of this home that has its code"
_log: Final = logging.getLogger(__name__)


class RecordWriter:
    """The record of one job in the hands of its server.

    Attributes:
        job_id: The job.
        state: How far the record is.
        claimed: Whether the record says that this run is running, or is about to say so.
    """

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
        self.claimed = False
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
            await self._services.in_store(self._create_now, self._look())
        except BaseException as error:
            self.state = RecordState.NONE
            _log.warning("job %s has no record: %s", self.job_id, error or type(error).__name__)
            raise
        self.state = RecordState.DURABLE
        self._on_durable()

    def _create_now(self, job: Job) -> None:
        store, gate = self._services.store, self._services.quotas
        count_call(store, job)
        store.create(job)
        gate.look(job)

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
        if job.owner != self._services.identity:
            return job  # another server has taken it over, or its worker goes on alone
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
            if job.call is not None and not is_unbegun(unbegun_note(self._services.store.home, job.id)):
                news = news.evolve(call=kept_spec(job))
            news = news.evolve(started_at=now.started_at, worker=now.worker or job.worker)
        return job if news == job else news

    async def request_end(self, reason: EndReason) -> None:
        """Write the reason why the job is ended, before the kill."""
        await self.join()

        def change(job: Job) -> Job:
            others = job.status is not JobState.PENDING and not self.is_present(job)
            if job.ending or others or job.attempt != self._look().attempt:
                return job
            return job.evolve(ending=reason.ending, error=reason.sentence)

        await self._change(change)

    async def _change(self, change: Callable[[Job], Job]) -> Job | None:
        if not self.durable:
            return None
        try:
            return await self._services.in_store(self._change_now, change)
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self.job_id, error)
            return None

    def _change_now(self, change: Callable[[Job], Job]) -> Job:
        job = self._services.store.update(self.job_id, change)
        self._services.quotas.look(job)
        return job

    async def start(self, worker: ProcessIdentity | None) -> Started:
        """Change the record from pending to running, compare-and-set under the lock, before the body is sent:
        from then on a cancel by the record finds the worker there.

        Args:
            worker: The process that is about to run the body; None for this process.

        Raises:
            StoreError, JobNotFound: The record cannot be written, or is gone.
        """
        await self.join()
        if not self.durable:
            return Started.HERE
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
        self.claimed = False

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

    def settle(
        self, outcome: Outcome, *, tree_gone: bool, cpu_s: float = 0.0, spec: dict[str, Any] | None = None
    ) -> Job:
        """Write the end, and return the job in its state afterwards; see `settle`. Nothing is written where
        another process has ended this attempt already, and the job waits for the next one, or runs it.
        Blocks.

        Raises:
            StoreError, JobNotFound: The end cannot be written, or the record is gone.
        """
        now = self._look()

        job = settle(
            self._services.store,
            self.job_id,
            outcome,
            progress=now.progress,
            usage=now.usage,
            cpu_s=cpu_s,
            tree_gone=tree_gone,
            show=self._show,
            only_if=self.is_present,
            spec=spec,
        )
        self._services.quotas.look(job)
        return job

    def is_present(self, job: Job) -> bool:
        """Whether a record is still that of this run: where this process was stopped, another one may have
        settled a lost attempt, and the job may wait or run again.
        """
        now = self._look()
        if job.attempt != now.attempt or not job.background:
            return not job.background
        if job.status is JobState.PENDING:
            return not self.claimed or job.ending is not None
        return self.claimed if now.status is JobState.PENDING else job.worker == now.worker


class Started(Enum):
    """The result of an attempt to start a queued job."""

    HERE = auto()  # the record says that the job runs here
    NOT_YET = auto()  # it waits on
    UNSURE = auto()  # the answer of the store was lost: the record may say that the job runs here
    OVER = auto()  # it is no longer queued: it was cancelled
    ELSEWHERE = auto()  # another server has started it, or it waits for something else


def start_record(
    store: JobStore,
    job_id: str,
    owner: ProcessIdentity | None,
    worker: ProcessIdentity | None,
    admit: Callable[[Job], object] = bool,
) -> Started:
    """Change a queued job to running, if it belongs to this owner or to a server that is gone. Blocks.

    Its worker gets the call only after that. Where this process ends before the worker has read the call, a
    note in the home says so, and another server starts the job by its spec.

    Args:
        store: Where the job is stored.
        job_id: The job.
        owner: The process that starts it.
        worker: The process that is to run it.
        admit: Called with a job that may start, under its lock; nothing is written where it raises.

    Raises:
        StoreError, JobNotFound: The record cannot be written, or is gone.
    """
    started = Started.OVER

    def start(job: Job) -> Job:
        nonlocal started
        started = _may_start(job, owner)
        if started is not Started.HERE:
            return job
        admit(job)
        if job.call is not None:
            with translate_os_errors(str(store.home), f"note that job {job_id} has not begun"):
                mark_unbegun(unbegun_note(store.home, job_id), fsync=store.fsync)
        return job.evolve(
            status=JobState.RUNNING,
            started_at=utc_now(),
            usage=None,  # that of an earlier attempt
            message=None,
            owner=owner,
            worker=worker,
            missed_at=None,
            behind_key=False,
        )

    store.update(job_id, start)
    return started


def _may_start(job: Job, owner: ProcessIdentity | None) -> Started:
    if job.ending:
        return Started.OVER
    ours = job.owner == owner or (
        job.call is not None and (job.owner is None or processes.is_gone(job.owner))
    )
    ready = job.status is JobState.PENDING and not job.waits_for and job.not_before is None
    return Started.HERE if ours and ready else Started.ELSEWHERE


def _runs_here(job: Job) -> bool:
    """Whether this process runs the job by its record, which may say already that the job waits again."""
    unnamed = job.worker is None and job.status is not JobState.PENDING
    return unnamed or job.worker == processes.identify(os.getpid())


WORKER_RECORD: Final = "python_mcp_server.jobs.record:WorkerRecord"
"""The name by which the worker of a detached job finds `WorkerRecord`; so the pool need not import this
module.
"""


class WorkerRecord:
    """The record of a detached job in the hands of its worker, after the server is gone."""

    def __init__(self, job_id: str, record_locator: dict[str, Any]) -> None:
        """Make the record; nothing is opened yet.

        Args:
            job_id: The job.
            record_locator: The `locator` of the store, with `"grace_s"`; `"reply"`, the form of the job's
                reply; and `"spec"`, with which any server may start the job, or None.
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
                call=kept_spec(job),  # its body runs
                missed_at=None,  # a process that missed this process sees that it lives
                progress=progress or job.progress,
                usage=merged_usage(job.usage, usage),
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
        job, still lives; the next reader settles it. A job whose server has settled this attempt before it
        was killed is left as it is: it waits for its next attempt, or runs it in another worker.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """
        store = self._open()
        try:
            known: dict[str, Any] = {"progress": progress, "usage": usage}
            known["spec"] = self._locator.get("spec")
            settle(
                store, self._job_id, outcome, tree_gone=False, show=self._show, only_if=_runs_here, **known
            )
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
