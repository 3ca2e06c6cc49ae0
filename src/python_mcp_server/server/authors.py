"""The job tools on the server of another author, whose decorated tools may answer with a job.

A worker that loads an author's main file comes by here, so what the tools need is imported only by a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from python_mcp_server.context import BODY_ATTRIBUTE, in_worker
from python_mcp_server.errors import InvalidInput
from python_mcp_server.functions import default_tools

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fastmcp import FastMCP
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.manager import JobManager


def add_job_tools(server: MCPServer[Any] | FastMCP[Any], manager: JobManager | None = None) -> None:
    """Add py_wait_job, py_job_status, py_job_output and the other tools for jobs to a server.

    Call it after the decorated tools and before `mcp.run()`. A second call, or one for a server of
    `create_server`, changes nothing.

    Args:
        server: The SDK's `MCPServer`, or a `FastMCP`.
        manager: The manager of the decorated tools, where they name one; the default manager where None.

    Raises:
        InvalidInput: The server is of another kind, or has another tool of one of these names. Nothing was
            added.
        TypeError: A tool of the server is undecorated, because @smart_async stands above @mcp.tool().
    """
    if in_worker():
        return
    from mcp.server.mcpserver import MCPServer

    from python_mcp_server.server.job_tools import JobTools
    from python_mcp_server.server.sdk.private import tools_of

    ours = {tool.name: tool for tool in JobTools(manager).tools()}
    if isinstance(server, MCPServer):
        theirs = tools_of(server)
        _refuse_undecorated(theirs, manager)
        theirs |= {name: ours[name] for name in _missing(ours, theirs)}
    elif any(
        kind.__module__.startswith("fastmcp.") and kind.__name__ == "FastMCP" for kind in type(server).__mro__
    ):
        from python_mcp_server.server import fastmcp

        for name in _missing(ours, fastmcp.tools_of(server)):
            server.add_tool(fastmcp.JobTool.of(ours[name]))
    else:
        raise InvalidInput(f"server is {server!r}; it must be an MCPServer of mcp, or a FastMCP")


def _missing(ours: Mapping[str, Tool], theirs: Mapping[str, Any]) -> list[str]:
    """Return the names of our tools that the server does not have."""
    from python_mcp_server.server.registry import DeferredTool

    missing = [name for name in ours if name not in theirs]
    for name in ours.keys() - set(missing):
        if not isinstance(getattr(theirs[name], "source", theirs[name]), DeferredTool):
            raise InvalidInput(
                f"this server has a tool {name} already; give it another name, because add_job_tools adds one"
            )
    return missing


def _refuse_undecorated(theirs: Mapping[str, Tool], manager: JobManager | None) -> None:
    """Refuse a server with a tool whose function was decorated after its registration."""
    from python_mcp_server.server.registry import DeferredTool
    from python_mcp_server.server.sdk.adapter import ToolAdapter

    functions = {name: tool.fn for name, tool in theirs.items() if not isinstance(tool, DeferredTool)}
    served: Collection[Any] = [getattr(fn, BODY_ATTRIBUTE, None) for fn in functions.values()]
    known = [*default_tools().values(), *(manager.tools.values() if manager is not None else ())]
    bodies = [view.fn for view in known if isinstance(view, ToolAdapter) and view.fn not in served]
    for name, fn in functions.items():
        if any(fn is body for body in bodies):
            raise TypeError(
                f"the tool {name!r} is undecorated, because @smart_async stands above @mcp.tool(); put "
                "@mcp.tool() above @smart_async"
            )
