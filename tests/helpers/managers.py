"""Managers with small intervals, on the home of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import CallResult, Request
from python_mcp_server.settings import Settings
from tests.helpers.waiting import eventually

LONG_S = 60.0
"""A budget that no test uses up."""


@asynccontextmanager
async def manager(store: Any = None, **settings: Any) -> AsyncIterator[JobManager]:
    """A manager that is closed at the end; `PYTHON_MCP_HOME` says where its jobs lie."""
    made = JobManager(store, Settings.from_environ(**settings))
    try:
        yield made
    finally:
        await made.close()


async def call(made: JobManager, body: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a body within a long budget and return its value."""
    result = await made.run(Request(body, args, kwargs), budget_s=LONG_S)
    return result.value


async def handed_over(made: JobManager, body: Any, *args: Any, budget_s: float = 0.05) -> CallResult:
    """Run a body past its budget."""
    result = await made.run(Request(body, args), budget_s=budget_s)
    assert result.handed_over
    return result


def lines(path: Path | str) -> list[str]:
    """Return the lines of a file that may not be there yet."""
    path = Path(path)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def started_pids(path: Path | str) -> list[int]:
    """Wait for the line that says which processes a body started, and return their ids."""
    first = eventually(lambda: [line for line in lines(path) if line.startswith("started ")])[0]
    return [int(word) for word in first.split()[1:]]
