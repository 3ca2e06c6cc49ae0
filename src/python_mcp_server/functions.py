"""Plain functions over one default manager, for code without an event loop. `smart_async` exports them.

Every module that holds a body imports this one, so the manager is loaded when it is first needed.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypedDict, TypeVar

from python_mcp_server.context import current_job
from python_mcp_server.errors import InvalidInput, JobNotFound, QuestionNotOpen
from python_mcp_server.model import Job
from python_mcp_server.settings import Settings

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.reply import Adapter
    from python_mcp_server.store.contract import JobStore

_P = ParamSpec("_P")
_T = TypeVar("_T")

JobMeta = Job
"""The name that older versions gave to a job."""


class RunScriptResult(TypedDict):
    """The answer of a script tool, in the shape that older versions gave this name."""

    stdout: str
    stderr: str
    exit_code: int
    execution_strategy: str
    elapsed_seconds: float


class AppState:
    """The state of the default manager, in the form of older versions."""

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The most recent jobs by id, read anew at each access."""
        jobs, _ = default_manager().blocking.list(None, 1000)
        return {job.id: job for job in jobs}

    @property
    def persistence_dir(self) -> Path:
        """The directory of the jobs."""
        return default_manager().store.home


class _Default:
    """The only global state: the manager of functions that name no other."""

    manager: JobManager | None = None
    tools: dict[str, Adapter] = {}  # noqa: RUF012  known before the first call makes the manager
    declared: list[Callable[[JobStore], None]] = []  # noqa: RUF012  as `tools`
    seen: dict[tuple[str, str], int] = {}  # noqa: RUF012  how far this process has read, by job and stream
    lock = threading.Lock()


def _free_lock_in_child() -> None:
    """Make a new lock, because a thread of the parent may have held the old one at the fork."""
    _Default.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_lock_in_child)

STATE: Final = AppState()


def default_manager() -> JobManager:
    """Return the manager that decorated functions use; the first call makes it."""
    with _Default.lock:
        if _Default.manager is None:
            from python_mcp_server.jobs.manager import JobManager

            _Default.manager = JobManager()
            _Default.manager.tools, _Default.manager.declared = _Default.tools, _Default.declared
        return _Default.manager


def default_tools() -> dict[str, Adapter]:
    """Return the tools that the default manager knows, without making the manager."""
    return _Default.tools


def default_schedules() -> list[Callable[[JobStore], None]]:
    """Return the list of what makes the schedules of the default manager, without making the manager."""
    return _Default.declared


def initialize_state(persistence_dir: str | Path | None = None) -> AppState:
    """Let the default manager keep its jobs in this directory, from the next call on.

    Args:
        persistence_dir: The home, which has the jobs whatever `PYTHON_MCP_STORE` says; where None, both are
            as the settings say.
    """
    from python_mcp_server.jobs.manager import JobManager

    store = None if persistence_dir is None else ""
    settings = Settings.from_environ(home=persistence_dir, store=store)
    with _Default.lock:
        _Default.manager = JobManager(settings=settings)
        _Default.manager.tools, _Default.manager.declared = _Default.tools, _Default.declared
        _Default.seen = {}
    return STATE


def _for_bodies_too(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a cancel of the body that calls this function, which cannot interrupt it, be raised at its end."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        value = function(*args, **kwargs)
        current_job()
        return value

    return call


@_for_bodies_too
def get_job_status(job_id: str, incremental: bool = False) -> dict[str, Any]:
    """Return `{"job": {...}}`, or `{"error": "Job X not found"}`.

    Args:
        job_id: The job's id.
        incremental: Adds `new_stdout` and `new_stderr`: the output since the last call in this process.
    """
    manager = default_manager()
    try:
        answer: dict[str, Any] = {"job": manager.blocking.get(job_id).to_json()}
    except JobNotFound as error:
        return {"error": str(error)}
    if incremental:
        for stream in ("stdout", "stderr"):
            page = manager.blocking.output(job_id, stream, _Default.seen.get((job_id, stream), 0))
            _Default.seen[job_id, stream] = page.next_offset
            answer[f"new_{stream}"] = page.text
    return answer


job_status = get_job_status


@_for_bodies_too
def list_jobs(
    status_filter: str | None = None, limit: int = 50, *, before: str | None = None
) -> dict[str, Any]:
    """Return `{"jobs": [...], "total": n, "more": bool}`, newest first.

    Args:
        status_filter: Only jobs in this state.
        limit: How many at most.
        before: Only jobs older than this one. Where there are more, the answer has the id for the next call
            as `next_before`.

    Raises:
        InvalidInput: The status does not exist, the limit is not positive, or `before` is not an id.
    """
    from python_mcp_server.jobs.request import state_named
    from python_mcp_server.jobs.rows import listing

    return listing(*default_manager().blocking.list(state_named(status_filter), limit, None, before))


@_for_bodies_too
def cancel_job(job_id: str) -> dict[str, Any]:
    """Cancel a job; return `{"job_id", "status", "message"}` when its last process is gone.

    A finished job keeps its status; an unknown one gives `{"error": "Job X not found"}`.
    """
    from python_mcp_server.jobs.request import cancellation

    manager = default_manager()
    try:
        before = manager.blocking.get(job_id)
        job = before if before.status.terminal else manager.blocking.cancel(job_id)
    except JobNotFound as error:
        return {"error": str(error)}
    return cancellation(job, ended_before=before.status.terminal)


@_for_bodies_too
def answer_job(job_id: str, key: str, response: Any = None, action: str = "accept") -> dict[str, Any]:
    """Answer a question of a job; return `{"job": {...}}` in its state afterwards, or `{"error": ...}`.

    Args:
        job_id: The job's id.
        key: The question's key.
        response: Mapping of the form's fields to values, or the bare value where the form has one field.
        action: "accept", or "decline" or "cancel" without a response.
    """
    from python_mcp_server.jobs.questions import answer_of, question_of

    manager = default_manager()
    try:
        question = question_of(manager.blocking.get(job_id), key)
        job = manager.blocking.answer(job_id, {key: answer_of(question, response, action)})
    except (JobNotFound, QuestionNotOpen, InvalidInput) as error:
        return {"error": str(error)}
    return {"job": job.to_json()}


@_for_bodies_too
def prune_jobs(
    keep_completed: bool = True, keep_failed: bool = True, max_age_hours: float = 24
) -> dict[str, int]:
    """Remove finished jobs older than the age; return `{"removed": n, "remaining": n}`.

    Cancelled jobs are always removed, completed and failed ones where they are not kept, running ones never.
    """
    pruned = default_manager().blocking.prune(
        keep_completed=keep_completed, keep_failed=keep_failed, max_age_hours=max_age_hours
    )
    return {"removed": pruned.removed, "remaining": pruned.remaining}
