"""The durable record of one attempt, as its front writes it: made once, kept fresh, doomed, settled."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_mcp_server.jobs.front import Front

_log: Final = logging.getLogger(__name__)


class Recording:
    """The record of one attempt.

    Attributes:
        written: Whether others can read the job.
    """

    def __init__(
        self, front: Front, job_id: str, look: Callable[[], Job], on_written: Callable[[], None]
    ) -> None:
        self.written = False
        self._front = front
        self._job_id = job_id
        self._look = look
        self._on_written = on_written
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether a record is there or on its way."""
        return self._task is not None

    def begin(self) -> None:
        """Write the record behind the caller's back."""
        if self._task is None:
            self._task = self._front.spawn(self._write(), f"record-{self._job_id}")

    async def ensure(self) -> None:
        """Return when the record is durable.

        Raises:
            StoreError: It cannot be written.
        """
        if self._task is None or (self._task.done() and not self.written):
            self._task = self._front.spawn(self._write(), f"record-{self._job_id}")
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
                _log.warning("job %s may have no record: its event loop ended", self._job_id)
            elif (error := self._task.exception()) is not None:
                _log.warning("job %s has no record: %s", self._job_id, error)

    async def refresh(self) -> Job | None:
        """Bring the record up to date, and return what stands; None where that failed: it is logged,
        for the next one may go through."""
        return await self._change(self._refreshed)

    def _refreshed(self, job: Job) -> Job:
        now = self._look()
        return job.evolve(
            status=now.status if job.ending is None else job.status,
            started_at=now.started_at,
            message=now.message,
            progress=now.progress or job.progress,
            usage=now.usage or job.usage,
            worker=now.worker or job.worker,
            background=now.background,
        )

    async def doom(self) -> None:
        """Write the verdict, before the kill."""
        await self.rest()
        await self._change(lambda job: job if job.ending else job.evolve(ending=JobState.CANCELLED.value))

    async def _change(self, change: Callable[[Job], Job]) -> Job | None:
        if not self.written:
            return None
        try:
            return await self._front.in_store(self._front.store.update, self._job_id, change)
        except (StoreError, JobNotFound) as error:
            _log.warning("the state of job %s could not be written: %s", self._job_id, error)
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
        job = await self._front.in_store(self._front.store.update, self._job_id, partial(_started, worker))
        return not (job.status.terminal or job.ending)

    def settle(self, outcome: Outcome, *, tree_gone: bool) -> Job:
        """Write the end, and return what stands; see `settle`. Blocks.

        Raises:
            StoreError, JobNotFound: It cannot be written, or the record is gone.
        """
        now = self._look()
        return settle(
            self._front.store,
            self._job_id,
            outcome,
            progress=now.progress,
            usage=now.usage,
            tree_gone=tree_gone,
        )


def _started(worker: ProcessIdentity | None, job: Job) -> Job:
    if job.ending:
        return job
    return job.evolve(
        status=JobState.RUNNING, started_at=utc_now(), message=None, worker=worker or job.worker
    )
