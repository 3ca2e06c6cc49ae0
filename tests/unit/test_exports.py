"""The public names are a promise: exactly these, from here, and cheap for a worker."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

import pytest

import python_mcp_server
from python_mcp_server import errors
from tests.helpers import run_python

HOMES = {
    "smart_async": "smart_async",
    "report_progress": "context",
    "create_progress_callback": "context",
    "current_job": "context",
    "emit": "context",
    "request_input": "asking",
    "scheduled": "scheduling",
    "InputAnswer": "questions.model",
    "JobManager": "jobs.manager",
    "JobStore": "store.contract",
    "InMemoryJobStore": "store.memory",
    "FileJobStore": "store.files",
    "RedisJobStore": "store.redis.job_store",
    "SqliteJobStore": "store.sqlite",
    "JobEvent": "store.events",
    "Limits": "limits",
    "JobOptions": "options",
    "Retry": "options",
    "Snooze": "options",
    "Cancel": "options",
    "Job": "model",
    "JobState": "model",
    "JobProgress": "model",
    "JobResult": "job_result",
    "AsyncJob": "kinds",
    "FunctionJob": "kinds",
    "CommandJob": "kinds",
    "Graph": "jobs.graph",
    "Result": "jobs.arguments",
    "create_server": "server.app",
    "add_job_tools": "server.authors",
    "TasksExtension": "server.tasks.extension",
    "JobCancelled": "cancelled",
    "PythonMcpError": "errors",
    "InvalidInput": "errors",
    "JobExpired": "errors",
    "JobNotFound": "errors",
    "ResultNotReady": "errors",
    "QuestionNotOpen": "errors",
    "QuotaExceeded": "errors",
    "NotInJob": "errors",
    "AnswerTimeout": "errors",
    "RemoteError": "errors",
    "JobFailed": "errors",
    "WorkerDied": "errors",
    "WorkerUnavailable": "errors",
    "LimitExceeded": "errors",
    "StoreError": "errors",
    "StoreLocked": "errors",
    "ToolchainError": "errors",
    "UvRefused": "errors",
    "PoolClosed": "errors",
}
HEAVY = ("mcp", "pydantic", "starlette", "uvicorn", "loky", "click", "rich", "redis")


def test_exactly_these_names_are_public() -> None:
    assert set(python_mcp_server.__all__) == HOMES.keys()
    assert HOMES.keys() <= set(dir(python_mcp_server))


@pytest.mark.parametrize("name", HOMES)
def test_a_public_name_comes_from_its_home(name: str) -> None:
    assert getattr(python_mcp_server, name).__module__ == f"python_mcp_server.{HOMES[name]}"


def test_every_error_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and name != "Any"}
    assert defined <= HOMES.keys()


def test_the_decorator_stays_when_its_module_was_imported_first() -> None:
    code = "import python_mcp_server.smart_async; print(callable(python_mcp_server.smart_async))"
    assert run_python("-c", code).stdout == "True\n"


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'python_mcp_server' has no attribute 'nothing'"):
        python_mcp_server.nothing  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue]


def test_the_import_loads_nothing_heavy() -> None:
    code = "import json, sys, python_mcp_server; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run_python("-c", code).stdout)
    assert [name for name in HEAVY if name in loaded] == []


def test_the_store_on_redis_loads_its_client_at_its_first_use() -> None:
    code = "import sys, python_mcp_server; python_mcp_server.RedisJobStore; print('redis' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


def test_the_version_of_the_distribution_is_that_of_the_package() -> None:
    try:
        installed = version("python-mcp-server")
    except PackageNotFoundError:
        pytest.skip("the package is on the path, but not installed")
    assert installed == python_mcp_server.__version__
