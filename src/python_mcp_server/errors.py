"""Every error this package raises, in one tree, so that a caller can catch as widely as it likes.

    PythonMcpError
    ├── InvalidInput (ValueError)      an argument or a setting is wrong; nothing was done
    │   └── QuotaExceeded              the client has spent its quota
    ├── JobNotFound (LookupError, ValueError)  no job has this id
    │   └── JobExpired                 the job was removed a short time ago
    ├── ResultNotReady (ValueError)    the job has not ended yet
    ├── QuestionNotOpen (LookupError)  the job does not ask this, or no longer does
    ├── NotInJob (RuntimeError)        an in-job function was called outside a running job
    ├── AnswerTimeout (TimeoutError)   the body's question got no answer in time
    ├── RemoteError                    a body raised a type that cannot travel to this process
    ├── JobFailed                      the work ended without a result, by no fault of the body
    │   ├── WorkerDied                 the process of the body went away
    │   ├── WorkerUnavailable (RuntimeError)  no worker process could be started
    │   └── LimitExceeded              it was ended at one of its limits
    ├── StoreError                     the state cannot be read or written
    │   └── StoreLocked (TimeoutError) another process holds the lock for too long
    ├── ToolchainError                 an interpreter or uv is missing or cannot serve
    │   └── UvRefused                  uv ended with an error of its own
    └── PoolClosed (RuntimeError)      no more work is taken

`JobCancelled` stands apart in `cancelled.py`: it derives from `asyncio.CancelledError`, so that no
`except Exception` in a body swallows it.

Kinds of failed jobs, `Job.error_kind`:

    exception     the body raised; `error` has the type, the text and the traceback
    worker_died   the worker process ended; `error` has the exit code or the signal, where known
    memory_limit  the job exceeded the memory limit of the call
    cpu_limit     the job exceeded the CPU time limit of the call
    disk_limit    the output and the files of the job exceeded the disk limit of the call
    time_limit    the job exceeded the time limit of the call
    no_worker     the machine gave no worker process
    server_died   the server ended before a worker that outlives it had the job
    moved         the job goes on in another store, where `jobs move` has put it
    unsuccessful  the job's own `JobResult` says that it failed
    skipped       a job that it waits for did not complete
    lost          how the job ended is not known, as with a job of an older version

Any module may import this one; it imports no other of this package.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from datetime import datetime

MOST_CHARS: Final = 500
"""Of the text of an error that repeats a caller's value, which may have any length."""


_LONG_WORD: Final = re.compile(r"(\S{80})\S{40,}(\S{20})")
_QUOTED_CHARS: Final = 160
"""Of a text within an error, so that two of them leave room for what would be right."""


def bounded_sentence(text: str) -> str:
    """Return a sentence of bounded length: `…` stands in the middle of its long values, and then in its own
    middle, because its end says what would be right.
    """
    if len(text) > MOST_CHARS:
        text = _LONG_WORD.sub(r"\1…\2", text)
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS // 2]}…{text[1 - MOST_CHARS // 2 :]}"


def quoted(text: str) -> str:
    """Return a caller's text in quotes, with `…` in the middle of a long one."""
    half = _QUOTED_CHARS // 2
    return repr(text if len(text) <= _QUOTED_CHARS else f"{text[:half]}…{text[-half:]}")


class PythonMcpError(Exception):
    """Base of all errors of this package. Its text is one sentence that says what would be right."""

    _bounded: ClassVar[bool] = False

    def __str__(self) -> str:
        return bounded_sentence(super().__str__()) if self._bounded else super().__str__()

    def __reduce__(self) -> tuple[object, ...]:
        # an exception pickles as a call of its class with its text, which is not what `__init__` takes
        made_of = super().__reduce__()[1]  # errors of the system have more than `args`
        return _without_init, (type(self), *made_of), {"args": self.args, **self.__dict__}


class InvalidInput(PythonMcpError, ValueError):
    """An argument, a setting or a file given by the caller is wrong; nothing was started.

    Its text has at most 500 characters, as that of the next two errors.
    """

    _bounded = True


class QuotaExceeded(InvalidInput):
    """A client has spent its quota; nothing was started.

    Attributes:
        client: The client.
        fits_at: From when on its next job fits, where nothing else is spent; None for never.
    """

    def __init__(self, message: str, client: str, fits_at: datetime | None = None) -> None:
        super().__init__(message)
        self.client = client
        self.fits_at = fits_at


class JobNotFound(PythonMcpError, LookupError, ValueError):
    """No job has this id.

    Attributes:
        job_id: The id that was asked for.
    """

    _bounded = True

    def __init__(self, job_id: str) -> None:
        told = job_id if job_id and job_id.isprintable() else repr(job_id)
        super().__init__(f"Job {told} not found")
        self.job_id = job_id


