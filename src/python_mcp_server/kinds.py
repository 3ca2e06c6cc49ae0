"""Kinds of jobs: classes that say what a job does. Authors derive from `AsyncJob`; `JobManager.submit` takes
an instance, and its `execute` runs in a worker process.

The instance is sent to the worker as its class's name and its attributes where both have a form that any
process can read, so that another server may start the job while it is queued; otherwise it is pickled. So
this module runs on both sides: a `Submission` is the job as its program sees it, a `JobContext` as its body
sees it.

The code of a body runs below functions of this module. It is no part of `jobs`, whose code a cancel never
interrupts.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from python_mcp_server.context import BODY_ATTRIBUTE, JobContext, current_job, in_worker
from python_mcp_server.errors import InvalidInput
from python_mcp_server.job_result import JobResult
from python_mcp_server.kind_checks import check_kind
from python_mcp_server.limits import Limits
from python_mcp_server.model import JobProgress, JobState, cut_label
from python_mcp_server.options import DEFAULT_QUEUE, OF_GRAPHS, Cancel, JobOptions, Retry, Snooze
from python_mcp_server.pool.references import importable_name
from python_mcp_server.progress_asker import ProgressAsker

if TYPE_CHECKING:
    from collections.abc import Generator

    from python_mcp_server.model import Job

_log: Final = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S: Final = 300.0
"""The time limit of a job whose kind and whose caller name none."""

COMMAND_GRACE_S: Final = 5.6
"""The tree of a program is killed after nine tenths of its grace, see `runner.child`: after 5 s."""

_BOOKS: Final = "_books"
"""The attribute of an instance that belongs to one process."""

_PICKLING: Final = ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__new__")
"""Methods that a class overrides where its attributes alone do not make an instance."""

_OF_KIND: Final = (
    "queue",
    "priority",
    "retry",
    "max_concurrency",
    "rate",
    "resources",
    "cache_seconds",
    "keep_seconds",
)
_HOOKS: Final = ("execute", "cancel", "get_progress")
_ATOMS: Final = (str, int, float, bool, NoneType)


class Submission(Protocol):
    """A submitted job, as the program that submitted it sees it."""

    token: str

    def look(self) -> Job:
        """Return the present state of the job. May read the store."""
        ...

    async def cancel(self) -> object:
        """Cancel the job, and return when its last process is gone."""
        ...


@dataclass(slots=True)
class _Books:
    """What one process knows of a job beside its attributes."""

    submission: Submission | None = None
    context: JobContext | None = None
    reported: JobProgress | None = None
    is_claimed: bool = False


def _books(job: AsyncJob) -> _Books:
    return vars(job).setdefault(_BOOKS, _Books())


class Work(NamedTuple):
    """The call that runs a job.

    Attributes:
        body: The function that a worker calls.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        limits: The limits that the manager keeps.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    limits: Limits | None = None


