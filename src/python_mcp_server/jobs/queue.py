"""The way of one attempt to its worker: a place for what runs in the background, a lane, and the record
that goes from pending to running before anything is sent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.inline import InlineLane
from python_mcp_server.jobs.slots import Claim
from python_mcp_server.pool.handle import WorkerHandle

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.record import RecordWriter
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.status import RunStatus


_log: Final = logging.getLogger(__name__)
_STARTS: Final = 3
"""How many workers in a row may end before they are ready, until the job is told so."""


class WorkerWait:
    """One wait for a lane.

    Attributes:
        background: Whether it waits in the line of the background jobs, or in that of the callers.
        in_line: Whether it is a caller's that no lane has been found for yet.
    """

    def __init__(
        self, front: Engine, request: Request, record: RecordWriter, seen: RunStatus, *, background: bool
    ) -> None:
        self.background = background
        self.in_line = False
        self._front = front
        self._request = request
        self._record = record
        self._seen = seen
        if not background:
            seen.wait(front.pool.full())

    async def lane(self, *, again: bool) -> WorkerHandle | InlineLane | None:
        """Return a lane for a job that may start; None for one that was cancelled meanwhile.

        Args:
            again: Whether its record says that it runs, on a worker that was gone before it read the call.

        Raises:
            StoreError, JobNotFound: The record cannot be written, or is gone.
            PoolClosed: No more work is taken.
            OSError, RuntimeError: The machine gives no process.
        """
        if again:
            await self._record.withdraw()
        while True:
            lane = await self._next_lane()
            try:
                claim = await self._claim(lane)
            except BaseException:  # also when this is cancelled: the lane must not stay taken
                self._release(lane)
                raise
            if claim is Claim.TAKEN and not lane.gone:
                return lane
            self._release(lane)
            if claim is Claim.OVER:
                return None
            if claim is Claim.TAKEN:
                await self._record.withdraw()  # the lane died while the record was written

    async def _next_lane(self) -> WorkerHandle | InlineLane:
        if self.background:
            await self._front.places.turn(self._record.job_id, self._seen.wait)
        if self._request.isolation == "inline":
            return InlineLane(self._request)
        self.in_line = not self.background
        try:
            return await self._take()
        finally:
            self.in_line = False

    async def _take(self) -> WorkerHandle:
        for _ in range(_STARTS - 1):
            try:
                return await self._front.pool.take(background=self.background)
            except (OSError, RuntimeError) as error:  # it may have been killed, and nothing has started
                _log.warning("a worker for job %s did not start: %s", self._record.job_id, error)
        return await self._front.pool.take(background=self.background)

    async def _claim(self, lane: WorkerHandle | InlineLane) -> Claim:
        if self.background:
            return await self._front.places.claim(self._record.job_id, lane.identity)
        try:
            started = not self._record.begun or await self._record.start(lane.identity)
        except StoreError as error:  # its caller waits for the value, and needs no record for that
            _log.warning("the record of job %s does not say that it runs: %s", self._record.job_id, error)
            return Claim.TAKEN
        return Claim.TAKEN if started else Claim.OVER

    def _release(self, lane: WorkerHandle | InlineLane) -> None:
        if isinstance(lane, WorkerHandle):
            self._front.pool.release(lane)
