"""The input and the output of the manager: requests, notices, results, and their conversion; jobs as the
dictionaries that tools and functions answer with.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import InvalidInput, RemoteError, WorkerDied
from python_mcp_server.jobs.reply import JobReplies, Replies
from python_mcp_server.limits import Limits
from python_mcp_server.model import (
    MOST_LABEL_CHARS,
    Failure,
    Job,
    JobProgress,
    JobState,
    Outcome,
    Usage,
)
from python_mcp_server.options import Cancel, JobOptions
from python_mcp_server.questions.model import Question

if TYPE_CHECKING:
    from python_mcp_server.kinds import AsyncJob
    from python_mcp_server.pool.references import BodyReference
    from python_mcp_server.pool.server_state import ServerState

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One body to run as a job, with its arguments, its limits and its caller.

    Attributes:
        body: The undecorated function, sync or async.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        label: The caller's name for the job; None stands for the tool's name.
        tool: The name of the tool or function.
        isolation: "process", or "inline" for an async body that only waits.
        replayable: Whether another server may start the job from its record if this server ends while the job
            is queued. It does so only if the arguments are plain JSON and none is a secret.
        secret_parameters: Parameters that hold secrets; if None, names and texts that look like secrets
            count.
        principal: The principal that owns the job; None for the account's owner.
        client: The MCP client that asks, as it names itself; None if no MCP client asks.
        options: How the job is queued and retried; None for a job that waits for a slot only.
        server_state: The directory, environment and path of imports of the program at the call, which a
        worker
            follows; None for those at the start of the body.
        reference: The body as it was at the call, with what it closes over; None for that at its start.
        limits: The limits of the job; an inline body can only have a time limit.
        grace_s: How long the body may clean up after a cancel; None for the setting.
        replies: How its tool answers; None if this is not a call of a tool.
        results: The ids of the jobs whose results are among its arguments; see `jobs.arguments`.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    label: str | None = None
    tool: str = ""
    isolation: str = "process"
    principal: str | None = None
    replayable: bool = True
    limits: Limits | None = None
    replies: Replies | None = None
    secret_parameters: frozenset[str] | None = None
    client: str | None = None
    grace_s: float | None = None
    options: JobOptions | None = None
    server_state: ServerState | None = None
    reference: BodyReference | None = None
    results: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a label that is no text, or would make every list long.

        Raises:
            InvalidInput: The label is something else, or too long.
        """
        label: Any = self.label  # a caller may give anything
        if label is not None and not isinstance(label, str):
            raise InvalidInput(f"the job's label is {label!r}; it must be a text")
        if label is not None and len(label) > MOST_LABEL_CHARS:
            raise InvalidInput(f"the job's label has {len(label)} characters; it may have {MOST_LABEL_CHARS}")
        if self.options is not None and not isinstance(cast("object", self.options), JobOptions):
            raise InvalidInput(f"options is {self.options!r:.160}; it must be JobOptions")