class AsyncJob(ABC):
    """A kind of job. A subclass has the data of one job as its attributes, and `execute` does the work.

    `execute` runs in a worker process, on a copy of the instance. It reports with `report_progress`, looks at
    `is_cancelled` where it never awaits, and gets `JobCancelled` where it does.

    Attributes:
        name: The name of the kind, which job tools show as `tool`.
        isolation: "process", or "inline" for an `execute` that only waits: it runs on the manager's loop.
        timeout_seconds: How long the job may run before it is ended; None or 0 for no limit.
        label: The caller's name for the job; None stands for the kind's name.
        limits: Limits of memory, CPU time, disk space, priority and cores.
        queue: The queue of the kind; this and the next seven are read from the class, and `submit` may name
            others for one job.
        priority: From -100 to 100, for the order within the queue.
        retry: Whether and when a failed job of the kind runs again.
        max_concurrency: How many jobs of the kind run at once; None for no bound.
        rate: How many jobs of the kind start in a time, such as "10/minute", or several of these.
        resources: How much a job of the kind takes of each named resource.
        cache_seconds: How long equal jobs of the kind share a result; None for not at all.
        keep_seconds: How long the record of a job is kept after its end; None for ever, as dead letters.
        grace_s: How long the job may clean up after a cancel; None for the setting.
    """

    name: str = ""
    isolation: str = "process"
    timeout_seconds: float | None = DEFAULT_TIMEOUT_S
    label: str | None = None
    limits: Limits | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    retry: Retry | None = None
    max_concurrency: int | None = None
    rate: str | Sequence[str] = ()
    resources: Mapping[str, int] = {}
    cache_seconds: float | None = None
    keep_seconds: float | None = None
    grace_s: float | None = None

    def __init__(self, name: str) -> None:
        """Make a job; nothing is started.

        Args:
            name: The name of the kind, such as "resize".

        Raises:
            InvalidInput: The name is no text, or empty.
        """
        given: Any = name  # an author may give anything
        if not isinstance(given, str) or not given.strip():
            raise InvalidInput(f"the name of a kind of job is {given!r}; it must be a text")
        self.name = cut_label(name)

    def __getstate__(self) -> Any:
        """Return the attributes that are sent to a worker."""
        state: Any = super().__getstate__()
        parts = cast("tuple[Any, Any]", state if isinstance(state, tuple) else (state, None))
        given, slots = cast("dict[str, Any] | None", parts[0]), parts[1]
        kept = {name: value for name, value in (given or {}).items() if name != _BOOKS}
        return (kept, slots) if slots else kept

    # ---- of an author

    @abstractmethod
    async def execute(self) -> Any:
        """Do the work, and return a `JobResult`. Any other value counts as the data of a success, and an
        exception fails the job.
        """

    async def cancel(self) -> None:
        """Cancel the submitted job, and return when its last process is gone.

        A subclass may override this to clean up: in the worker it is awaited after `execute` was interrupted.
        There `super().cancel()` does nothing.
        """
        books = _books(self)
        inside = books.context is not None and current_job() is books.context
        if books.submission is not None and not inside:
            await books.submission.cancel()

    def get_progress(self) -> JobProgress | None:
        """Return how far the job is; None where it has not said so.

        A subclass may override this instead of calling `report_progress`: the worker asks in a thread of its
        own, at the sampling interval.
        """
        books = _books(self)
        if books.context is None and books.submission is not None:
            return books.submission.look().progress
        return books.reported

    # ---- what a job knows of itself

    @property
    def id(self) -> str | None:
        """The token; None before the job is submitted."""
        books = _books(self)
        if books.context is not None:
            return books.context.id
        return None if books.submission is None else books.submission.token

    @property
    def state(self) -> str | None:
        """The state: queued, running, completed, failed or cancelled; None before the job is submitted.

        In the program that submitted the job this may read the store.
        """
        books = _books(self)
        if books.context is not None:
            return JobState.RUNNING.word
        return None if books.submission is None else books.submission.look().status.word

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was told to end."""
        books = _books(self)
        if books.context is not None:
            return books.context.cancelled
        if books.submission is None:
            return False
        job = books.submission.look()
        return JobState.CANCELLED.value in (job.status.value, job.ending)

    def report_progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is, from any thread; cheap enough for an inner loop.

        Args:
            current: How much is done.
            total: How much there is; None where that is not known.
            message: A few words on the present work.
        """
        books = _books(self)
        books.reported = JobProgress(current, total, message)
        if books.context is not None:
            books.context.report(current, total, message)


