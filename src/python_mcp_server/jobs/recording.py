"""The durable record of one attempt, as its front writes it: made once, kept fresh, doomed, settled."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.questions import standing
from python_mcp_server.jobs.settle import never_started, settle
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity, utc_now
from python_mcp_server.pool.deaths import is_unbegun, mark_unbegun

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_mcp_server.jobs.front import Front
    from python_mcp_server.jobs.limits import Verdict
    from python_mcp_server.jobs.reply import Show
    from python_mcp_server.store.contract import JobStore

WAITS_FOR_A_SERVER: Final = "its server has ended; the next one with this home starts it"
_log: Final = logging.getLogger(__name__)


class Recording:
    """The record of one attempt.

    Attributes:
        job_id: The job.
        written: Whether others can read the job.
    """

    def __init__(
        self,
        front: Front,
        job_id: str,
        look: Callable[[], Job],
        on_written: Callable[[], None],
        show: Show | None = None,
    ) -> None:
        self.written = False
        self._front = front
        self.job_id = job_id
        self._look = look
        self._on_written = on_written
        self._show = show
        self._task: asyncio.Future[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether a record is there or on its way."""
        return self._task is not None

    def resume(self) -> None:
        """The record is there already: it was taken over."""
        self._task = self._front.loop.create_future()
        self._task.set_result(None)
        self.written = True

    def begin(self) -> None:
        """Write the record behind the caller's back."""
        if self._task is None:
            self._task = self._front.spawn(self._write(), f"record-{self.job_id}")

    async def ensure(self) -> None:
        """Return when the record is durable.

        Raises:
            StoreError: It cannot be written.
        """
        if self._task is None or (self._task.done() and not self.written):
            self._task = self._front.spawn(self._write(), f"record-{self.job_id}")
        await asyncio.shield(self._task)

    async def _write(self) -> None:
        await self._front.in_store(self._front.store.create, self._look())
        self.written = True
        self._on_written()

    async def rest(self) -> None:
        """Wait until no record is on its way."""
        if self._task is not None:
            await asyncio.wait({self._task})
            if self._task.cancelled():
                _log.warning("job %s may have no record: its event loop ended", self.job_id)
            elif (error := self._task.exception()) is not None:
                _log.warning("job %s has no record: %s", self.job_id, error)

    async def refresh(self) -> Job | None:
        """Bring the record up to date, and return what stands; None where that failed: it is logged,
        for the next one may go through."""
        return await self._change(self._refreshed)

    def _refreshed(self, job: Job) -> Job:
        now = self._look()
        news = job.evolve(
            missed_at=None,  # whoever missed us sees that we are there
            message=now.message,
            progress=now.progress or job.progress,
            usage=now.usage or job.usage,
            background=now.background,
        )
        if job.status is JobState.PENDING:
            news = news if job.ending else news.evolve(call=now.call)
        elif now.status is JobState.PENDING:
            return job  # it has just become running, or must wait again: `start` and `withdraw` say so
        else:
            news = standing(news, job.questions)  # others may have answered
            if job.call is not None and not is_unbegun(self._front.store.folder(job.id)):
                news = news.evolve(call=None)
            news = news.evolve(started_at=now.started_at, worker=now.worker or job.worker)
        return job if news == job else news

    async def doom(self, verdict: Verdict) -> None:
        """Write the verdict, before the kill."""
        await self.rest()
        await self._change(
            lambda job: job if job.ending else job.evolve(ending=verdict.ending, error=verdict.sentence)
        )

    async def _change(self, change: Callable[[Job], Job]) -> Job | None:
        if not self.written:
            return None
        try:
            return await self._front.in_store(self._front.store.update, self.job_id, change)
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self.job_id, error)
            return None

    async def start(self, worker: ProcessIdentity | None) -> bool:
        """Go from pending to running, compare-and-set under the lock, before the body is sent: from
        then on whoever cancels by the record finds the worker there.

        Args:
            worker: Who is about to run the body; None where that is this process.

        Returns:
            Whether the body may start; False when somebody cancelled the job meanwhile.

        Raises:
            StoreError, JobNotFound: The record cannot be written, or is gone.
        """
        await self.rest()
        if not self.written:
            return True
        start = partial(start_record, self._front.store, self.job_id, self._front.identity, worker)
        return await self._front.in_store(start)

    async def withdraw(self) -> None:
        """Go from running back to pending: the worker was gone before it read the call.

        Raises:
            StoreError, JobNotFound: As `start`.
        """
        await self.rest()
        if self.written:
            await self._front.in_store(self._front.store.update, self.job_id, self._withdrawn)

    def _withdrawn(self, job: Job) -> Job:
        if job.ending or job.owner != self._front.identity:
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

    async def release(self) -> None:
        """Leave a queued job to another server; if that cannot be written, our end will say so."""
        await self._change(self._released)

    def _released(self, job: Job) -> Job:
        if job.ending or job.owner != self._front.identity:
            return job
        return self._withdrawn(job).evolve(owner=None, message=WAITS_FOR_A_SERVER)

    def leave(self) -> None:
        """Do what `release` does, or say that nobody will start it; for plain code. Blocks."""
        store = self._front.store
        try:
            if self._look().call is not None:
                store.update(self.job_id, self._released)
            else:
                settle(store, self.job_id, Outcome(failure=never_started()))
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self.job_id, error)

    async def set_free(self) -> None:
        """Leave a running job to its worker: from now on its life is the job's."""
        await self._change(lambda job: self._refreshed(job).evolve(owner=None))

    def settle(self, outcome: Outcome, *, tree_gone: bool) -> Job:
        """Write the end, and return what stands; see `settle`. Blocks.

        Raises:
            StoreError, JobNotFound: It cannot be written, or the record is gone.
        """
        now = self._look()
        return settle(
            self._front.store,
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
    """Let a queued job of this owner be running, and say whether it is. Blocks.

    Its worker gets it only after that. Where this process ends in between, or before the worker has read
    it, the note in its folder says so, and another server starts it by its recipe.

    Raises:
        StoreError, JobNotFound, OSError: It cannot be written, or the record is gone.
    """
    started = False

    def start(job: Job) -> Job:
        nonlocal started
        started = job.status is JobState.PENDING and not job.ending and job.owner == owner
        if not started:
            return job
        if job.call is not None:
            mark_unbegun(store.folder(job_id))
        return job.evolve(
            status=JobState.RUNNING,
            started_at=utc_now(),
            message=None,
            worker=worker,
            missed_at=None,
        )

    store.update(job_id, start)
    return started
