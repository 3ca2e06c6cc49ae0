"""From the outcome of a body to the settled record: processes first, then the record, then what is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.worker.streams import try_link_logs

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.inline import InlineLane
    from python_mcp_server.jobs.record import RecordWriter
    from python_mcp_server.jobs.status import RunStatus
    from python_mcp_server.model import Call, Job, JobState, Outcome

_log: Final = logging.getLogger(__name__)

BLOATED_BYTES: Final = 300_000_000
"""A worker that has grown beyond this is not used again; guessed: ten times a fresh one."""


class Finish:
    """How one attempt is settled, once."""

    def __init__(self, front: Engine, call: Call, record: RecordWriter, seen: RunStatus) -> None:
        self._front = front
        self._call = call
        self._record = record
        self._seen = seen

    async def settle(self, lane: WorkerHandle | InlineLane | None, outcome: Outcome) -> JobState | None:
        """End what must go, and write the end where there is a record.

        Returns:
            The status that the record has now; None where nothing was written.
        """
        try:
            if outcome.cancelled or self._bloated():
                await self._end_tree(lane)  # after a cancel the worker always goes
            await self._record.rest()
            if outcome.keep:
                await self._record.ensure()
            return await self._write(lane, outcome) if self._record.written else None
        except JobNotFound:
            _log.warning("the record of job %s was removed while it ran", self._call.job_id)
        except Exception as error:  # noqa: BLE001  whatever it is, the outcome must not be lost
            unforeseen = None if isinstance(error, StoreError) else error
            late = "the end of job %s will be written later: %s"
            _log.warning(late, self._call.job_id, error, exc_info=unforeseen)
            # its record still names the worker: who cancels by that would end the worker's next call
            await self._end_tree(lane)
            # not the logs: they go with the lane
            self._front.owe(self._call.job_id, lambda: self._record.settle(outcome, tree_gone=True))
        finally:
            if not self._record.written and outcome.touched:
                self._front.in_background(self._front.store.discard_folder, self._call.job_id)
        return None

    def write_now(self, lane: WorkerHandle | InlineLane | None, outcome: Outcome) -> None:
        """Write the end in plain code, while no loop runs. What fails is done by `settle`. Blocks."""
        if not self._record.written:
            return
        try:
            self._write_end(lane, outcome, tree_gone=False)
        except (StoreError, JobNotFound) as error:
            _log.warning("the end of job %s cannot be written now: %s", self._call.job_id, error)

    def _bloated(self) -> bool:
        return (usage := self._seen.usage) is not None and usage.rss_bytes > BLOATED_BYTES

    async def _end_tree(self, lane: WorkerHandle | InlineLane | None) -> None:
        if isinstance(lane, WorkerHandle):
            await self._front.pool.end_tree(lane)

    async def _write(self, lane: WorkerHandle | InlineLane | None, outcome: Outcome) -> JobState:
        """Write the end; a verdict that another process wrote meanwhile goes first, with its kill."""
        gone = outcome.cancelled or not isinstance(lane, WorkerHandle) or lane.gone
        job = await self._front.in_store(lambda: self._write_end(lane, outcome, tree_gone=gone))
        if not job.status.terminal:
            await self._end_tree(lane)
            job = await self._front.in_store(lambda: self._write_end(lane, outcome, tree_gone=True))
        return job.status

    def _write_end(self, lane: WorkerHandle | InlineLane | None, outcome: Outcome, *, tree_gone: bool) -> Job:
        if isinstance(lane, WorkerHandle):
            try_link_logs(lane.log_folder, self._call.folder)
        return self._record.settle(outcome, tree_gone=tree_gone)
