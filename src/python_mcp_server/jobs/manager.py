"""Jobs from submission to their end, for any number of event loops in one process.

`run` is the main function of the product: it waits for the budget, then answers the value or hands over.
Async methods never block the loop. The modules for workers are loaded with the first engine: loky alone costs
a server 0.1 s.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import cached_property, partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar, TypeVarTuple, overload

from python_mcp_server.errors import InvalidInput, PoolClosed
from python_mcp_server.jobs.asked import checked_settings
from python_mcp_server.jobs.async_jobs import AsyncJobs
from python_mcp_server.jobs.reply import Adapter
from python_mcp_server.jobs.request import (
    CallResult,
    Listener,
    Request,
    deliver,
    handle_of,
    request_of,
    status_of,
)
from python_mcp_server.jobs.state import RunState
from python_mcp_server.model import Job
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store

if TYPE_CHECKING:
    from python_mcp_server.jobs.blocking import BlockingJobs
    from python_mcp_server.jobs.bodies import BodyRegistry
    from python_mcp_server.jobs.dead_letters import AsyncDeadLetters
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.graph import Graph, SubmittedGraph
    from python_mcp_server.jobs.hooks import Function, Hook, Hooks
    from python_mcp_server.jobs.questions import Ask
    from python_mcp_server.jobs.queues import AsyncQueues
    from python_mcp_server.jobs.quotas import AsyncQuotas
    from python_mcp_server.jobs.run import JobRun
    from python_mcp_server.jobs.sameness import ResultCache
    from python_mcp_server.jobs.schedules import Schedules
    from python_mcp_server.kinds import AsyncJob
    from python_mcp_server.limits import Limits
    from python_mcp_server.pool.pool import Pool
    from python_mcp_server.store.contract import JobStore
    from python_mcp_server.store.events import JobEvent

import_module("concurrent.futures.thread")  # its hooks fail where it is loaded while another thread forks

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
_WATCH_S: Final = 0.2
"""Between two looks of a watcher at a job, whose progress is not told."""

_CANCEL_WAIT_S: Final = 10.0
"""How long a cancelled caller waits for the end of the tree before it goes on without that."""


def _of_jobs(
    method: Callable[Concatenate[AsyncJobs, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[JobManager, P], Coroutine[Any, Any, T]]:
    """Return a method of the manager that does as this one of its `AsyncJobs`."""

    @wraps(method)
    async def call(manager: JobManager, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await method(manager._jobs, *args, **kwargs)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    return call


class JobManager:
    """Runs bodies in workers of their own and keeps their jobs.

    Attributes:
        store: Where the jobs lie.
        settings: The settings.
        blocking: `get`, `list`, `answer`, `cancel`, `prune`, `output`, `lines` and `items` for plain code.
        tools: The server's adapters of the tools of these jobs, by name; they are only kept here.
        declared: Make the schedules of the functions that `scheduled` decorates; each engine calls them.
    """

    def __init__(
        self,
        store: JobStore | None = None,
        settings: Settings | None = None,
        *,
        max_concurrent_jobs: int | None = None,
    ) -> None:
        """Make a manager; nothing is started before the first call.

        Args:
            store: Where jobs are stored; the store of the settings where None.
            settings: The settings; read from the environment where None.
            max_concurrent_jobs: How many background jobs of this home run at once; further ones wait. The
                setting `max_background_jobs` where None.

        Raises:
            InvalidInput: `max_concurrent_jobs` is no whole number of 1 or more, or the store is of another
                type.
        """
        settings = checked_settings(store, settings)
        if max_concurrent_jobs is not None:
            settings = replace(settings, max_background_jobs=_counted(max_concurrent_jobs))
        self.settings = settings
        self.store = store or open_store(settings)
        self.tools: dict[str, Adapter] = {}
        self.declared: list[Callable[[JobStore], None]] = []
        self._live: dict[str, JobRun] = {}
        self._engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Engine] = (
            weakref.WeakKeyDictionary()
        )
        self._preloaded: list[str] = []
        self._closed = False
        self._inherited: object = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_forget_in_child, weakref.ref(self)))

    @cached_property
    def blocking(self) -> BlockingJobs:
        """`get`, `list`, `answer`, `cancel`, `prune`, `output`, `lines` and `items` for plain code."""
        from python_mcp_server.jobs.blocking import BlockingJobs

        return BlockingJobs(self.store, self.settings, self._live, self._engines)

    @cached_property
    def _jobs(self) -> AsyncJobs:
        return AsyncJobs(self.store, self.blocking, self._engine)

    @cached_property
    def cache(self) -> ResultCache:
        """The results that equal submissions share: `drop` forgets them."""
        from python_mcp_server.jobs.sameness import ResultCache

        return ResultCache(self.store)

    @cached_property
    def schedules(self) -> Schedules:
        """The schedules of the home."""
        from python_mcp_server.jobs.schedules import Schedules

        return Schedules(self.store, self._engine, self.settings.max_disk_mb)

    @cached_property
    def queues(self) -> AsyncQueues:
        """The queues of the home: list, pause, resume, drain, limit, bound, resource."""
        from python_mcp_server.jobs.queues import AsyncQueues

        return AsyncQueues(self.blocking.queues, self._in_store)

    @cached_property
    def quotas(self) -> AsyncQuotas:
        """The quotas of the home's clients: set, remove, spent, list."""
        return import_module("python_mcp_server.jobs.quotas").AsyncQuotas(
            self.blocking.quotas, self._in_store
        )

    @cached_property
    def dead_letters(self) -> AsyncDeadLetters:
        """The jobs that failed for good and can be run again: list, get, retry, drop, retry_all, drop_all."""
        from python_mcp_server.jobs.dead_letters import AsyncDeadLetters

        return AsyncDeadLetters(self.blocking.dead_letters, self._engine)

    @cached_property
    def _bodies(self) -> BodyRegistry:
        from python_mcp_server.jobs.bodies import BodyRegistry

        return BodyRegistry(self._preloaded, partial(_pools, self._engines))

    @cached_property
    def hooks(self) -> Hooks:
        """The functions that are called for events; `on` and `events` are theirs."""
        from python_mcp_server.jobs.hooks import Hooks

        return Hooks(self.store)

    def on(self, event: str, function: Function, kind: str | None = None) -> Hook:
        """Call a function for each event of the home's jobs from now on; see `Hooks.on`."""
        return self.hooks.on(event, function, kind)

    def events(self, after: str | None = None) -> AsyncGenerator[JobEvent]:
        """Return the events of the home's jobs as they come; see `Hooks.events`."""
        return self.hooks.events(after)

    # ---- life

    async def start(self, *, again: bool = True) -> None:
        """Start the first worker ahead of the first call.

        Args:
            again: Whether a manager that was closed opens again.

        Raises:
            PoolClosed: It was closed, and is not to open again.
        """
        if again:
            self._closed = False
        (await self._engine()).pool.warm()

    async def close(self, *, at_most_s: float | None = None) -> None:
        """End the runs that callers wait for; handed-over jobs go on or end, by the setting `on_exit`.

        Args:
            at_most_s: The longest time of the close, where the process ends right after; None for no limit.

        Raises:
            TimeoutError: Not everything ended in this time; the rest ends when it notices that this process
                is gone.
        """
        self._closed = True
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.close(at_most_s)
        await self.hooks.close(drain=at_most_s is None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _engine(self) -> Engine:
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            if self._closed:
                raise PoolClosed("the manager is closed and takes no more calls")
            for job_id in list(self._live):
                self.blocking.run_of(job_id)  # those of a loop closed without its manager are abandoned
            from python_mcp_server.jobs.engine import Engine

            engine = Engine(self.store, self.settings, self._live, self._forget, self._bodies)
            self._engines[loop] = engine
            await engine.open(self.tools.get, self.declared)
            self.hooks.start()
        return engine

    def _forget(self, engine: Engine) -> None:
        """Remove an engine, because it refers to its loop and would keep it for ever."""
        if self._engines.get(engine.loop) is engine:  # not one that was opened meanwhile
            del self._engines[engine.loop]

    def abandon(self) -> None:
        """Treat the jobs that run here as jobs of another process; a forked child calls this.

        Their objects stay referenced: freeing these would act on the parent's event loop.
        """
        self._inherited = (dict(self._live), dict(self._engines), self._inherited)
        self._live.clear()
        self._engines.clear()
        if "hooks" in vars(self):  # it is not to be imported while the process forks
            self.hooks.abandon()

    async def _in_store(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await (await self._engine()).services.in_store(work, *args)

    def preload(self, body: Callable[..., Any] | str) -> None:
        """Let new workers load this body's module, or the module with this name, in their idle time."""
        if not isinstance(body, str):
            self._bodies.refer(body)
            return
        if body not in self._preloaded:
            self._preloaded.append(body)
        for pool in _pools(self._engines):
            pool.preload(body)

    # ---- run

    async def run(
        self,
        request: Request | AsyncJob,
        *,
        budget_s: float,
        listener: Listener | None = None,
        on_caller_left: Callable[[], str] | None = None,
        ask: Ask | None = None,
    ) -> CallResult:
        """Run a body and wait for it within the budget; past the budget, hand the job over.

        Args:
            request: What to run: a call, or a job, whose value is what its `execute` returned.
            budget_s: How long to wait, in seconds.
            listener: Gets progress while this call waits.
            on_caller_left: Called when the wait is cancelled: "cancel" (the default) ends the job, "detach"
                lets it go on in the background, "detach_recorded" does so only if others can read the job
                already.
            ask: Puts the body's questions to the caller; where None, a question hands the call over at once.

        Returns:
            The value, or a result with `handed_over` set.

        Raises:
            JobCancelled: Another caller cancelled the job.
            InvalidInput: The body or an argument cannot be sent to a worker.
            WorkerDied: Its process ended before the body returned.
            RemoteError: The body raised a type that cannot travel.
            BaseException: Any other exception that the body raised.
        """
        engine = self._engines.get(asyncio.get_running_loop()) or await self._engine()
        request = request if isinstance(request, Request) else request_of(request)
        run = engine.new_run(await engine.admit(request), listener)
        if ask is not None:
            run.questions.ask = ask
        run.start()
        run.budget.start(budget_s)
        try:
            await run.budget.expired
            if run.state is not RunState.DONE and await run.detach():
                return handle_of(run.snapshot(), budget_s)
        except asyncio.CancelledError:
            await self._caller_left(engine, run, on_caller_left)
            raise
        finally:
            run.budget.cancel()
            run.status.subscribe(None)
            if ask is not None:
                run.questions.ask = None  # from now on others answer its questions
        return deliver(run.call.job_id, run.outcome)

    async def rejoin(
        self,
        job_id: str,
        *,
        budget_s: float,
        listener: Listener | None = None,
        on_caller_left: Callable[[], str] | None = None,
    ) -> CallResult | Job:
        """Wait again for a job that was handed over because it asked a question: for its end, its next
        question, or the end of the budget.

        Returns:
            As `run`; the job as in its record where the job has ended and did not run in this process.

        Raises:
            JobNotFound: There is no such job.
            BaseException: As `run`.
        """
        deadline = time.monotonic() + budget_s
        run, engine = self.blocking.run_of(job_id), await self._engine()
        if run is None or run.loop is not engine.loop:
            job, _ = await self.wait(job_id, budget_s, or_question=True)
            return job if job.status.terminal else handle_of(job, budget_s)
        run.status.subscribe(listener)
        try:
            while run.outcome is None and (left_s := deadline - time.monotonic()) > 0:
                if run.status.questions:
                    break
                await run.questions.wait_for_question(left_s)
            if run.outcome is None:
                return handle_of(run.snapshot(), budget_s)
            await run.join()
        except asyncio.CancelledError:
            await self._caller_left(engine, run, on_caller_left)
            raise
        finally:
            run.status.subscribe(None)
        return deliver(job_id, run.outcome)

    @overload
    async def submit(
        self,
        job: AsyncJob,
        /,
        *,
        label: str | None = None,
        timeout_seconds: float | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> str: ...

    @overload
    async def submit(self, job: Graph, /) -> SubmittedGraph: ...

    @overload
    async def submit(self, job: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...

    async def submit(self, job: Any, /, *args: Any, **kwargs: Any) -> str | SubmittedGraph:
        """Start a job in the background and return its token; the job is durable when this returns. Where the
        submission repeats another one, by its options, the token is that of the other job.

        `submit(function, *args, **kwargs)` is short for `submit(FunctionJob(function, *args, **kwargs))`, and
        `submit(graph)` for `submit_graph(graph)`.

        Args:
            job: The job, or a function to call with the arguments that follow.
            args: The function's arguments; none beside a job.
            kwargs: The function's keyword arguments; beside a job its `label`, its `timeout_seconds` (0 for
                no limit), its `limits` and how it is queued (`queue`, `priority`, `run_at`, `after`, `retry`
                and the other fields of `JobOptions`), where they differ from those of its kind.

        Raises:
            InvalidInput: It is no job, it was submitted before, or it cannot be sent to a worker.
            StoreError: The job cannot be recorded; nothing was started.
        """
        from python_mcp_server.jobs.graph import is_whole_graph
        from python_mcp_server.kinds import bind, checked_job, claimed

        if is_whole_graph(job, args, kwargs):
            return await self.submit_graph(job)
        job, options = checked_job(job, args, kwargs)
        request = request_of(job, **options)
        with claimed(job):
            return (await self.submit_request(request, lambda token: bind(job, _Submission(self, token)))).id

    async def submit_request(self, request: Request, on_recorded: Callable[[str], object] = len) -> Job:
        """Start a call in the background; the job is durable when this returns.

        Args:
            request: The call.
            on_recorded: Called with the job's id when the job is durable, before it is started.

        Raises:
            InvalidInput: The body or an argument cannot be sent to a worker.
            StoreError: The job cannot be recorded; nothing was started.
        """
        return await (await self._engine()).submit(request, on_recorded)

    async def submit_graph(self, graph: Graph) -> SubmittedGraph:
        """Submit all jobs of a graph as one: if any is refused, or this process is killed before all are
        durable, none of them runs.

        Raises:
            InvalidInput, JobNotFound, StoreError: As `submit`, or the graph is not valid.
        """
        from python_mcp_server.jobs.graph import submit_graph

        return await submit_graph(await self._engine(), graph)

    async def _caller_left(self, engine: Engine, run: JobRun, ask: Callable[[], str] | None) -> None:
        if run.outcome is not None:
            return
        wish = ask() if ask is not None else "cancel"
        if wish == "detach" or (wish == "detach_recorded" and run.record.durable):
            engine.detach(run)
            return
        ending = engine.services.spawn(run.cancel(), f"cancel-{run.call.job_id}")
        await asyncio.wait({ending}, timeout=_CANCEL_WAIT_S)

    # ---- the jobs of the store

    get_status = _of_jobs(AsyncJobs.get_status)
    get_result = _of_jobs(AsyncJobs.get_result)
    cancel_job = _of_jobs(AsyncJobs.cancel_job)
    list_jobs = _of_jobs(AsyncJobs.list_jobs)

    async def watch(self, token: str) -> AsyncGenerator[dict[str, Any]]:
        """Yield the status of a job, as `get_status` does, now and after each change, until its end.

        Raises:
            JobNotFound: There is no such job.
        """
        last: dict[str, Any] | None = None
        while True:
            job, _ = await self.wait(token, 0 if last is None else _WATCH_S, whole=False)
            if (status := status_of(job)) != last:
                last = status
                yield status
            if job.status.terminal:
                return

    cancel = _of_jobs(AsyncJobs.cancel)
    get = _of_jobs(AsyncJobs.get)
    wait = _of_jobs(AsyncJobs.wait)
    list = _of_jobs(AsyncJobs.list)
    answer = _of_jobs(AsyncJobs.answer)
    prune = _of_jobs(AsyncJobs.prune)
    output = _of_jobs(AsyncJobs.output)
    lines = _of_jobs(AsyncJobs.lines)
    items = _of_jobs(AsyncJobs.items)
    stats = _of_jobs(AsyncJobs.stats)
    health = _of_jobs(AsyncJobs.health)
    aside = _of_jobs(AsyncJobs.aside)


class _Submission:
    """A submitted job, as its object in this program sees it."""

    def __init__(self, manager: JobManager, token: str) -> None:
        self.token = token
        self._manager = manager

    def look(self) -> Job:
        """Return the present state of the job."""
        jobs = self._manager.blocking
        return jobs.live_snapshot(self.token) or jobs.get(self.token, whole=False)

    async def cancel(self) -> Job:
        """Cancel the job, and return when its last process is gone."""
        return await self._manager.cancel(self.token)


def _counted(jobs: Any) -> int:
    if type(jobs) is not int or jobs < 1:
        raise InvalidInput(f"max_concurrent_jobs is {jobs!r}; it must be a whole number, 1 or more")
    return jobs


def _pools(engines: Mapping[asyncio.AbstractEventLoop, Engine]) -> list[Pool]:
    return [engine.pool for engine in list(engines.values())]


def _forget_in_child(reference: weakref.ref[JobManager]) -> None:
    """Abandon the manager in a forked child, because its jobs run in the parent."""
    if (manager := reference()) is not None:
        manager.abandon()
