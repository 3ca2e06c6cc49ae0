"""Jobs as resources: `job://{job_id}` and what a job wrote, with notifications while they change.

Older clients subscribe once for their connection, newer ones listen on a request that stays open.
Either way a task looks at the job twice a second, only while a client wants it and the job goes on.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY, ResourceUpdated, event_to_notification
from mcp_types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from python_mcp_server.errors import JobNotFound, PythonMcpError
from python_mcp_server.runner.output import excerpt
from python_mcp_server.server.job_view import text_of, view_of
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.sdk.private import connection_of, low_level
from python_mcp_server.server.tasks.subscriptions import Snapshot, follow

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.mcpserver import MCPServer

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.store.contract import JobStore

    Context = ServerRequestContext[Any, Any]

_SHOWN_CHARS: Final = 60_000
_MOST_URIS: Final = 100  # that one connection or one listening request follows: each is looked at often
_ADDRESS: Final = re.compile(r"job://([^/?#]+)|job-stream://([^/?#]+?)(/stderr)?")
_FOLLOWED: Final = "python_mcp_server.followed"
_LISTEN: Final = "subscriptions/listen"


@dataclass(frozen=True, slots=True)
class Address:
    """The target of a URI of ours: a job, or one stream of its output."""

    job_id: str
    stream: str | None = None

    @classmethod
    def of(cls, uri: object) -> Self | None:
        """Return the target of this URI, or None if the URI is not ours."""
        match = _ADDRESS.fullmatch(uri) if isinstance(uri, str) else None
        if match is None:
            return None
        if match[1]:
            return cls(match[1])
        return cls(match[2], "stderr" if match[3] else "stdout")


class JobResources:
    """The resources of one server, over its manager."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    def install(self, server: MCPServer[Any]) -> None:
        """Register the resources, and notify clients of their changes."""
        server.resource(
            "job://{job_id}",
            name="job",
            title="A job",
            description="A job as JSON: its state, progress, memory and CPU, and its result or error.",
            mime_type="application/json",
        )(self.job)
        for suffix, stream, read in (("", "stdout", self.stdout), ("/stderr", "stderr", self.stderr)):
            server.resource(
                "job-stream://{job_id}" + suffix,
                name=f"job-{stream}",
                title=f"A job's {stream}",
                description=f"What a job wrote to {stream} so far; head and tail where it is long, with a "
                "line between them that says how py_job_output reads the rest.",
                mime_type="text/plain",
            )(read)
        server.middleware.append(self._listening)
        low = low_level(server)
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    # ---- reading

    async def job(self, job_id: str) -> str:
        """Return a job as JSON."""
        with _explained():
            job = await find_job(self._manager, job_id)
            return await self._manager.aside(f"view of {job_id}", lambda: text_of(view_of(job)))

    async def stdout(self, job_id: str) -> str:
        """Return what it wrote to stdout."""
        return await self._written(job_id, "stdout")

    async def stderr(self, job_id: str) -> str:
        """Return what it wrote to stderr."""
        return await self._written(job_id, "stderr")

    async def _written(self, job_id: str, stream: str) -> str:
        with _explained():
            await find_job(self._manager, job_id)
            return await self._manager.aside(job_id, partial(_excerpt, self._manager.store, job_id, stream))

    # ---- changes

    async def _subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Notify a client of an older protocol of this URI's changes, as long as its connection lasts."""
        uri = str(params.uri)
        found = await self._found(uri)
        if found is None:
            raise MCPError(INVALID_PARAMS, f"Unknown resource: {uri}", {"uri": uri})
        followed = _followed_by(ctx)
        if uri not in followed:
            for ended in [each for each, task in followed.items() if task.done()]:
                del followed[ended]
            if len(followed) >= _MOST_URIS:
                raise MCPError(
                    INVALID_PARAMS, f"{_MOST_URIS} resources are followed already; unsubscribe one"
                )
            followed[uri] = self._follow(uri, *found, lambda: ctx.session.send_resource_updated(uri))
        return EmptyResult()

    async def _unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        if (following := _followed_by(ctx).pop(str(params.uri), None)) is not None:
            following.cancel()
        return EmptyResult()

    async def _listening(self, ctx: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        """Stand around the SDK's handler of listening requests: it acknowledges, and keeps them open."""
        notifications = (ctx.params or {}).get("notifications") if ctx.method == _LISTEN else None
        wanted = cast("dict[str, Any]", notifications if isinstance(notifications, dict) else {})
        uris = wanted.get("resourceSubscriptions")
        if not isinstance(uris, list):
            return await call_next(ctx)
        honoured, ours = await self._honoured(cast("list[Any]", uris))
        following = [self._follow(uri, *found, _teller(ctx, uri)) for uri, found in ours.items()]
        wanted = {**wanted, "resourceSubscriptions": honoured}
        try:
            return await call_next(replace(ctx, params={**(ctx.params or {}), "notifications": wanted}))
        finally:
            for task in following:
                task.cancel()

    async def _honoured(self, uris: list[Any]) -> tuple[list[Any], dict[str, tuple[Address, Snapshot]]]:
        """Leave out jobs that this client may not see; URIs that are not ours stay."""
        honoured: list[Any] = []
        ours: dict[str, tuple[Address, Snapshot]] = {}
        for uri in uris:
            if Address.of(uri) is None:
                honoured.append(uri)
            elif uri not in ours and len(ours) < _MOST_URIS and (found := await self._found(uri)) is not None:
                ours[uri] = found
                honoured.append(uri)
        return honoured, ours

    async def _found(self, uri: str) -> tuple[Address, Snapshot] | None:
        """Return the target of a URI, and a first look at it; None where this client has no such job."""
        address = Address.of(uri)
        if address is None:
            return None
        try:
            await find_job(self._manager, address.job_id)
            return address, await self._look(address)
        except JobNotFound:
            return None

    def _follow(
        self, uri: str, address: Address, seen: Snapshot, tell: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None]:
        return asyncio.create_task(follow(seen, lambda: self._look(address), tell), name=f"follow-{uri}")

    async def _look(self, address: Address) -> Snapshot:
        """Look at the data that a client would read; memory and CPU alone are no change.

        Raises:
            JobNotFound: The job is gone.
        """
        if address.stream is None:
            job = await self._manager.get(address.job_id, whole=False)
            asked = tuple(question.key for question in job.open_questions)
            return Snapshot((job.status, job.message, job.progress, asked), over=job.status.terminal)
        page = await self._manager.output(address.job_id, address.stream, sys.maxsize, 1)
        return Snapshot((page.total_bytes, page.eof), over=page.eof)


def _excerpt(store: JobStore, job_id: str, stream: str) -> str:
    path = store.folder(job_id) / stream
    return excerpt(path, start=0, limit_chars=_SHOWN_CHARS, job_id=job_id).text


def _teller(ctx: Context, uri: str) -> Callable[[], Awaitable[None]]:
    notification = event_to_notification(ResourceUpdated(uri=uri), {SUBSCRIPTION_ID_META_KEY: ctx.request_id})
    return lambda: ctx.session.send_notification(notification, related_request_id=ctx.request_id)


def _followed_by(ctx: Context) -> dict[str, asyncio.Task[None]]:
    """Return the resources that this connection follows; following ends with the connection."""
    connection = connection_of(ctx.session)
    followed: dict[str, asyncio.Task[None]] | None = connection.state.get(_FOLLOWED)
    if followed is None:
        followed = connection.state[_FOLLOWED] = {}
        connection.exit_stack.callback(lambda: [task.cancel() for task in list(followed.values())])
    return followed


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except JobNotFound as exc:
        raise ResourceNotFoundError(str(exc)) from exc
    except PythonMcpError as exc:
        raise ResourceError(str(exc)) from exc
