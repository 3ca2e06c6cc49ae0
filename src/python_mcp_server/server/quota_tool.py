"""The tool `py_quota`: a client sees what it may spend, and what it has spent; of others it sees nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context  # noqa: TC002  # the SDK looks for it at run time

from python_mcp_server.server.principals import current_principal
from python_mcp_server.server.registry import SentenceTool, defer_tool
from python_mcp_server.server.sdk.private import client_name

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.manager import JobManager

_HINTS: Final = {"read_only_hint": True, "open_world_hint": False}


def quota_tool(manager: JobManager) -> Tool:
    """Return the tool, ready to register."""
    return defer_tool(_QuotaTool(manager).quota, "py_quota", "Quota", SentenceTool, **_HINTS)


class _QuotaTool:
    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    async def quota(self, ctx: Context[Any, Any]) -> dict[str, Any]:
        """Return what you may spend in a window of time, and what you have spent of it: jobs, CPU seconds,
        memory of running jobs.

        Look here before a large batch. Where the next job would be refused, `refusal` says why and `fits_at`
        when it fits; `quota` is null where nothing is bounded.
        """
        client = current_principal() or client_name(ctx)
        return (await self._manager.quotas.spent(client or "")).to_json()
