"""From what a person types to a job, and what is said of it in one line."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import InvalidInput, JobNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.model import Job
    from python_mcp_server.questions.model import Question

_SHORTEST_CHARS: Final = 4
_RECENT_JOBS: Final = 1000
_POLL_S: Final = 0.1


def find_job(manager: JobManager, typed: str) -> Job:
    """Return the job with this id, or with this beginning or end of one among the most recent.

    Raises:
        JobNotFound: There is none.
        InvalidInput: There are several.
    """
    job = manager.store.get(typed)
    if job is not None:
        return job
    if len(typed) < _SHORTEST_CHARS:
        raise JobNotFound(typed)
    recent, _ = manager.list_blocking(None, _RECENT_JOBS)
    found = [job.id for job in recent if job.id.startswith(typed) or job.id.endswith(typed)]
    if not found:
        raise JobNotFound(typed)
    if len(found) > 1:
        raise InvalidInput(f"ID is {typed!r}, which fits {len(found)} jobs; give more of it")
    return manager.get_blocking(found[0])


def wait_for_job(
    manager: JobManager, typed: str, timeout_s: float | None, on_question: Callable[[Job, Question], None]
) -> tuple[Job, bool]:
    """Wait for the end of a job or of the time; return the job and whether the time ran out.

    Args:
        manager: Where the job is.
        typed: Its id, or the beginning of it.
        timeout_s: The longest wait; None for ever.
        on_question: Hears each question that the job waits with, once.

    Raises:
        InvalidInput: The time is negative or no number.
    """
    if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s >= 0):
        raise InvalidInput(f"--timeout is {timeout_s:g}; it must be a number of seconds, 0 or more")
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    job, told = find_job(manager, typed), set[str]()
    while not job.status.terminal:
        for question in job.open_questions:
            if question.key not in told:
                on_question(job, question)
            told.add(question.key)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return job, True
        time.sleep(min(left_s, _POLL_S))
        job = manager.get_blocking(job.id)
    return job, False


def error_sentence(job: Job) -> str:
    """Return a job's error without the traceback that follows it in the record."""
    return (job.error or "").partition("\n\n")[0]
