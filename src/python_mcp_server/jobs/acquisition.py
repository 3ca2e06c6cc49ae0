"""How a queued run gets its worker: the slot, the worker, and the change of the record to running."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError, WorkerUnavailable
from python_mcp_server.jobs.inline import InlineWorker
from python_mcp_server.jobs.record import Started
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.processes.host import is_shortage

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_mcp_server.jobs.record import RecordWriter
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.jobs.slots import BackgroundSlots
    from python_mcp_server.jobs.status import RunStatus
    from python_mcp_server.pool.pool import Pool

_log: Final = logging.getLogger(__name__)
_STARTS: Final = 3
"""How many workers in a row may end before they are ready until the job fails."""

_WITHDRAW_S: Final = 0.5
"""Between two tries to write that a job waits again; guessed, as for the slots."""


@dataclass(frozen=True, slots=True)
class WorkerAcquisition:
    """Gets a worker for one run that waits in the queue.

    Attributes:
        services: The objects that the parts of an engine share.
        slots: Where a background job waits first.
        request: The body to run.
        record: The record of the job.
        status: Gets the reason why the job is still pending.
        in_background: Whether the job needs a slot; this changes if its caller leaves meanwhile.
        on_worker: Called with True when the run gets a worker, with False when it loses the worker.
    """

    services: Services
    slots: BackgroundSlots
    request: Request
    record: RecordWriter
    status: RunStatus
    in_background: Callable[[], bool]
    on_worker: Callable[[bool], None]

    async def acquire(self) -> WorkerHandle | InlineWorker | Started:
        """Return a worker for a job that may start, or why it does not start here: it was cancelled, or
        another server has it. The record changes from pending to running before anything is sent.

        Raises:
            WorkerUnavailable, PoolClosed: No worker is available.
            JobNotFound: The record is gone.
        """
        while True:
            worker = await self._take()
            try:
                self.on_worker(True)
                claim = await self._claim(worker)
            except BaseException:  # also when this is cancelled: the worker must not stay taken
                release(self.services.pool, worker)
                raise
            if claim is Started.HERE and not worker.gone:
                return worker
            release(self.services.pool, worker)
            if claim in (Started.OVER, Started.ELSEWHERE):
                return claim
            if claim in (Started.HERE, Started.UNSURE):  # the worker died, or the store failed, meanwhile
                await self.wait_again()
            else:
                self.on_worker(False)

    async def wait_again(self) -> None:
        """Change the record back to pending, because the worker was gone before it read the call, or because
        the store did not tell whether it has written that the job runs. A background job waits until that can
        be written; a caller who waits needs no record.

        Raises:
            JobNotFound: The record is gone.
        """
        while True:
            try:
                await self.record.withdraw()
            except (StoreError, OSError, MemoryError) as error:
                _log.warning("the record of job %s does not say that it waits: %s", self.record.job_id, error)
                if self.in_background():
                    self.status.set_pending_reason(f"waiting to start: {error}")
                    await asyncio.sleep(_WITHDRAW_S)
                    continue
            self.on_worker(False)
            return

    async def _take(self) -> WorkerHandle | InlineWorker:
        tries, set_reason = 0, self.status.set_pending_reason
        while True:
            background = self.in_background()
            if background:
                await self.slots.wait_for_slot(self.record.job_id, set_reason)
            if self.request.isolation == "inline":
                return InlineWorker(self.request)
            try:
                return await self.services.pool.take(background=background, set_reason=set_reason)
            except WorkerUnavailable as error:  # it may have been killed, and nothing has started
                _log.warning("a worker for job %s did not start: %s", self.record.job_id, error)
                tries += 1
                if self._outlasts(error):
                    await asyncio.sleep(self.services.pool.start_delay_s)
                elif tries >= _STARTS:
                    raise

    def _outlasts(self, error: WorkerUnavailable) -> bool:
        """Return whether the job waits until the shortage is over. A call is refused, unless others may
        start it from its record already: what is refused must not run later.
        """
        return is_shortage(error) and (self.in_background() or self.status.spec is not None)

    async def _claim(self, worker: WorkerHandle | InlineWorker) -> Started:
        record = self.record
        record.claimed = record.begun
        if self.in_background():
            set_reason = self.status.set_pending_reason
            claim = await self.slots.acquire(record.job_id, worker.identity, set_reason)
            record.claimed = claim is Started.HERE
            return claim
        try:
            return await record.start(worker.identity) if record.begun else Started.HERE
        except StoreError as error:  # the caller waits for the value and needs no record
            _log.warning("the record of job %s does not say that it runs: %s", record.job_id, error)
            record.claimed = False
            return Started.HERE


def release(pool: Pool, worker: WorkerHandle | InlineWorker | None) -> None:
    """Give the worker of a run back to its pool."""
    if isinstance(worker, WorkerHandle):
        pool.release(worker)
