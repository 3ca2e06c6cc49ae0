"""The SDK's client with the Tasks extension: it waits for its tasks, or leaves that to the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from mcp.client.extension import ClaimContext, ClientExtension, NotificationBinding, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, NotificationParams, Request, RequestParams, Result
from pydantic import ConfigDict

TASKS = "io.modelcontextprotocol/tasks"


class Task(Result):
    """A task as a call answers with it."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"]
    task_id: str
    status: str


class Found(Result):
    """A task as `tasks/get` shows it; the rest is in `model_extra`."""

    model_config = ConfigDict(extra="allow")

    status: str


class News(NotificationParams):
    """What `notifications/tasks` says."""

    model_config = ConfigDict(extra="allow")

    task_id: str
    status: str


class TaskParams(RequestParams):
    """Names a task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to a task."""

    input_responses: dict[str, Any]


class Get(Request[TaskParams, Literal["tasks/get"]]):
    """Ask for a task."""

    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class Cancel(Request[TaskParams, Literal["tasks/cancel"]]):
    """Cancel a task."""

    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class Update(Request[UpdateParams, Literal["tasks/update"]]):
    """Answer a task."""

    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateParams
    name_param = "taskId"


class TaskClient(ClientExtension):
    """What a client that knows tasks does with one: it asks until there is a result.

    Attributes:
        made: The tasks that calls were answered with.
        news: What the server told of tasks by itself.
    """

    identifier = TASKS

    def __init__(self, on_task: Callable[[Task], object] = lambda _task: None) -> None:
        self.made: list[Task] = []
        self.news: list[News] = []
        self._on_task = on_task

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Task, resolve=self._resolve)]

    def notifications(self) -> list[NotificationBinding[Any]]:
        return [NotificationBinding(method="notifications/tasks", params_type=News, handler=self._hear)]

    async def _hear(self, news: News) -> None:
        self.news.append(news)
        await asyncio.sleep(0)

    async def _resolve(self, task: Task, ctx: ClaimContext) -> CallToolResult:
        self.made.append(task)
        self._on_task(task)
        found = await ended(ctx.session, task.task_id)
        if found["status"] == "failed":
            raise MCPError(**found["error"])
        return CallToolResult.model_validate(found["result"])


async def get(session: Any, task_id: str) -> dict[str, Any]:
    """Return a task as it stands."""
    found = await session.send_request(Get(params=TaskParams(task_id=task_id)), Found)
    return {"status": found.status, **(found.model_extra or {})}


async def ended(session: Any, task_id: str) -> dict[str, Any]:
    """Ask for a task until it has ended, as often as the server wants it."""
    while (found := await get(session, task_id))["status"] in ("working", "input_required"):
        await asyncio.sleep(found["pollIntervalMs"] / 1000)
    return found


async def cancel(session: Any, task_id: str) -> None:
    """Cancel a task."""
    await session.send_request(Cancel(params=TaskParams(task_id=task_id)), Result)


async def update(session: Any, task_id: str, **answers: Any) -> None:
    """Answer a task's questions."""
    await session.send_request(Update(params=UpdateParams(task_id=task_id, input_responses=answers)), Result)
