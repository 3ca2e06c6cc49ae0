"""An extension of the SDK's kind on a FastMCP server; imported only where the program has FastMCP loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastmcp.server.extensions import MethodBinding, ServerExtension
from pydantic import RootModel

from python_mcp_server.server.inside import request_of

if TYPE_CHECKING:
    from fastmcp.server.context import Context
    from fastmcp.server.extensions import ToolCallContinuation, ToolCallOutcome
    from mcp.server.extension import Extension
    from mcp_types import CallToolRequestParams


class FastMCPExtension(ServerExtension):
    """Lets an extension of the SDK's kind serve a FastMCP server, as `add_extension` takes it.

    Args:
        extension: What does the work.
    """

    def __init__(self, extension: Extension) -> None:
        self.identifier = extension.identifier
        self._extension = extension

    def clone(self) -> FastMCPExtension:
        """Return an unbound one around the same extension, whose jobs and tasks cannot be copied."""
        return FastMCPExtension(self._extension)

    def settings(self) -> dict[str, Any]:
        """Return what is told of it to clients."""
        return self._extension.settings()

    def methods(self) -> Sequence[MethodBinding]:
        """Return its methods."""
        return [
            MethodBinding(each.method, each.params_type, each.handler, each.protocol_versions)
            for each in self._extension.methods()
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, context: Context, call_next: ToolCallContinuation
    ) -> ToolCallOutcome:
        """Run the call, and answer with what the extension puts in its place, if it does."""
        request = request_of(context)
        if request is None:  # a call from within the server: nobody there takes anything but a result
            return await call_next()
        outcome: Any = None

        async def run(_ctx: object) -> Any:
            nonlocal outcome
            outcome = await call_next()
            return outcome

        answer = await self._extension.intercept_tool_call(params, request, run)
        return _Answer(answer) if isinstance(answer, dict) else outcome


class _Answer(RootModel[dict[str, Any]]):
    """A result as it goes over the wire, nulls included."""
