"""What a caller gets of an outcome: the value, or the exception itself."""

from __future__ import annotations

import logging
import pickle
from typing import Final

from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import RemoteError, WorkerDied
from python_mcp_server.jobs.questions import sentence_of
from python_mcp_server.jobs.request import JobResult
from python_mcp_server.model import Failure, Job, JobState, Outcome

_log: Final = logging.getLogger(__name__)
TRACE_HEADER: Final = "In the worker:\n"
"""What the note with the worker's traceback begins with."""


def deliver(job_id: str, outcome: Outcome | None) -> JobResult:
    """Return the value of an outcome, or raise what it stands for; None stands for a cancel. For a value that
    cannot be sent stands its JSON form, as in the record.

    Raises:
        JobCancelled: The job was cancelled.
        BaseException: What `rebuild` makes of its failure.
    """
    if outcome is None or outcome.cancelled:
        raise JobCancelled(f"job {job_id} was cancelled")
    if outcome.failure is not None:
        raise rebuild(outcome.failure)
    if outcome.shown is not None:
        value, note = outcome.shown
        _log.warning("job %s: %s", job_id, note)
        return JobResult(job_id, JobState.COMPLETED, value, note=note)
    return JobResult(job_id, JobState.COMPLETED, outcome.value)


def handle_of(job: Job, budget_s: float) -> JobResult:
    """Return what a caller gets in the place of a value: where the job stands, and why."""
    asked = job.open_questions
    if asked:
        message = sentence_of(job.id, asked)
    elif job.status is JobState.PENDING:
        message = f"Task exceeded {budget_s}s time budget; {job.message or 'waiting to start'}"
    else:
        message = f"Task exceeded {budget_s}s time budget; running in background"
    return JobResult(job.id, job.status, handed_over=True, message=message, questions=asked)


def rebuild(failure: Failure) -> BaseException:
    """Return the exception that a failure stands for, with the worker's traceback as a note."""
    if failure.kind == "worker_died":
        return WorkerDied(failure.message, exit_code=failure.exit_code)
    error: BaseException | None = failure.error
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)
        except BaseException:  # noqa: BLE001  its class exists only in the worker, or any code of it runs here
            error = None
    if not isinstance(error, Exception):  # it may be anything else here, such as what ends the server
        error = RemoteError(failure.type_name, failure.message, failure.traceback_text)
    if failure.traceback_text:
        _annotate(error, TRACE_HEADER + failure.traceback_text.rstrip())
    return error


def _annotate(error: Exception, note: str) -> None:
    try:
        if note not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, note)  # its class may have another method of this name
    except BaseException as refused:  # noqa: BLE001  its own code: it is raised without the note
        _log.debug("an exception takes no note: %s", type(refused).__name__)
