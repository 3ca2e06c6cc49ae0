"""The Tasks extension: a call that outlasts its budget becomes a task, for clients that take tasks.

A task is a job, and its id is the job's. A task was durable before the client heard of it, and is answered
from its record, by this server, its successor, or another one on the same home.

    tools/call ──▶ offer ──▶ decorator ──▶ hand-off, record ──▶ offer taken ──▶ CreateTaskResult
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, RequestParams

from python_mcp_server.errors import InvalidInput
from python_mcp_server.server.sdk.elicitation import can_elicit
from python_mcp_server.server.sdk.replies import add_pictures
from python_mcp_server.server.tasks.negotiation import (
    IDENTIFIER,
    VERSIONS,
    Offer,
    offering,
    require_tasks,
    supports_tasks,
)
from python_mcp_server.server.tasks.subscriptions import Listening
from python_mcp_server.server.tasks.wire import COMPLETE, TaskLookup, answers_of, summary
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp_types import CallToolRequestParams

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.model import Job
    from python_mcp_server.server.fastmcp import FastMCPExtension


_log: Final = logging.getLogger(__name__)


class TaskParams(RequestParams):
    """What `tasks/get` and `tasks/cancel` take."""

    task_id: str


class UpdateParams(TaskParams):
    """What `tasks/update` takes."""

    input_responses: dict[str, Any]


class TasksExtension(Extension):
    """Makes tasks of the calls of decorated tools (`io.modelcontextprotocol/tasks`, SEP-2663).

        MCPServer("numbers", extensions=[TasksExtension()])

    A client that declared the extension gets a task where others get a job handle. To send
    `notifications/tasks` as well, give the server its middleware:

        tasks = TasksExtension()
        MCPServer("numbers", extensions=[tasks], middleware=[tasks.listening])

    A FastMCP server takes it in a form of its own, without notifications:

        FastMCP("numbers").add_extension(TasksExtension().for_fastmcp())

    Attributes:
        identifier: The extension's name on the wire.
        listening: Middleware that serves `subscriptions/listen` with `taskIds`.
    """

    identifier = IDENTIFIER

    def __init__(self, manager: JobManager | None = None) -> None:
        """Make the extension of one server.

        Args:
            manager: The manager of the jobs; the default manager where None, as with `smart_async`.
        """
        self._book = TaskLookup(manager)
        self._cancelling: dict[str, asyncio.Task[Job]] = {}
        self.listening = Listening(self._book)

    def for_fastmcp(self) -> FastMCPExtension:
        """Return it as a FastMCP server takes it.

        Raises:
            ImportError: FastMCP is not installed.
        """
        from python_mcp_server.server.fastmcp import FastMCPExtension

        return FastMCPExtension(self)

    def methods(self) -> Sequence[MethodBinding]:
        """Return `tasks/get`, `tasks/update` and `tasks/cancel`."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, VERSIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, VERSIONS),
        ]

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,  # noqa: ARG002  the SDK's signature
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Run the call, and answer with a task where it was handed over and the client takes tasks."""
        offer = Offer(self._book.holds if supports_tasks(ctx) else None)
        with offering(offer):
            result = await call_next(ctx)
        if not offer.accepted_in(result):
            return result
        job = await self._book.find(offer.job_id)
        return result if job is None else {"resultType": "task"} | summary(job)

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        job = await self._job(ctx, params.task_id)
        task = await self._book.show(job, asks=can_elicit(ctx))
        await add_pictures(task.get("result"), job.tool, self._book.manager.aside)
        return COMPLETE | task

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> dict[str, Any]:
        job = await self._job(ctx, params.task_id)
        try:
            answers = answers_of(params.input_responses, job.open_questions)
            await self._book.manager.answer(job.id, answers, lenient=True)
        except InvalidInput as error:
            raise MCPError(INVALID_PARAMS, repair_unicode(str(error))) from error
        return dict(COMPLETE)

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        """Acknowledge at once: the task is `cancelled` as soon as its last process is gone."""
        job = await self._job(ctx, params.task_id)
        if not job.status.terminal and job.id not in self._cancelling:
            task = asyncio.create_task(self._book.manager.cancel(job.id), name=f"cancel of task {job.id}")
            self._cancelling[job.id] = task
            task.add_done_callback(lambda done: self._cancelled(job.id, done))
        return dict(COMPLETE)

    def _cancelled(self, job_id: str, done: asyncio.Task[Job]) -> None:
        del self._cancelling[job_id]
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.error("task %s could not be cancelled", job_id, exc_info=error)

    async def _job(self, ctx: ServerRequestContext[Any, Any], task_id: str) -> Job:
        """Return the job of a request, after all checks of the specification."""
        require_tasks(ctx)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != task_id:
            raise MCPError(HEADER_MISMATCH, f"the header Mcp-Name must be the taskId, {task_id!r}")
        job = await self._book.find(task_id)
        if job is None:
            raise MCPError(INVALID_PARAMS, f"Task {task_id} not found")
        return job