class FunctionJob(AsyncJob):
    """A function to be run as a job: `FunctionJob(function, *args, **kwargs)`. It may be sync or async."""

    def __init__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Make a job of a call; nothing is called yet.

        Raises:
            InvalidInput: The first argument is no function.
        """
        if not callable(function):
            close = getattr(function, "close", None)
            if inspect.iscoroutine(function) and close is not None:
                close()  # else Python complains that it was never awaited
            raise InvalidInput(f"{function!r} is no function; give the function, and its arguments after it")
        self.function = getattr(function, BODY_ATTRIBUTE, function)
        self.args = args
        self.kwargs = kwargs
        inner = getattr(self.function, "func", self.function)  # of a partial function
        super().__init__(getattr(inner, "__name__", None) or type(inner).__name__)

    async def execute(self) -> Any:
        """Call the function, and await what it returns where that can be awaited. A `Snooze` or a `Cancel` is
        returned as it is, and anything else as a `JobResult`.
        """
        value = self.function(*self.args, **self.kwargs)
        if inspect.isawaitable(value):
            value = await value
        return value if isinstance(value, (JobResult, Snooze, Cancel)) else JobResult(True, value)


class CommandJob(AsyncJob):
    """A program to be run as a job: `CommandJob("make all")`, or `CommandJob(["make", "all"])`.

    Its data is `{"stdout", "stderr", "exit_code", "elapsed_seconds", ...}`; it is a success where the exit
    code is 0. A cancel sends SIGTERM to the program and its group, and kills its whole tree 5 s later.
    """

    grace_s = COMMAND_GRACE_S

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | os.PathLike[str] = ".",
        env: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        label: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Make a job of a program; nothing is started.

        Args:
            command: A text for the shell, or the program and its arguments, without a shell.
            cwd: The working directory.
            env: Environment variables on top of the present ones; they are never stored.
            timeout_seconds: The time after which its tree is ended; 0 for no limit, None for 300 s.
            label: The caller's name for the job; the program where None.
            limits: Further limits of the program and all that it starts.

        Raises:
            InvalidInput: The command is empty, or a value is no such thing; the text names it.
        """
        from python_mcp_server.tools.commands import checked_command

        super().__init__("command")
        self.command, self.cwd, self.env_vars = checked_command(command, cwd, env)
        given = {"timeout_seconds": timeout_seconds, "label": label, "limits": limits}
        vars(self).update({name: value for name, value in given.items() if value is not None})

    async def execute(self) -> JobResult:
        """Run the program to its end."""
        work = _command(self, self.timeout_seconds, self.limits)
        return work.body(*work.args, **work.kwargs)


def work_of(job: AsyncJob, timeout_s: float | None, limits: Limits | None) -> Work:
    """Return the call that runs a job.

    Raises:
        InvalidInput: A limit has no meaning.
    """
    check_kind(job.isolation, grace_s=job.grace_s, timeout_seconds=timeout_s)
    if limits is not None and not isinstance(cast("object", limits), Limits):
        raise InvalidInput(f"limits is {limits!r:.160}; it must be Limits")
    if isinstance(job, CommandJob) and _has_hooks_of(job, CommandJob):
        return _command(job, timeout_s, limits)
    limits = _timed(limits, timeout_s)
    if isinstance(job, FunctionJob) and _has_hooks_of(job, FunctionJob):
        return Work(job.function, job.args, job.kwargs, limits)
    if (named := _named(job)) is not None:
        return Work(execute_named, named, {}, limits)
    return Work(execute, (job,), {}, limits)


def options_of(job: AsyncJob, given: Mapping[str, Any]) -> JobOptions | None:
    """Return how a job is queued: as `submit` was told, or else as its kind says. None where it waits for a
    slot only.

    Raises:
        InvalidInput: There is no such option, or it has no such value.
    """
    known = [field.name for field in fields(JobOptions) if field.name not in OF_GRAPHS]
    if unknown := given.keys() - set(known):
        also = ", ".join(["label", "timeout_seconds", "limits", *known])
        raise InvalidInput(f"submit has no option {min(unknown)!r}; it has {also}")
    asked: dict[str, Any] = {name: getattr(type(job), name) for name in _OF_KIND} | dict(given)
    options = JobOptions(**asked)
    return None if options == JobOptions() else options


def _command(job: CommandJob, timeout_s: float | None, limits: Limits | None) -> Work:
    from python_mcp_server.tools.commands import run_command_job

    given = {} if limits is None else {"limits": limits.to_json()}
    if limits is not None and limits.timeout_seconds is not None:
        timeout_s = limits.timeout_seconds
    return Work(run_command_job, (job.command, job.cwd, timeout_s or 0, job.env_vars), given)


def _has_hooks_of(job: AsyncJob, base: type[AsyncJob], names: Sequence[str] = _HOOKS) -> bool:
    """Whether a job has these methods as this class has them."""
    return all(getattr(type(job), name, None) is getattr(base, name, None) for name in names)


