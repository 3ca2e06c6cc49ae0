"""The tools for jobs: watch, wait for, read, list, cancel and prune them, and answer what they ask.

A model reads the docstrings of the tools. Over HTTP a caller finds only jobs of their own.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypedDict, cast

from mcp.server.mcpserver import Context  # noqa: TC002  # the SDK looks for it at run time
from mcp_types import CallToolResult  # noqa: TC002  # as above
from pydantic import Field

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.functions import default_manager
from python_mcp_server.items import ITEMS
from python_mcp_server.jobs.graph_jobs import cancelled_of, unended_of
from python_mcp_server.jobs.item_pages import MOST_ITEMS
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.output import READABLE, Wanted
from python_mcp_server.jobs.questions import answer_of, question_of
from python_mcp_server.jobs.request import Notice, cancellation, state_named
from python_mcp_server.model import JobState, utc_now
from python_mcp_server.runner.output import on_screen
from python_mcp_server.server.job_view import answer_of as answer_with
from python_mcp_server.server.job_view import list_answer, view_of
from python_mcp_server.server.principals import current_principal, find_job
from python_mcp_server.server.registry import AnswerTool, DeclaredTool, SentenceTool, defer_tool
from python_mcp_server.server.sdk.private import progress_sender
from python_mcp_server.server.sdk.progress import ProgressForwarder
from python_mcp_server.server.sdk.replies import failure
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.model import Job

_STATES: Final = [state.value for state in JobState]
_LOOK_S: Final = 1.0  # how often a wait looks at the job's progress
_MOST_LISTED: Final = 1_000
_READ_STREAMS: Final = 2_000
"""So many positions are kept for `incremental`; the one that was not used longest goes first."""
_NEWS_S: Final = 0.2  # how often a reader that waits looks for more output


class JobOutput(TypedDict):
    """Answer of py_job_output."""

    next_offset: int
    eof: bool
    text: NotRequired[str]
    total_bytes: NotRequired[int]
    items: NotRequired[list[Any]]
    total: NotRequired[int]
    first_line: NotRequired[int]
    total_lines: NotRequired[int]
    matches: NotRequired[int]
    unfinished: NotRequired[str]


JobId = Annotated[str, "As the call that started it answered."]
StateName = Annotated[
    str | None,
    "Only jobs in this state; a script that exited with an error is `completed` too.",
    Field(json_schema_extra={"enum": [*_STATES, None]}),
]
StreamName = Annotated[
    str,
    'Logs are in stderr. "items": what the job emits, and results of py_map_script; "failures" of '
    'py_run_tests, a line of JSON each; "result", as JSON.',
    Field(json_schema_extra={"enum": list(READABLE)}),
]
Response = Annotated[
    dict[str, Any] | list[str] | str | float | bool | None,
    "An object with the fields of the question's schema, or the bare value where it has one field.",
]
Action = Annotated[
    Literal["accept", "decline", "cancel"],
    '"decline": the user says no; "cancel": they make no choice; both without a response.',
]


class JobTools:
    """The job tools of one server, over its manager.

    Args:
        manager: The manager; the default manager, which may change, where None.
    """

    def __init__(self, manager: JobManager | None) -> None:
        self._given = manager
        self._read: dict[tuple[str, str], int] = {}

    @property
    def _manager(self) -> JobManager:
        return self._given or default_manager()

    def tools(self, *, stats: bool = False) -> list[Tool]:
        """Return them, ready to register; with `stats`, also those for operators."""
        read = {"read_only_hint": True, "open_world_hint": False}
        page: Any = read | {"large": True}
        shown = page | {"aside": self._manager.aside}
        change = {"destructive_hint": True, "idempotent_hint": True, "open_world_hint": False}
        answer = {"destructive_hint": False, "idempotent_hint": False, "open_world_hint": False}
        operators = [
            defer_tool(self.job_stats, "py_job_stats", "Job statistics", **read),
            defer_tool(self.health, "py_health", "Health of the server", **read),
        ]
        return [
            defer_tool(self.job_status, "py_job_status", "Job status", AnswerTool, **shown),
            defer_tool(self.wait_job, "py_wait_job", "Wait for a job", AnswerTool, **shown),
            defer_tool(self.job_output, "py_job_output", "Read a job's output", DeclaredTool, **page),
            defer_tool(self.list_jobs, "py_list_jobs", "List jobs", AnswerTool, **read),
            defer_tool(self.cancel_job, "py_cancel_job", "Cancel a job", **change),
            defer_tool(self.prune_jobs, "py_prune_jobs", "Remove old jobs", **change),
            defer_tool(self.answer_job, "py_answer_job", "Answer a job's question", **answer),
            *(operators if stats else ()),
        ]

    async def job_status(
        self,
        job_id: JobId,
        incremental: Annotated[bool, "Also what it printed since you last asked."] = False,
    ) -> CallToolResult:
        """Look once at a job: its state, progress, memory and CPU; its result once it has completed; why it
        failed (`error`, `error_kind`); what it asks (`questions`).

        For the result of a job that still runs, py_wait_job is better than asking again and again.
        """
        job = await find_job(self._manager, job_id)
        news: dict[str, Any] = {}
        if incremental:
            news["new_stdout"] = await self._news(job_id, "stdout")
            news["new_stderr"] = await self._news(job_id, "stderr")
        return await self._answer(job, news)

    async def _answer(self, job: Job, more: dict[str, Any]) -> CallToolResult:
        """Return the answer that shows a job, with other fields beside."""
        return await self._manager.aside(
            f"view of {job.id}", lambda: answer_with({"job": view_of(job), **more})
        )

    async def _news(self, job_id: str, stream: str) -> str:
        start = self._read.get((job_id, stream), 0)
        page = await self._manager.output(job_id, stream, start)
        self._read.pop((job_id, stream), None)
        self._read[job_id, stream] = page.next_offset
        if len(self._read) > _READ_STREAMS:
            del self._read[next(iter(self._read))]
        data = page.text.encode()
        return await self._manager.aside(job_id, partial(on_screen, data, goes_on=start > 0))

    async def wait_job(
        self,
        job_id: JobId,
        timeout_seconds: Annotated[float, "The longest wait; below your client's own time-out."] = 20.0,
        ctx: Context[Any, Any] | None = None,
    ) -> CallToolResult:
        """Wait until a background job ends, asks something, or the time is over, and return the job.

        This is the way to the result of a call that answered with a job_id: it is in `job.result`, its
        pictures come as images. When `timed_out` is true the job is still going on: call again, or do
        something else meanwhile. The job goes on in any case, also when this call is cancelled. A job whose
        status is input_required lists its questions: py_answer_job answers them.
        """
        deadline = time.monotonic() + _waiting_time(timeout_seconds)
        job = await find_job(self._manager, job_id)
        age_s = (utc_now() - job.started_at).total_seconds() if job.started_at else 0.0
        async with ProgressForwarder(progress_sender(ctx), age_s=age_s) as tell:
            while True:
                left_s = max(0.0, deadline - time.monotonic())
                job, timed_out = await self._manager.wait(
                    job_id, min(left_s, _LOOK_S), or_question=True, whole=False
                )
                tell(Notice(job.id, job.progress, job.usage, job.message))
                if not timed_out or left_s <= _LOOK_S:
                    return await self._answer(job, {"timed_out": timed_out})

    async def job_output(  # noqa: PLR0917 - the parameters of a tool
        self,
        job_id: JobId,
        stream: StreamName = "stdout",
        offset: Annotated[int, "The byte to start at; below 0: from the end."] = 0,
        limit: Annotated[int, "The most bytes to return, up to 1048576."] = 65536,
        line: Annotated[int | None, "The line to start at instead, from 1; below 0: from the end."] = None,
        pattern: Annotated[str | None, 'Python regular expression, such as "(?i)error".'] = None,
        raw: Annotated[bool, "Also colours, and earlier states of progress bars."] = False,
        wait_seconds: Annotated[float, "How long to wait for something new, if there is nothing yet."] = 0.0,
    ) -> JobOutput:
        """Read what a job printed, while it runs and afterwards: page by page, from a line on, or only the
        lines that match a pattern.

        Results show only the head and the tail of long output; the whole text is here, in whole lines. Start
        at offset 0 and go on with `next_offset`; `eof` says that the job has ended and nothing more will
        come. offset=-2000 or line=-20 shows the end, line=31415 that very line, pattern="error|warning" only
        the matching lines from there on, each after its number. While the job runs, `unfinished` is the last
        line as far as it is written.

        stream="items" answers with `items`; offset, limit and `next_offset` count them.
        """
        wanted = Wanted(stream, offset, limit, line, pattern, raw)
        wanted.check()
        wait_s = _waiting_time(wait_seconds, "wait_seconds")
        if stream == ITEMS and line is not None and not raw:
            raise InvalidInput(f"line is {line} with stream 'items'; give offset, an item's number from 0")
        await find_job(self._manager, job_id)
        if stream == ITEMS and not raw:
            return await self._items(job_id, wanted, wait_s)
        deadline = time.monotonic() + wait_s
        page = await self._manager.lines(job_id, wanted, current_principal())
        while not (page.text or page.eof) and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, _NEWS_S))
            page = await self._manager.lines(job_id, wanted, current_principal())
        told = {key: value for key, value in asdict(page).items() if value is not None}
        return cast("JobOutput", told)

    async def _items(self, job_id: str, wanted: Wanted, wait_s: float) -> JobOutput:
        page = await self._manager.items(
            job_id,
            wanted.offset,
            min(wanted.limit, MOST_ITEMS),
            pattern=wanted.pattern,
            wait_s=wait_s,
            principal=current_principal(),
        )
        items = repair_unicode(page.items)
        return {"items": items, "next_offset": page.next_offset, "total": page.total, "eof": page.eof}

    async def list_jobs(
        self,
        status_filter: StateName = None,
        limit: Annotated[int, "Up to 1000."] = 50,
        before: Annotated[str | None, "`next_before` of an answer: only older jobs."] = None,
    ) -> CallToolResult:
        """List jobs, newest first, also of earlier sessions and of other servers on this machine.

        Finds a job whose id you lost, and what is running. Each is a row; py_job_status has the rest.
        """
        if limit > _MOST_LISTED:
            raise InvalidInput(f"limit is {limit}; it must be 1 to {_MOST_LISTED}")
        found = await self._manager.list(state_named(status_filter), limit, current_principal(), before)
        return await self._manager.aside(f"list for {current_principal()}", lambda: list_answer(*found))

    async def job_stats(
        self, window_seconds: float = 3600, by: Literal["kind", "client", "label", "queue"] = "kind"
    ) -> dict[str, Any]:
        """Return what jobs have done: rates, waiting and running times, failures, CPU time, the queue now.

        For you or the user to see how the machine is used; py_list_jobs has the jobs themselves.
        """
        return await self._manager.stats(window_seconds, by, current_principal())

    async def health(self) -> dict[str, Any]:
        """Return what is wrong with this server and its home, and what to do: status, problems.

        For when jobs do not start, or calls fail for no reason of their own.
        """
        return (await self._manager.health(current_principal())).to_json()

    async def cancel_job(self, job_id: JobId) -> dict[str, Any]:
        """Stop a background job: cancel it with all its processes, and return when the last one is gone.

        A job that has ended already is not changed: the status says how it ended. The id of a graph cancels
        its jobs.
        """
        before = await find_job(self._manager, job_id)
        store = self._manager.store
        unended = await asyncio.to_thread(unended_of, store, before)
        ended_before = before.status.terminal and not unended
        job = before if ended_before else await self._manager.cancel(job_id)
        jobs = await asyncio.to_thread(cancelled_of, store, unended)
        return cancellation(job, ended_before=ended_before, of_graph=jobs)

    async def answer_job(
        self,
        job_id: JobId,
        key: Annotated[str, "The key of the question."],
        response: Response = None,
        action: Action = "accept",
    ) -> dict[str, Any]:
        """Answer a question that a job asks: one whose status is input_required.

        The job lists its questions (py_job_status), each with a key, a message and a schema. They are for
        the user: pass them on and answer with what the user said, unless you know the answer for sure. The
        first answer counts; then the job goes on, and py_wait_job waits for its result or next question.
        """
        job = await find_job(self._manager, job_id)
        answer = answer_of(question_of(job, key), response, action)
        job = await self._manager.answer(job_id, {key: answer})
        told: dict[str, Any] = {"job_id": job.id, "status": job.status.value}
        if rest := job.open_questions:
            told["questions"] = repair_unicode([question.to_json() for question in rest])
        return told

    async def prune_jobs(
        self,
        keep_completed: Annotated[bool, "False: remove these, too."] = True,
        keep_failed: Annotated[bool, "False: remove these, too."] = True,
        max_age_hours: Annotated[float, "Only jobs that ended longer ago than this."] = 24.0,
    ) -> dict[str, Any]:
        """Remove old jobs that have ended, with their output. Running and waiting jobs are never removed.

        Cancelled jobs older than the age always go; completed and failed ones where they are not kept.
        """
        pruned = await self._manager.prune(
            keep_completed=keep_completed,
            keep_failed=keep_failed,
            max_age_hours=max_age_hours,
            principal=current_principal(),
        )
        return {"removed": pruned.removed, "remaining": pruned.remaining}


def resuming(manager: JobManager) -> type[SentenceTool]:
    """Return the class of a tool whose parameter `resume` names a job of this manager."""

    class ResumingTool(SentenceTool):
        async def run(
            self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
        ) -> Any:
            """Refuse a job that does not exist, belongs to another principal, or still runs."""
            job_id = arguments.get("resume")
            if isinstance(job_id, str):
                try:
                    job = await find_job(manager, job_id)
                except JobNotFound as error:
                    return failure(error)
                if not job.status.terminal:
                    return failure(
                        InvalidInput(f"job {job_id} still runs; wait for it or cancel it, then resume it")
                    )
            return await super().run(arguments, context, convert_result)

    return ResumingTool


def _waiting_time(seconds: float, name: str = "timeout_seconds") -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidInput(f"{name} is {seconds:g}; it must be a number of seconds, 0 or more")
    return seconds
