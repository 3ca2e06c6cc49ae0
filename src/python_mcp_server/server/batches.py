"""The tool that resumes a job: over HTTP only one of the caller's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.server.convert import failure
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.registry import SentenceTool

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

    from python_mcp_server.jobs.manager import JobManager


def resuming(manager: JobManager) -> type[SentenceTool]:
    """Return the class of a tool whose parameter `resume` names a job of this manager."""

    class ResumingTool(SentenceTool):
        async def run(
            self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
        ) -> Any:
            """Refuse a job that is nobody's or somebody else's, or that still runs."""
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
