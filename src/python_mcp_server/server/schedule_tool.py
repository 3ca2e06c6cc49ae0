"""The tool for what runs later: any tool of this server at a time, again and again, or after another job.

What runs once is a job that waits, which the job tools show and cancel; only what recurs is a schedule. The
arguments are checked as those of a call now, and the call is kept instead of made.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from mcp.server.mcpserver import Context  # noqa: TC002  # the SDK looks for it at run time
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult
from pydantic import Field

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.schedule import MISSED
from python_mcp_server.jobs.schedules import template_of
from python_mcp_server.jobs.timetable import Timetable
from python_mcp_server.model import iso, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.server.job_view import answer_of
from python_mcp_server.server.principals import current_principal, find_job
from python_mcp_server.server.registry import AnswerTool, defer_tool
from python_mcp_server.server.sdk.calls import taking_request
from python_mcp_server.server.sdk.private import tools_of
from python_mcp_server.server.sdk.replies import failure
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.schedule import Schedule

_SHOWN_TIMES: Final = 3
_HERE: Final = {"tz": "timezone", "delay": "delay_seconds"}
"""What the parameters of this tool are called that the library calls otherwise."""

Missed = Annotated[
    str,
    'Cron times at which no server runs: "once" makes up for all with one run, "all" with one each.',
    Field(json_schema_extra={"enum": list(MISSED)}),
]


class ScheduleTool:
    """The tool `py_schedule` of one server, over its manager."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    def tools(self) -> list[Tool]:
        """Return it, ready to register."""
        hints = {"destructive_hint": True, "idempotent_hint": False, "open_world_hint": True}
        return [defer_tool(self.schedule, "py_schedule", "Schedule a tool", AnswerTool, **hints)]

    async def schedule(  # noqa: PLR0917 - the parameters of a tool
        self,
        action: Literal["add", "list", "remove"] = "add",
        tool: Annotated[str | None, "The tool to call then."] = None,
        arguments: Annotated[dict[str, Any] | None, "Its arguments; no secrets."] = None,
        cron: Annotated[str | None, 'Again and again: "0 9 * * 1-5".'] = None,
        at: Annotated[str | None, "Or once, ISO 8601: 2027-01-31T09:00."] = None,
        delay_seconds: Annotated[float | None, "Or once, so much later."] = None,
        after: Annotated[str | None, "Or once the job with this id has completed."] = None,
        timezone: Annotated[str, "Of cron and at: Europe/Berlin."] = "UTC",
        missed: Missed = "once",
        name: Annotated[str | None, "Of the schedule: to make, or to remove (or its id)."] = None,
        ctx: Context[Any, Any] | None = None,
    ) -> CallToolResult:
        """Call a tool of this server later: by cron, at a time, after a delay, or after another job.

        Give tool, arguments and one of cron, at, delay_seconds and after. Once: answers with the job_id of a
        job that waits; py_wait_job and py_cancel_job know it. By cron: answers with the schedule, which
        outlives this session; a time is dropped while the run before goes on. "list" shows schedules with
        their last jobs and missed times, "remove" ends one. Runs need a server that is up then.
        """
        principal, schedules = current_principal(), self._manager.schedules
        if action == "list":
            return _answer({"schedules": [_view(each) for each in await schedules.list(principal)]})
        if action == "remove":
            if name is None:
                raise InvalidInput("name is missing; give the name or the id of a schedule to remove")
            return _answer({"removed": _view(await schedules.remove(name, principal))})
        once = {"at": at, "delay_seconds": delay_seconds, "after": after}
        if [cron, *once.values()].count(None) != len(once):
            raise InvalidInput("give exactly one of cron, at, delay_seconds and after")
        request = await self._request(tool, arguments or {}, ctx)
        if isinstance(request, CallToolResult):
            return request
        if cron is None:
            with _named_as_here():
                return await self._once(request, timezone, at, delay_seconds, after)
        with _named_as_here():
            made = await schedules.add(request, cron=cron, tz=timezone, missed=missed, name=name)
        times = [iso(when) for when in made.next_times(utc_now(), _SHOWN_TIMES)]
        return _answer({"schedule": _view(made), "next_times": times})

    async def _request(
        self, tool: str | None, arguments: dict[str, Any], ctx: Any
    ) -> Request | CallToolResult:
        """Return the call that these arguments make, or the answer that refuses them."""
        known = tools_of(ctx.mcp_server)
        able = sorted(name for name, each in known.items() if hasattr(each.fn, BODY_ATTRIBUTE))
        if tool not in able:
            raise InvalidInput(f"tool is {tool!r:.100}; what can be scheduled is {', '.join(able)}")
        with taking_request() as taken:
            try:
                refused = await known[tool].run(arguments, ctx)
            except ToolError as error:  # the SDK would put the name of this tool before it
                return failure(InvalidInput(str(error)))
        return taken[0] if taken else refused

    async def _once(
        self, request: Request, tz: str, at: str | None, delay_s: float | None, after: str | None
    ) -> CallToolResult:
        template_of(request)
        if after is not None:
            await find_job(self._manager, after)
            options = JobOptions(after=(after,))
        elif delay_s is not None:
            options = JobOptions.delayed(delay_s)
        else:
            options = JobOptions(run_at=Timetable(at=_time(at), tz=tz, start=utc_now()).at)
        job = await self._manager.submit_request(replace(request, options=options))
        told = f"until job {after} has completed" if after else f"until {iso(options.run_at)}"
        message = f"waits {told}; py_cancel_job ends that"
        return _answer({"job_id": job.id, "status": job.status.value, "message": message})


@contextmanager
def _named_as_here() -> Generator[None]:
    """Let errors name the parameters of the tool."""
    try:
        yield
    except InvalidInput as error:
        name, _, rest = str(error).partition(" ")
        raise InvalidInput(f"{_HERE.get(name, name)} {rest}") from error


def _view(schedule: Schedule) -> dict[str, Any]:
    return {name: value for name, value in schedule.to_json(utc_now()).items() if value is not None}


def _answer(view: dict[str, Any]) -> CallToolResult:
    return answer_of(repair_unicode(view))


def _time(text: str | None) -> datetime:
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        raise InvalidInput(f"at is {text!r:.100}; it must be ISO 8601, as 2027-01-31T09:00") from None
