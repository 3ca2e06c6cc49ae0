"""The tool for dead letters: the jobs that failed for good and can be run again.

A model reads the docstring. Over HTTP a caller finds only jobs of their own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from mcp_types import CallToolResult  # noqa: TC002  # the SDK looks for it at run time

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.dead_letters import as_arguments
from python_mcp_server.server.job_view import answer_of, list_answer
from python_mcp_server.server.principals import current_principal, find_job
from python_mcp_server.server.registry import AnswerTool, defer_tool

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.manager import JobManager

_HINTS: Final = {"destructive_hint": True, "idempotent_hint": False, "open_world_hint": True}
_LISTED: Final = 100


def dead_letter_tool(manager: JobManager) -> Tool:
    """Return the tool, ready to register."""
    made = _DeadLetterTool(manager).dead_letters
    return defer_tool(made, "py_dead_letters", "Run failed jobs again", AnswerTool, **_HINTS)


class _DeadLetterTool:
    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    async def dead_letters(
        self,
        action: Literal["list", "retry", "drop"] = "list",
        job_id: Annotated[str | None, "The failed job; without it all of `kind`."] = None,
        arguments: Annotated[
            dict[str, Any] | list[Any] | None,
            "With retry and job_id: keyword arguments in the place of the former ones, or a list of all "
            "positional ones.",
        ] = None,
        kind: Annotated[str | None, "Only jobs of this tool or function."] = None,
    ) -> CallToolResult:
        """List the queued jobs that failed for good and can be run again, run them again, or remove them.

        A retry is a new job with the same options; the failed one is removed, its errors are in `attempts` of
        the new one. Find out why it failed first: the list has a row for each, py_job_status the whole error.
        """
        if arguments is not None and (action != "retry" or job_id is None):
            raise InvalidInput("arguments go with action 'retry' and a job_id")
        if action == "list":
            return await self._list(kind)
        if job_id is None:
            return await self._all(action, kind)
        await find_job(self._manager, job_id)
        letters = self._manager.dead_letters
        if action == "drop":
            await letters.drop(job_id)
            return answer_of({"dropped": 1})
        job = await letters.retry(job_id, **as_arguments(arguments))
        return answer_of({"retried": {job_id: job.id}})

    async def _list(self, kind: str | None) -> CallToolResult:
        found = await self._manager.dead_letters.list(kind, limit=_LISTED, principal=current_principal())
        return await self._manager.aside(f"list for {current_principal()}", partial(list_answer, *found))

    async def _all(self, action: str, kind: str | None) -> CallToolResult:
        if kind is None:
            raise InvalidInput(f"job_id is missing for action {action!r}; give it, or kind for all of a kind")
        which, letters = {"kind": kind, "principal": current_principal()}, self._manager.dead_letters
        if action == "drop":
            return answer_of({"dropped": await letters.drop_all(**which)})
        made = await letters.retry_all(**which)
        return answer_of({"retried": {old: job.id for old, job in made.items()}})
