"""Builds our server: all tools, what a model is told of them, and the manager's lifetime."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.server.mcpserver import MCPServer
from mcp.server.request_state import RequestStateSecurity

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.server.job_tools import JobTools, resuming
from python_mcp_server.server.refusals import refuse_long_names
from python_mcp_server.server.registry import DeferredTool, SentenceTool, make_tool
from python_mcp_server.server.resources import JobResources
from python_mcp_server.server.sdk.adapter import adapt
from python_mcp_server.server.tasks.extension import TasksExtension
from python_mcp_server.settings import Settings, variable
from python_mcp_server.smart_async import wrap
from python_mcp_server.tool_options import ToolOptions
from python_mcp_server.version import __version__

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

    from python_mcp_server.jobs.reply import Replies

_INSTRUCTIONS: Final = """\
Runs Python code, in processes of their own, on the machine of the user.

A call that ends within its time budget answers with its result. One that takes longer is not cut off: \
it goes on in the background, and the call answers with {"job_id", "status", "message"} instead. Keep \
the job_id, and call py_wait_job(job_id) for the result, again while it answers timed_out. Do not start \
the same work a second time. With async_mode=True a call answers with its job_id at once. Another limit is \
timeout_seconds, after which the work itself is killed: raise it for long work.

py_job_status looks at a job once (progress, memory, CPU), py_job_output pages through what it printed, \
py_list_jobs finds jobs, also those of earlier sessions, py_cancel_job ends one with all its processes. \
Jobs and their results outlive this connection. A job whose status is input_required asks the user \
something, and py_answer_job answers it."""

_RUN: Final = {"destructive_hint": True, "idempotent_hint": False, "open_world_hint": True}
_RUN_LARGE: Final = _RUN | {"large": True}
_SAVE: Final = {"destructive_hint": True, "idempotent_hint": True, "open_world_hint": False}
_READ: Final = {"read_only_hint": True, "open_world_hint": False}
_SCHEDULES: Final = "schedules"
_DEAD_LETTERS: Final = "dead_letters"
_STATS: Final = "stats"
_QUOTAS: Final = "quotas"
_GROUPS: Final[dict[str, tuple[tuple[str, str, dict[str, bool]], ...]]] = {
    "scripts": (
        ("scripts:run_script_in_dir", "Run Python in a directory", _RUN_LARGE),
        ("scripts:run_script_with_dependencies", "Run Python with packages", _RUN_LARGE),
    ),
    "batch": (("batch.tool:map_script", "Run a Python script over many arguments", _RUN_LARGE),),
    "tests": (("suite.tool:run_tests", "Run a test suite", _RUN),),
    "benchmark": (("benchmark.tool:benchmark_script", "Measure a Python script", _RUN),),
    "saved": (
        ("saved:save_script", "Save a Python script", _SAVE),
        ("saved:run_saved_script", "Run a saved script", _RUN_LARGE),
        ("saved:list_scripts", "List saved scripts", _READ),
    ),
    "commands": (("commands:run_command", "Run a command", _RUN_LARGE),),
    "jobs": (),  # always there, because any other call may become a job
    _SCHEDULES: (),
    _DEAD_LETTERS: (),
    _STATS: (),
    _QUOTAS: (),
}
"""The tools by the groups that `PYTHON_MCP_TOOLS` names, less those for jobs; a group is loaded if named."""
GROUPS: Final = tuple(_GROUPS)
_NAMED_ONLY: Final = frozenset({"commands", _SCHEDULES, _DEAD_LETTERS, _STATS, _QUOTAS})
"""The groups that are there only where they are named, because few clients need them."""

_RESUMES: Final = "map_script"
"""The tool that takes up an earlier job."""
_COMMAND: Final = "run_command"
"""The tool whose calls have the grace of a `CommandJob`."""
_USES: Final = {
    "scripts": "py_run_script_in_dir for code that works in a directory, "
    "py_run_script_with_dependencies for code that needs packages",
    "batch": "py_map_script for one script over many arguments",
    "tests": "py_run_tests for a pytest suite",
    "benchmark": "py_benchmark_script to measure time and memory",
    "saved": "py_save_script with py_run_saved_script for code to be used again",
    _SCHEDULES: "py_schedule for what is to run later, or again and again",
    "commands": "py_run_command for other programs",
}
_ROUND_S: Final = 24 * 3600.0  # how long a user may take to answer; the SDK allows ten minutes
_CLOSE_S: Final = 1.8  # the SDK's client waits 2 s before it sends SIGTERM

_log: Final = logging.getLogger(__name__)


def create_server(
    manager: JobManager | None = None, settings: Settings | None = None, **mcp_options: Any
) -> MCPServer[Any]:
    """Return the SDK's server with all our tools, to run, mount, or extend with tools of your own.

    Args:
        manager: Whose jobs the tools are about; who brings one closes it. The server closes its own.
        settings: Read from the environment where they are not given; their `tools` choose among ours.
        **mcp_options: Options of `MCPServer`; they win over ours. `tools`, `extensions` and
            `middleware` come beside ours; a `TasksExtension` among them takes the place of ours.

    Raises:
        InvalidInput: `manager` or `settings` is something else, or names a group of tools that is not there.
    """
    if manager is not None and not isinstance(manager, JobManager):  # type: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"manager is {manager!r}; it must be a JobManager; a name is given as name=...")
    if settings is not None and not isinstance(settings, Settings):  # type: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"settings is {settings!r}; it must be a Settings")
    if manager is None:
        manager = JobManager(settings=settings or Settings.from_environ())
        mcp_options = {"lifespan": owner_of(manager)} | mcp_options
    groups = _chosen((settings or manager.settings).tools)
    options: dict[str, Any] = {
        "name": "python-mcp-server",
        "title": "Python",
        "version": __version__,
        "instructions": _instructions(groups),
        "request_state_security": RequestStateSecurity.ephemeral(ttl=_ROUND_S, audience="python-mcp-server"),
    }
    script_tools = [_script_tool(manager, *each) for name in groups for each in _GROUPS[name]]
    further = [tool for name in groups if name in _NAMED_ONLY for tool in _further_tools(name, manager)]
    job_tools = JobTools(manager).tools(stats=_STATS in groups)
    tools = [*script_tools, *job_tools, *further, *mcp_options.pop("tools", ())]
    options |= mcp_options | _with_tasks(manager, mcp_options)
    server: MCPServer[Any] = MCPServer(**options, tools=tools)
    JobResources(manager).install(server)
    server.middleware.append(refuse_long_names)
    return server


def _with_tasks(manager: JobManager, given: dict[str, Any]) -> dict[str, Any]:
    """The extensions and the middleware of a server that has tasks; theirs, or ours beside theirs."""
    extensions: list[Any] = list(given.get("extensions") or ())
    middleware: list[Any] = list(given.get("middleware") or ())
    if not any(isinstance(each, TasksExtension) for each in extensions):
        tasks = TasksExtension(manager)
        extensions.append(tasks)
        middleware.append(tasks.listening)
    return {"extensions": extensions, "middleware": middleware}


def _further_tools(group: str, manager: JobManager) -> list[Tool]:
    """Return the tools of a group that is there only where it is named; their modules are loaded then."""
    if group == _SCHEDULES:
        from python_mcp_server.server.schedule_tool import ScheduleTool

        return ScheduleTool(manager).tools()
    if group == _DEAD_LETTERS:
        from python_mcp_server.server.dead_letter_tool import dead_letter_tool

        return [dead_letter_tool(manager)]
    if group == _QUOTAS:
        from python_mcp_server.server.quota_tool import quota_tool

        return [quota_tool(manager)]
    return []


def _chosen(named: Sequence[str]) -> list[str]:
    """Return the named groups, in our order; without names all but those that must be named."""
    wrong = next((name for name in named if name not in _GROUPS), None)
    if wrong is not None:
        raise InvalidInput(f"{variable('tools')} has {wrong!r}; the groups of tools are {', '.join(_GROUPS)}")
    return [name for name in _GROUPS if name in (named or _GROUPS.keys() - _NAMED_ONLY)]


def _instructions(groups: Sequence[str]) -> str:
    """Return what a model is told of the whole, with no tool that is not there."""
    uses = ", ".join(_USES[name] for name in groups if name in _USES)
    return f"{_INSTRUCTIONS}\n\nUse {uses}." if uses else _INSTRUCTIONS


def _script_tool(manager: JobManager, place: str, title: str, hints: dict[str, bool]) -> Tool:
    """Return a tool whose calls run in workers, without a schema of its results; loaded when first used."""
    short, _, function = place.partition(":")
    module, name = f"python_mcp_server.tools.{short}", f"py_{function}"

    def build() -> Tool:
        body: Callable[..., Any] = getattr(import_module(module), function)
        grace_s = _grace_of_commands() if function == _COMMAND else None
        own = frozenset(inspect.signature(body).parameters)
        options = ToolOptions(body, name, own, manager, grace_s=grace_s)
        kind = resuming(manager) if function == _RESUMES else SentenceTool
        tool = wrap(options, adapt(body, declares_output=False))
        return make_tool(tool, name, title, kind, aside=manager.aside, **hints)

    manager.preload(module)
    tool = DeferredTool(name, build)
    manager.tools[name] = _DeferredAdapter(manager, tool)
    return cast("Tool", tool)


def _grace_of_commands() -> float:
    from python_mcp_server.kinds import COMMAND_GRACE_S  # late: a start takes no longer for it

    return COMMAND_GRACE_S


@dataclass(frozen=True, slots=True)
class _DeferredAdapter:
    """Adapter of a tool that is not built yet, in case a client first asks for an earlier job of it."""

    manager: JobManager
    tool: DeferredTool

    def replies(self, style: str) -> Replies:
        """Return how the tool answers; the built adapter replaces this one."""
        self.tool.build()
        return self.manager.tools[self.tool.name].replies(style)


def owner_of(
    manager: JobManager, *, starts: bool = True
) -> Callable[[MCPServer[Any]], AbstractAsyncContextManager[JobManager]]:
    """Return a lifespan that starts the manager with its first user and closes it with its last.

    Clients in the same process enter a server's lifespan once each.

    Args:
        manager: The manager.
        starts: False where the first answer goes first, and the manager is started after it.
    """
    users: list[object] = []

    @asynccontextmanager
    async def lifespan(_server: MCPServer[Any]) -> AsyncGenerator[JobManager]:
        user = object()
        users.append(user)
        try:
            if starts:
                await manager.start()
            yield manager
        finally:
            users.remove(user)
            if not users:
                await close_in_time(manager)

    return lifespan


async def close_in_time(manager: JobManager) -> None:
    """Close the manager, but never keep the process longer than a client waits for it."""
    try:
        await manager.close(at_most_s=_CLOSE_S)
    except TimeoutError:
        _log.warning("not everything ended within %s s; the rest leaves once it sees us gone", _CLOSE_S)
