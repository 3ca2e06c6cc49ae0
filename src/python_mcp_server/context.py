"""The functions that a running body may call: for its job, its progress and its items. `asking` has those for
its questions. Each ends with `raise_pending`, because a cancel that comes meanwhile interrupts none of them.

Bodies import this module, and so workers do: it must stay light. A body is found through a context variable
(several async bodies may share a loop) and, from threads that a body starts and that inherit no
context, through the one body this process runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from python_mcp_server.atomic import make_directory, translate_os_errors
from python_mcp_server.errors import NotInJob
from python_mcp_server.items import ItemLog
from python_mcp_server.model import JobProgress
from python_mcp_server.regular import IN_HOME, refuse_links
from python_mcp_server.settings import DEFAULT_GRACE_S

if TYPE_CHECKING:
    from python_mcp_server.questions.open import OpenQuestions

BODY_ATTRIBUTE: Final = "__python_mcp_body__"
"""Where a decorated function keeps the function it decorates."""

LOADED_AT: Final = time.time()
"""When the program that uses this package had read its main file already."""

_BIG: Final = 1 << 1000
"""Every integer below it is a float as well."""

ProgressSink = Callable[[JobProgress], None]


class ProgressCallback(Protocol):
    """The callback from `create_progress_callback`; its parameters are those of `report_progress`."""

    def __call__(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the body is."""
        ...


def _nothing_pending() -> None:
    """Do nothing, because no cancel can be pending outside a worker process."""


class JobContext:
    """The job whose body is running here.

    Attributes:
        id: The job's id.
        label: Its label.
        grace_s: How long its body may clean up after a cancel, in seconds.
        raise_pending: Raises `JobCancelled` where a cancel has come while code of this package ran.
    """

    __slots__ = (
        "_cancelled",
        "_folder",
        "_items",
        "_open",
        "_progress",
        "grace_s",
        "id",
        "label",
        "raise_pending",
        "touched",
        "wants_record",
    )

    def __init__(
        self,
        job_id: str,
        label: str,
        folder: str,
        progress: ProgressSink,
        open_inquiries: Callable[[], OpenQuestions] | None = None,
        *,
        grace_s: float = DEFAULT_GRACE_S,
        raise_pending: Callable[[], None] = _nothing_pending,
        is_cancelled: Callable[[], bool] = bool,
    ) -> None:
        self.id = job_id
        self.label = label
        self.grace_s = grace_s
        self.touched = False
        self.wants_record = False
        self._folder = folder
        self._items = ItemLog(folder)
        self._progress = progress
        self._open = open_inquiries
        self._cancelled = is_cancelled
        self.raise_pending = raise_pending

    @property
    def cancelled(self) -> bool:
        """Whether the body is told to end. Reading this raises nothing, so a body may end in its own way."""
        return self._cancelled()

    @property
    def inquiries(self) -> OpenQuestions:
        """Return the body's questions.

        Raises:
            NotInJob: The body's questions reach no user, or the body has ended.
        """
        if self._open is None:
            raise NotInJob("the questions of this job reach no user")
        inquiries = self._open()
        self.raise_pending()
        return inquiries

    @property
    def folder(self) -> Path:
        """The job's own directory, made on first use, mode 0700. It is removed with the job, and at the end
        of a call that needs no record.
        """
        path = Path(self._folder)
        if not self.touched:
            refuse_links(self._folder, IN_HOME)
            make_directory(self._folder)
            self.touched = True
        self.raise_pending()
        return path

    def keep_record(self) -> None:
        """Keep the job readable even if it ends within its budget, because its files matter."""
        self.wants_record = True
        self.raise_pending()

    def report(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Pass progress on, in the way of the process that runs the body."""
        try:
            progress = JobProgress(_number(current), None if total is None else _number(total), message)
        except OverflowError:
            return  # more than any reader could show; the body must not fail for it
        self._progress(progress)
        self.raise_pending()

    def emit(self, item: object) -> None:
        """Append an item to those of the job, and keep its record. The function `emit` lists the errors."""
        with translate_os_errors(self._folder, "write an item"):
            if not self.touched:
                _ = self.folder
            self._items.add(item)
        self.wants_record = True
        self.raise_pending()

    def close(self) -> None:
        """Take no more items, because the body has ended."""
        self._items.close()


class _Process:
    """The jobs that this process runs: at most one in a worker, none in a server."""

    job: JobContext | None = None
    is_worker: bool = False


_here: Final = _Process()
_job: Final[ContextVar[JobContext | None]] = ContextVar("python_mcp_job", default=None)


def current_job() -> JobContext | None:
    """Return the job whose body calls this, or None outside of one."""
    job = _job.get() or _here.job
    if job is not None:
        job.raise_pending()
    return job


def report_progress(current: float, total: float | None = None, message: str | None = None) -> None:
    """Report how far the body is. Outside a job this does nothing, so a tool's code runs anywhere.

    The call is cheap enough for an inner loop: at most 20 reports a second are sent, the latest wins, and the
    last one always arrives before the result.

    Args:
        current: How much is done; it should not fall.
        total: How much there is; None where that is not known.
        message: A few words on the present work.
    """
    job = _job.get() or _here.job
    if job is not None:
        job.report(current, total, message)


def emit(item: object) -> None:
    """Append an item to the job's items, for readers who need not wait for the result: a row that was read,
    a file that failed, a best solution so far.

    Readers get the items by number, while the job runs and afterwards: `JobManager.items`, or `py_job_output`
    with `stream="items"`. They stay on disk, so a job may emit millions. A call that emits keeps its record,
    also where it ends within its budget. Threads of the body may emit, but no child processes.

    Args:
        item: Any value. It becomes JSON as a result does, up to 10,000,000 bytes.

    Raises:
        NotInJob: No job runs here, its body has ended, or this is a child process of the body.
        InvalidInput: The item is too large.
        StoreError: The item cannot be written, because the disk is full for example.
        JobCancelled: The job was cancelled.
    """
    job = _job.get() or _here.job
    if job is None:
        raise NotInJob(
            "emit adds to the items of a job, and no job runs in this process; call the decorated function, "
            "not its body, and let child processes return their items to the body"
        )
    job.emit(item)


def create_progress_callback() -> ProgressCallback:
    """Return a function `(current, total=None, message=None)` that reports for the present job.

    For libraries that take a callback. It stays bound to this job, whatever thread calls it.
    """
    job = current_job()

    def callback(current: float, total: float | None = None, message: str | None = None) -> None:
        if job is not None:
            job.report(current, total, message)

    return callback


def _number(value: float) -> float:
    """Return a plain number, because reading NumPy's and others' own types would need their library.

    Raises:
        OverflowError: The number is too big for a plain one.
    """
    kind = type(value)
    return value if kind is float or (kind is int and abs(value) < _BIG) else float(value)


def in_worker() -> bool:
    """Whether this process is a worker, where a decorated function runs its body directly."""
    return _here.is_worker


def mark_worker() -> None:
    """Note that this process is a worker. The worker itself calls this once."""
    _here.is_worker = True


def enter_job(job: JobContext, *, whole_process: bool) -> Token[JobContext | None]:
    """Make `job` the present one; `whole_process` also for threads that inherit no context."""
    if whole_process:
        _here.job = job
    return _job.set(job)


def leave_job(token: Token[JobContext | None]) -> None:
    """Undo `enter_job`, after which the job takes no more items."""
    if (job := _job.get()) is not None:
        job.close()
    _here.job = None
    _job.reset(token)