class JobExpired(JobNotFound):
    """The job with this id was removed, by its time to be kept or by a prune, within the last day or two.

    Attributes:
        ended_at: When the job ended.
        removed_at: When it was removed.
        principal: The principal of the job; None for the account's owner.
        again: The id of the job that a retry of the dead letter made; None where it was not run again.
    """

    def __init__(
        self,
        job_id: str,
        ended_at: datetime,
        removed_at: datetime,
        principal: str | None = None,
        again: str | None = None,
    ) -> None:
        super().__init__(job_id)
        kept = f"was kept for {_span((removed_at - ended_at).total_seconds())}"
        told = kept if again is None else f"was run again as {again}"
        self.args = (f"Job {job_id} has expired (it ended {ended_at:%Y-%m-%d %H:%M} UTC; it {told})",)
        self.again = again
        self.ended_at = ended_at
        self.removed_at = removed_at
        self.principal = principal


def _span(seconds: float) -> str:
    """Return a length of time in its largest unit that makes one or more, rounded down."""
    units = (("day", 86_400), ("hour", 3_600), ("minute", 60))
    unit, length_s = next((each for each in units if seconds >= each[1]), ("second", 1))
    count = max(0, int(seconds // length_s))
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


class ResultNotReady(PythonMcpError, ValueError):
    """A job has no result yet, because it has not ended.

    Attributes:
        job_id: The id of the job.
        state: Its state: "queued" or "running".
    """

    _bounded = True

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"Job {job_id} has no result yet, because it is {state}; wait for its end")
        self.job_id = job_id
        self.state = state


class QuestionNotOpen(PythonMcpError, LookupError):
    """A job has no open question with this key: the question was answered, withdrawn or never asked."""

    _bounded = True


class NotInJob(PythonMcpError, RuntimeError):
    """Raised when an in-job function is called outside a running job."""


class AnswerTimeout(PythonMcpError, TimeoutError):
    """A question of the body got no answer within its `timeout_seconds`.

    Attributes:
        key: The question.
        timeout_seconds: How long the body waited.
    """

    def __init__(self, key: str, timeout_seconds: float | None = None) -> None:
        within = "" if timeout_seconds is None else f" within {timeout_seconds:g} s"
        super().__init__(f"nobody answered the question {key!r}{within}")
        self.key = key
        self.timeout_seconds = timeout_seconds


class RemoteError(PythonMcpError):
    """A body raised an exception whose type cannot be rebuilt in this process.

    Attributes:
        type_name: Qualified name of the exception's class in the worker; the text has its last part.
        message: Its text.
        traceback_text: The worker's traceback, as text.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        name = bare_name(type_name)
        super().__init__(f"{name}: {message}" if message else name)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text


class JobFailed(PythonMcpError):
    """The work ended without a result, for a reason other than an exception of the body.

    Attributes:
        kind: The job's `error_kind`: "worker_died", "time_limit", "memory_limit", ...
    """

    def __init__(self, message: str, kind: str = "lost") -> None:
        super().__init__(message)
        self.kind = kind


class WorkerDied(JobFailed):
    """The worker process went away before the body returned.

    Attributes:
        exit_code: Its exit code; negative for the number of the signal; None where unknown.
    """

    def __init__(self, message: str, kind: str = "worker_died", exit_code: int | None = None) -> None:
        super().__init__(message, kind)
        self.exit_code = exit_code


class WorkerUnavailable(JobFailed, RuntimeError):
    """No worker process could be started, and no other worker process exists that the call could wait for."""

    def __init__(self, message: str, kind: str = "no_worker") -> None:
        super().__init__(message, kind)


class LimitExceeded(JobFailed):
    """The job was ended because it exceeded one of its limits."""


class StoreError(PythonMcpError):
    """The state directory, or the server that keeps the state, cannot be read or written.

    Attributes:
        in_doubt: Whether what was asked for may have been done: the answer of a server was lost.
    """

    in_doubt: bool = False


class StoreLocked(StoreError, TimeoutError):
    """A lock of the store stayed taken for longer than the wait allows; the text names the holder.

    Attributes:
        holder_pid: The process that took the lock last, by the lock's note; None where that is not known.
    """

    def __init__(self, message: str, holder_pid: int | None = None) -> None:
        super().__init__(message)
        self.holder_pid = holder_pid


class ToolchainError(PythonMcpError):
    """An interpreter or uv is missing or cannot meet the request; the text says what to do."""


class UvRefused(ToolchainError):
    """uv ended with an error; the text is uv's own sentence.

    Attributes:
        by_request: Whether the request cannot be met on any machine; False where this machine is at fault.
    """

    def __init__(self, sentence: str, by_request: bool = False) -> None:
        super().__init__(sentence)
        self.by_request = by_request


class PoolClosed(PythonMcpError, RuntimeError):
    """The pool or the manager was closed and takes no more work."""


def bare_name(type_name: str) -> str:
    """Return the name of a class without what a qualified name has in front of it."""
    return type_name.rpartition(".")[2]


def _without_init(kind: type[PythonMcpError], *args: object) -> PythonMcpError:
    return kind.__new__(kind, *args)
