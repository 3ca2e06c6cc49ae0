"""Run Python for MCP clients, and make slow MCP tools safe.

The names here are the public ones. The decorator is imported at once, because the module of the same name
would shadow a lazy name. Everything else is imported at its first use, so that a worker pays only for the
modules that it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.interrupt import leave_quietly_if_program

leave_quietly_if_program()  # before what takes time

from python_mcp_server.smart_async import smart_async  # noqa: E402
from python_mcp_server.version import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from python_mcp_server.asking import request_input
    from python_mcp_server.cancelled import JobCancelled
    from python_mcp_server.context import create_progress_callback, current_job, emit, report_progress
    from python_mcp_server.errors import (
        AnswerTimeout,
        InvalidInput,
        JobExpired,
        JobFailed,
        JobNotFound,
        LimitExceeded,
        NotInJob,
        PoolClosed,
        PythonMcpError,
        QuestionNotOpen,
        QuotaExceeded,
        RemoteError,
        ResultNotReady,
        StoreError,
        StoreLocked,
        ToolchainError,
        UvRefused,
        WorkerDied,
        WorkerUnavailable,
    )
    from python_mcp_server.job_result import JobResult
    from python_mcp_server.jobs.arguments import Result
    from python_mcp_server.jobs.graph import Graph
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.kinds import AsyncJob, CommandJob, FunctionJob
    from python_mcp_server.limits import Limits
    from python_mcp_server.model import Job, JobProgress, JobState
    from python_mcp_server.options import Cancel, JobOptions, Retry, Snooze
    from python_mcp_server.questions.model import InputAnswer
    from python_mcp_server.scheduling import scheduled
    from python_mcp_server.server.app import create_server
    from python_mcp_server.server.authors import add_job_tools
    from python_mcp_server.server.tasks.extension import TasksExtension
    from python_mcp_server.store.contract import JobStore
    from python_mcp_server.store.events import JobEvent
    from python_mcp_server.store.files import FileJobStore
    from python_mcp_server.store.memory import InMemoryJobStore
    from python_mcp_server.store.redis.job_store import RedisJobStore
    from python_mcp_server.store.sqlite import SqliteJobStore

__all__ = [
    "AnswerTimeout",
    "AsyncJob",
    "Cancel",
    "CommandJob",
    "FileJobStore",
    "FunctionJob",
    "Graph",
    "InMemoryJobStore",
    "InputAnswer",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "JobManager",
    "JobNotFound",
    "JobOptions",
    "JobProgress",
    "JobResult",
    "JobState",
    "JobStore",
    "LimitExceeded",
    "Limits",
    "NotInJob",
    "PoolClosed",
    "PythonMcpError",
    "QuestionNotOpen",
    "QuotaExceeded",
    "RedisJobStore",
    "RemoteError",
    "Result",
    "ResultNotReady",
    "Retry",
    "Snooze",
    "SqliteJobStore",
    "StoreError",
    "StoreLocked",
    "TasksExtension",
    "ToolchainError",
    "UvRefused",
    "WorkerDied",
    "WorkerUnavailable",
    "add_job_tools",
    "create_progress_callback",
    "create_server",
    "current_job",
    "emit",
    "report_progress",
    "request_input",
    "scheduled",
    "smart_async",
]

_HOMES: Final = {
    "asking": ("request_input",),
    "cancelled": ("JobCancelled",),
    "context": ("create_progress_callback", "current_job", "emit", "report_progress"),
    "jobs.arguments": ("Result",),
    "jobs.graph": ("Graph",),
    "jobs.manager": ("JobManager",),
    "job_result": ("JobResult",),
    "kinds": ("AsyncJob", "CommandJob", "FunctionJob"),
    "limits": ("Limits",),
    "options": ("Cancel", "JobOptions", "Retry", "Snooze"),
    "model": ("Job", "JobProgress", "JobState"),
    "questions.model": ("InputAnswer",),
    "scheduling": ("scheduled",),
    "server.app": ("create_server",),
    "server.authors": ("add_job_tools",),
    "server.tasks.extension": ("TasksExtension",),
    "store.contract": ("JobStore",),
    "store.events": ("JobEvent",),
    "store.files": ("FileJobStore",),
    "store.memory": ("InMemoryJobStore",),
    "store.redis.job_store": ("RedisJobStore",),
    "store.sqlite": ("SqliteJobStore",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
