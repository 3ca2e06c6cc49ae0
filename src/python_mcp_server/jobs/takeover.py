"""Jobs that nobody has begun, of servers that are gone: every front looks for them, and starts them.

Exactly one takes a job: its owner is replaced, compare-and-set, under the lock of its record. Whoever
dies between that and the start leaves it as it was found.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.recipe import request_of
from python_mcp_server.jobs.recovery import AGAIN, is_orphan
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Outcome
from python_mcp_server.pool import outcomes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from python_mcp_server.jobs.front import Front
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.model import Job, ProcessIdentity
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_FIRST_LOOK_S: Final = 0.2
"""After the opening: the first call goes first."""

_LOOK_S: Final = 2.0


def take_orphans(store: JobStore, owner: ProcessIdentity | None) -> list[tuple[Job, Request]]:
    """Make this process the owner of the queued jobs of dead servers that it can start. Blocks.

    Raises:
        StoreError: The store cannot be read.
    """
    orphans = [(job, request_of(job)) for job in store.live() if is_orphan(store, job)]
    return [(job, request) for job, request in orphans if request and _take(store, job, owner)]


def _take(store: JobStore, job: Job, owner: ProcessIdentity | None) -> bool:
    taken = False

    def take(found: Job) -> Job:
        nonlocal taken
        facts = (found.status, found.owner, found.worker, found.call, found.ending)
        taken = facts == (job.status, job.owner, job.worker, job.call, job.ending)
        return found.evolve(**AGAIN, owner=owner, message=None) if taken else found

    try:
        store.update(job.id, take)
    except (StoreError, JobNotFound) as error:
        _log.warning("job %s of a dead server could not be taken over: %s", job.id, error)
        return False
    return taken


class Takeover:
    """The looks of one front."""

    def __init__(self, front: Front, adopt: Callable[[Job, Request], None]) -> None:
        self._front = front
        self._adopt = adopt
        self._task: asyncio.Task[None] | None = None
        # a timer, not a task that sleeps: a loop that is closed without us has nothing to complain of
        self._timer: asyncio.TimerHandle | None = front.loop.call_later(_FIRST_LOOK_S, self._begin)

    def _begin(self) -> None:
        self._task = self._front.spawn(self._look(), "take-over")

    async def _look(self) -> None:
        try:
            for job, request in await self._front.in_store(
                take_orphans, self._front.store, self._front.identity
            ):
                _log.info("job %s of a dead server is started here", job.id)
                await self._take(job, request)
        except (StoreError, OSError) as error:
            _log.debug("queued jobs of dead servers cannot be looked for now: %s", error)
        finally:
            if self._timer is not None and not self._front.loop.is_closed():  # else we go with it
                self._timer = self._front.loop.call_later(_LOOK_S, self._begin)

    async def _take(self, job: Job, request: Request) -> None:
        try:
            self._adopt(job, request)
        except Exception as error:  # noqa: BLE001  it is ours now: else it would stay pending as long as we live
            _log.warning("job %s of a dead server cannot be started: %s", job.id, error)
            failed = Outcome(failure=outcomes.failure_of(error))
            await self._front.in_store(settle, self._front.store, job.id, failed)

    async def close(self) -> None:
        """Look no more. What was taken by then is queued here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await self._task