def _named(job: AsyncJob) -> tuple[str, dict[str, Any]] | None:
    """Return the name of the job's class and its attributes, where every process can make the job of them."""
    if job.isolation == "inline" or not _has_hooks_of(job, AsyncJob, _PICKLING):
        return None
    state, name = job.__getstate__(), importable_name(type(job))
    return (name, state) if name is not None and is_plain(state) else None


def checked_job(job: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[AsyncJob, dict[str, Any]]:
    """Return the job of a `submit` and its options. A function becomes a job, with the arguments.

    Raises:
        InvalidInput: It is no job and no function, or was submitted before.
    """
    kind: Any = job
    if isinstance(kind, type) and issubclass(kind, AsyncJob):
        raise InvalidInput(f"{kind.__name__} is a kind of job; give a job of it, as {kind.__name__}(...)")
    if not isinstance(job, AsyncJob):
        return FunctionJob(job, *args, **kwargs), {}
    if args:
        raise InvalidInput(f"a job takes no arguments, and {len(args)} were given; they belong to its class")
    if job.id is not None:
        raise InvalidInput(f"this job was submitted before, as {job.id}; make another one of its kind")
    if isinstance(job, CommandJob) and kwargs.keys().isdisjoint(("after", "run_at")):
        from python_mcp_server.tools.scripts import existing_directory

        existing_directory(job.cwd)  # that of a job which waits may be made meanwhile
    return job, kwargs


@contextmanager
def claimed(job: AsyncJob) -> Generator[None]:
    """Let no one else submit the job over the block.

    Raises:
        InvalidInput: It is being submitted.
    """
    books = _books(job)
    if books.is_claimed:
        raise InvalidInput("this job is being submitted; make another one of its kind")
    books.is_claimed = True
    try:
        yield
    finally:
        books.is_claimed = False


def bind(job: AsyncJob, submission: Submission) -> None:
    """Let a job that was submitted know its token and its state."""
    _books(job).submission = submission


def _timed(limits: Limits | None, timeout_s: float | None) -> Limits | None:
    """Return the limits with this time limit, unless they have one of their own."""
    if not timeout_s or (limits is not None and limits.timeout_seconds is not None):
        return limits
    return replace(limits or Limits(), timeout_seconds=timeout_s)


def is_plain(value: Any) -> bool:
    """Whether a value has JSON's own types, so that every process reads it as it is."""
    kind = cast("type[object]", type(value))
    try:
        if kind is dict:
            return all(type(name) is str and is_plain(each) for name, each in value.items())
        return all(map(is_plain, value)) if kind is list else kind in _ATOMS
    except RecursionError:
        return False


# ---- in the worker


async def execute_named(name: str, state: dict[str, Any]) -> Any:
    """Execute the job of the class with this name, `"module:qualname"`, that has these attributes."""
    kind: type[AsyncJob] = pkgutil.resolve_name(name)
    job = kind.__new__(kind)
    vars(job).update(state)
    return await execute(job)


async def execute(job: AsyncJob) -> Any:
    """Execute a job in the process that runs its body, and return the value of its `execute`."""
    books = _books(job)
    books.context = current_job()
    try:
        with _asked_for_progress(job):
            value: Any = job.execute()  # an author may write `def`
            return await value if inspect.isawaitable(value) else value
    except asyncio.CancelledError:
        if type(job).cancel is not AsyncJob.cancel:
            try:
                await job.cancel()
            except Exception:  # noqa: BLE001  an author's code, whose fault must not pass for the cancel's
                _log.warning("cancel of job %s failed", job.name, exc_info=True)
        raise
    finally:
        books.context = None


@contextmanager
def _asked_for_progress(job: AsyncJob) -> Generator[None]:
    """Ask a job that overrides `get_progress` for its progress, while the block runs and at its end."""
    context = _books(job).context
    if context is None or type(job).get_progress is AsyncJob.get_progress:
        yield
        return
    report = context.report
    if not in_worker():
        report = partial(asyncio.get_running_loop().call_soon_threadsafe, context.report)
    asker = ProgressAsker(job.name, job.get_progress, report)
    asker.start()
    try:
        yield
    finally:
        asker.stop(context.report)