def request_of(
    job: AsyncJob,
    *,
    label: str | None = None,
    timeout_seconds: float | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Request:
    """Return the request that runs a job of the framework. For a parameter that is None the job's own value
    counts.

    Args:
        job: The job.
        label: The caller's name for it.
        timeout_seconds: Its time limit; 0 for none.
        limits: Its limits.
        options: The fields of `JobOptions` that differ from those of its kind.

    Raises:
        InvalidInput: A value has no meaning.
    """
    from python_mcp_server.kinds import options_of, work_of

    timeout_s = job.timeout_seconds if timeout_seconds is None else timeout_seconds
    if isinstance(timeout_s, (int, float)) and timeout_s < 0:
        told = f"timeout_seconds is {timeout_s!r}"
        raise InvalidInput(f"{told}; it must be a positive number of seconds, or 0 for no limit")
    work = work_of(job, timeout_s, job.limits if limits is None else limits)
    return Request(
        work.body,
        work.args,
        dict(work.kwargs),
        label=job.label if label is None else label,
        tool=job.name or type(job).__name__,
        isolation=job.isolation,
        limits=work.limits,
        replies=JobReplies(),
        grace_s=job.grace_s,
        options=options_of(job, options),
    )


@dataclass(frozen=True, slots=True)
class CallResult:
    """The caller's result: the value, or the id and the state of the job that goes on.

    Attributes:
        job_id: The job's id; others know the job only if it has a record.
        status: The state of the job.
        value: The value that the body returned, if it did so in time.
        note: Why `value` is only the JSON form of the returned value; None where it is the value itself.
        handed_over: Whether the job goes on in the background.
        message: A sentence that says why there is no value yet.
        questions: The questions that the job asks.
    """

    job_id: str
    status: JobState
    value: Any = None
    handed_over: bool = False
    message: str | None = None
    questions: tuple[Question, ...] = ()
    note: str | None = None

    def handle(self) -> dict[str, Any]:
        """Return the wire form of a job that goes on: `{"job_id", "status", "message"?}`."""
        handle = {"job_id": self.job_id, "status": self.status.value}
        return handle | {"message": self.message} if self.message else handle


@dataclass(frozen=True, slots=True)
class Notice:
    """News for a caller that waits.

    Attributes:
        job_id: The job, once it has a record that others can read.
        progress: The latest progress, or None.
        usage: The latest sample of memory and CPU, or None.
        message: A sentence that says what the call waits for, or None.
    """

    job_id: str | None = None
    progress: JobProgress | None = None
    usage: Usage | None = None
    message: str | None = None


Listener = Callable[[Notice], None]
"""A listener is called on the event loop; it must not block."""

TRACE_HEADER: Final = "In the worker:\n"
"""The beginning of the note with the worker's traceback."""


def deliver(job_id: str, outcome: Outcome | None) -> CallResult:
    """Return the value of an outcome, or raise its exception; an outcome of None is a cancel. A value that
    cannot be sent is returned in its JSON form, as in the record.

    Raises:
        JobCancelled: The job was cancelled, also by its body, which has returned `Cancel`.
        BaseException: The exception that `rebuild` makes of the failure.
    """
    if outcome is None or outcome.cancelled:
        raise JobCancelled(f"job {job_id} was cancelled")
    if isinstance(outcome.value, Cancel):
        reason = f": {outcome.value.reason}" if outcome.value.reason else ""
        raise JobCancelled(f"job {job_id} was cancelled{reason}")
    if outcome.failure is not None:
        raise rebuild(outcome.failure)
    if outcome.shown is not None:
        value, note = outcome.shown
        _log.warning("job %s: %s", job_id, note)
        return CallResult(job_id, JobState.COMPLETED, value, note=note)
    return CallResult(job_id, JobState.COMPLETED, outcome.value)


def handle_of(job: Job, budget_s: float) -> CallResult:
    """Return the handle that a caller gets in place of a value: the job's state, and the reason."""
    asked = job.open_questions
    if asked:
        message = _sentence_of(job.id, asked)
    elif job.status is JobState.PENDING:
        message = f"Task exceeded {budget_s}s time budget; {job.message or 'waiting to start'}"
    else:
        message = f"Task exceeded {budget_s}s time budget; running in background"
    return CallResult(job.id, job.status, handed_over=True, message=message, questions=asked)


def _sentence_of(job_id: str, questions: Iterable[Question]) -> str:
    """Return the text for the job's handle: the questions, and how to answer them."""
    asked = "; ".join(f"{question.key!r}: {question.message}" for question in questions)
    return f"The job asks and waits for the answer: {asked} (py_answer_job with job_id {job_id} and the key)"


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
    if not isinstance(error, Exception):  # another exception, such as SystemExit, could end the server
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


def status_of(job: Job) -> dict[str, Any]:
    """Return a job as `{"token", "state", "progress": {"current", "total", "message", "percentage"}}`, a
    failed one also with `error` and `error_kind`.
    """
    progress = job.progress or JobProgress(0)
    told = progress.to_json() | {"percentage": progress.percentage}
    status: dict[str, Any] = {"token": job.id, "state": job.status.word, "progress": told}
    if job.status is JobState.FAILED:
        status |= {"error": job.error, "error_kind": job.error_kind}
    return status


def states_named(word: str | None) -> tuple[JobState | None, ...]:
    """Return the states that the framework calls by this word; the record's own words are understood too.

    Raises:
        InvalidInput: No state has this word; the text lists the words.
    """
    if word is None:
        return (None,)
    found = tuple(state for state in JobState if word == state.word) or tuple(
        state for state in JobState if word == state.value
    )
    if not found:
        known = ", ".join(dict.fromkeys(state.word for state in JobState))
        raise InvalidInput(f"state is {word!r}; it must be one of {known}")
    return found


def state_named(name: str | None) -> JobState | None:
    """Return the state with this name; None stays None.

    Raises:
        InvalidInput: No state has this name; the text lists the states.
    """
    try:
        return None if name is None else JobState(name)
    except ValueError:
        known = ", ".join(state.value for state in JobState)
        raise InvalidInput(f"status_filter is {name!r}; it must be one of {known}") from None


def cancellation(job: Job, *, ended_before: bool, of_graph: int = 0) -> dict[str, Any]:
    """Return `{"job_id", "status", "message"}` of a job after an attempt to cancel it; `of_graph` says how
    many jobs of a graph were cancelled.
    """
    if of_graph:
        jobs = "1 job" if of_graph == 1 else f"{of_graph} jobs"
        message = f"{jobs} of the graph {job.id} were cancelled; their last processes are gone"
        return {"job_id": job.id, "status": JobState.CANCELLED.value, "message": message}
    if ended_before:
        message = f"Job {job.id} had already ended as {job.status}; nothing was cancelled"
    elif job.status is JobState.CANCELLED:
        message = f"Job {job.id} was cancelled; its last process is gone"
    else:
        message = f"Job {job.id} ended as {job.status} before it could be cancelled"
    return {"job_id": job.id, "status": job.status.value, "message": message}
