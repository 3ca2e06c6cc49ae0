"""`subscriptions/listen` with `taskIds`: notifies a client of its tasks without being asked each time.

Middleware around the SDK's own handler, which serves the other kinds of subscription and ends the
stream. The acknowledgement names the tasks that were found; after it comes a snapshot of each, then
each change, at most ten a second and task, until the task has ended. Jobs that run in this process
are watched in memory; those of other processes are read from the store while a client listens.

`follow`, for `resources`, looks at something again and again and says when it has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import INVALID_PARAMS, Notification, SubscriptionsAcknowledgedNotification

from python_mcp_server.errors import JobNotFound, PoolClosed, StoreError
from python_mcp_server.server.sdk.elicitation import can_elicit
from python_mcp_server.server.tasks.negotiation import VERSIONS, require_tasks

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from python_mcp_server.model import Job
    from python_mcp_server.server.tasks.wire import TaskLookup


INTERVAL_S: Final = 0.5

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of one look.

    Attributes:
        mark: Equal to that of another look where nothing has changed.
        over: Whether it can change no more.
    """

    mark: Hashable
    over: bool


async def follow(
    seen: Snapshot,
    look: Callable[[], Awaitable[Snapshot]],
    tell: Callable[[], Awaitable[None]],
    interval_s: float = INTERVAL_S,
) -> None:
    """Call `tell` after each change, until the thing that is looked at is over or gone. This is the task of
    one follower.

    Changes within one interval are told once, and a listener that is slow hears less often.

    Args:
        seen: A look from before the listener was promised notifications.
        look: Looks again.
        tell: Reports a change.
        interval_s: The time between two looks.
    """
    try:
        while not seen.over:
            await asyncio.sleep(interval_s)
            seen = await _again(look, tell, seen)
    except PoolClosed:
        _log.debug("the server is leaving; nobody is told of changes any more")
    except Exception:  # noqa: BLE001  the top of a task; logged with its traceback
        _log.exception("a client hears no more of the changes that it asked for")


async def _again(
    look: Callable[[], Awaitable[Snapshot]], tell: Callable[[], Awaitable[None]], seen: Snapshot
) -> Snapshot:
    try:
        now = await look()
    except JobNotFound:  # it was pruned
        now = Snapshot(None, over=True)
    except StoreError as error:
        _log.warning("a job could not be looked at, and is looked at again: %s", error)
        return seen
    if now.mark != seen.mark:
        await tell()
    return now


_OWN_S: Final = 0.1
"""Between two looks at a job of this process: what a person can read."""

_FOREIGN_S: Final = 0.5
"""Between two looks into the store at a job of another process; they refresh it once a second."""

_MOST: Final = 256
"""Tasks of one stream; guessed. A look at a foreign one costs 0.2 ms of a thread."""


class TaskNotification(Notification[dict[str, Any], str]):
    """`notifications/tasks`; its parameters are a task and the id of the subscription."""

    method: str = "notifications/tasks"
    params: dict[str, Any]


class Listening:
    """The middleware of one server."""

    def __init__(self, book: TaskLookup) -> None:
        self._book = book

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Serve the tasks of a listen request beside the SDK's handler; pass everything else on.

        Raises:
            MCPError: `taskIds` is not a list of strings, or the client did not declare the extension.
        """
        wanted = _wanted(ctx)
        if wanted is None:
            return await call_next(ctx)
        require_tasks(ctx)
        jobs = [job for task_id in wanted[:_MOST] if (job := await self._book.find(task_id)) is not None]
        session = _Session(ctx.session, [job.id for job in jobs])
        stream = _Stream(self._book, session, ctx.request_id, asks=can_elicit(ctx))
        telling = asyncio.create_task(stream.tell(jobs), name=f"tasks of subscription {ctx.request_id}")
        telling.add_done_callback(_log_failure)
        try:
            return await call_next(replace(ctx, session=cast("Any", session)))
        finally:
            telling.cancel()


def _wanted(ctx: ServerRequestContext[Any, Any]) -> list[str] | None:
    """Return the ids of a listen request, each once; None for any other message."""
    if ctx.method != "subscriptions/listen" or ctx.protocol_version not in VERSIONS:
        return None
    wanted: Any = (ctx.params or {}).get("notifications")
    if not isinstance(wanted, Mapping) or "taskIds" not in wanted:
        return None
    ids = cast("Mapping[str, Any]", wanted)["taskIds"]
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in cast("list[Any]", ids)):
        raise MCPError(INVALID_PARAMS, "notifications.taskIds must be a list of strings")
    return list(dict.fromkeys(cast("list[str]", ids)))


def _log_failure(done: asyncio.Task[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error("%s failed; their client hears no more of them", done.get_name(), exc_info=error)


class _Session:
    """The request's session, whose acknowledgement names the tasks."""

    def __init__(self, session: Any, task_ids: list[str]) -> None:
        self.acknowledged = asyncio.Event()
        self._session = session
        self._task_ids = task_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def send_notification(self, notification: Any, related_request_id: Any = None) -> None:
        """Send a notification; the acknowledgement gets the tasks added."""
        is_first = isinstance(notification, SubscriptionsAcknowledgedNotification)
        if is_first:
            agreed = notification.params.notifications.model_copy(update={"taskIds": self._task_ids})
            params = notification.params.model_copy(update={"notifications": agreed})
            notification = notification.model_copy(update={"params": params})
        await self._session.send_notification(notification, related_request_id)
        if is_first:
            self.acknowledged.set()


class _Stream:
    """Notifies one client of its tasks."""

    def __init__(self, book: TaskLookup, session: _Session, request_id: Any, *, asks: bool) -> None:
        self._book = book
        self._asks = asks
        self._session = session
        self._request_id = request_id

    async def tell(self, jobs: list[Job]) -> None:
        """Notify of each job until it has ended."""
        await self._session.acknowledged.wait()
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(self._follow(job.id), name=f"news of task {job.id}")

    async def _follow(self, task_id: str) -> None:
        told: dict[str, Any] | None = None
        while (job := await self._look(task_id)) is not None:
            task = await self._book.show(job, asks=self._asks)
            news = {key: value for key, value in task.items() if key != "pollIntervalMs"}
            if news != told:
                told = news
                await self._send(task)
            if job.status.terminal:
                return
            await self._pause(job)

    async def _look(self, task_id: str) -> Job | None:
        """Return the job; None once it was removed."""
        while True:
            try:
                return await self._book.find(task_id)
            except StoreError as error:
                _log.warning("task %s cannot be read now: %s", task_id, error)
                await asyncio.sleep(_FOREIGN_S)

    async def _pause(self, job: Job) -> None:
        if not self._book.runs_here(job):
            await asyncio.sleep(_FOREIGN_S)
            return
        try:
            await self._book.manager.wait(job.id, _OWN_S, whole=False)
        except (JobNotFound, StoreError):
            return  # the next look reports it

    async def _send(self, task: dict[str, Any]) -> None:
        params = task | {"_meta": {SUBSCRIPTION_ID_META_KEY: self._request_id}}
        notification: Any = TaskNotification(params=params)
        await self._session.send_notification(notification, self._request_id)
