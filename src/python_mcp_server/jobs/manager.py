"""Jobs from submission to their end, for any number of event loops in one process.

`run` is the main job of the product: wait for the budget, answer the value, or hand over. All public
methods are async and never block the loop; `cancel_blocking` and the store serve plain code.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from python_mcp_server import model
from python_mcp_server.errors import PoolClosed
from python_mcp_server.jobs.cancel import cancel_record
from python_mcp_server.jobs.desk import JobQueries
from python_mcp_server.jobs.engine import Engine
from python_mcp_server.jobs.limits import check_limits
from python_mcp_server.jobs.reply import Adapter, replies_of
from python_mcp_server.jobs.request import CommandJob, JobResult, Listener, Request
from python_mcp_server.jobs.run import JobRun, deliver, handle_of
from python_mcp_server.model import Call, Job, JobState
from python_mcp_server.pool.main_module import MainFile, MainModule
from python_mcp_server.pool.pickling import forget_modules
from python_mcp_server.pool.references import BodyReference, refer
from python_mcp_server.pool.server_state import ServerState, present_state
from python_mcp_server.pool.steady import to_thread
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore

if TYPE_CHECKING:
    from python_mcp_server.jobs.answering import Ask
    from python_mcp_server.store.contract import JobStore

T = TypeVar("T")
_LOOP_POLL_S: Final = 0.2
"""Between two looks whether a loop still runs on which a cancel is under way."""

_HERE: Final = BodyReference("inline")
"""How an inline body travels: it does not."""

_CANCEL_WAIT_S: Final = 10.0
"""How long a cancelled caller waits for the tree's end before it goes on without knowing."""


class JobManager(JobQueries):
    """Runs bodies in workers of their own and keeps their jobs.

    Attributes:
        settings: The settings.
        tools: What a server knows of the tools whose jobs these are, by name; only kept here.
    """

    def __init__(self, store: JobStore | None = None, settings: Settings | None = None) -> None:
        """Make a manager; nothing is started before the first call.

        Args:
            store: Where jobs lie; the file store at the settings' home where None.
            settings: Read from the environment where None.
        """
        self.settings = settings or Settings.from_environ()
        super().__init__(
            store
            or FileJobStore(self.settings.home, lock_s=self.settings.lock_seconds, fsync=self.settings.fsync)
        )
        self.tools: dict[str, Adapter] = {}
        self._fronts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Engine] = (
            weakref.WeakKeyDictionary()
        )
        self._references: weakref.WeakKeyDictionary[Callable[..., Any], BodyReference] = (
            weakref.WeakKeyDictionary()
        )
        self._modules: list[str] = []
        self._state = present_state()
        self._main = MainModule()
        self._main_file: MainFile | None = None
        self._closed = False
        self._inherited: object = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_forget_in_child, weakref.ref(self)))

    # ---- life

    async def start(self) -> None:
        """Start the first lane ahead of the first call; a closed manager opens again."""
        self._closed = False
        (await self._front()).pool.warm()

    async def close(self, *, at_most_s: float | None = None) -> None:
        """End what callers wait for; handed-over jobs go on, or end, as `on_exit` says.

        Args:
            at_most_s: How long to take where the process ends right after; None for as long as it takes.

        Raises:
            TimeoutError: Not everything ended in this time; the rest leaves once it sees us gone.
        """
        self._closed = True
        front = self._fronts.pop(asyncio.get_running_loop(), None)
        if front is None:
            return
        try:
            async with asyncio.timeout(at_most_s):
                await front.close()
        except TimeoutError:
            front.give_up()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _front(self) -> Engine:
        loop = asyncio.get_running_loop()
        front = self._fronts.get(loop)
        if front is None:
            if self._closed:
                raise PoolClosed("the manager is closed and takes no more calls")
            for job_id in list(self._live):
                self._attempt_of(job_id)  # those of a loop that was closed without us are let go
            front = self._fronts[loop] = Engine(
                self.store, self.settings, self._live, self._forget, self._main
            )
            if self._main_file is not None:
                front.pool.preload_main(self._main_file)
            for module in self._modules:
                front.pool.preload(module)
            await front.open()
            front.take_over(partial(self._adopt, front))
        return front

    def _forget(self, front: Engine) -> None:
        """A front refers to its loop, and so would keep it for ever."""
        if self._fronts.get(front.loop) is front:  # not one that was opened while this one was closed
            del self._fronts[front.loop]

    def _owes(self, job_id: str) -> bool:
        return any(front.owes(job_id) for front in list(self._fronts.values()))

    def disown(self) -> None:
        """Take the jobs that run here for those of another process; for a forked child.

        What they are made of stays referred to: its end would reach into the parent's event loop.
        """
        self._inherited = (dict(self._live), dict(self._fronts), self._inherited)
        self._live.clear()
        self._fronts.clear()

    async def _in_store(self, work: Callable[[], T]) -> T:
        return await (await self._front()).in_store(work)

    async def _in_search(self, work: Callable[[], T]) -> T:
        return await (await self._front()).in_search(work)

    def preload(self, body: Callable[..., Any]) -> None:
        """Let new lanes load this body's module in their idle time; its first call does so too."""
        self._refer(body)

    def _preload(self, reference: BodyReference) -> None:
        if isinstance(reference.main, MainFile) and self._main_file is None:
            self._main_file = reference.main
            for front in self._fronts.values():
                front.pool.preload_main(reference.main)
        module, separator, _ = reference.name.partition(":")
        if separator and reference.code is None and reference.main is None and module not in self._modules:
            self._modules.append(module)
            for front in self._fronts.values():
                front.pool.preload(module)

    # ---- run

    async def run(
        self,
        request: Request | CommandJob,
        *,
        budget_s: float,
        listener: Listener | None = None,
        on_caller_left: Callable[[], str] | None = None,
        ask: Ask | None = None,
    ) -> JobResult:
        """Run a body and wait for it within the budget; past it, hand it over.

        Args:
            request: What to run.
            budget_s: How long to wait, in seconds.
            listener: Hears progress while this call waits.
            on_caller_left: Asked when the waiting is cancelled: "cancel" (the default) ends the job,
                "detach" lets it go on in the background, "detach_recorded" does so if others can
                read the job already.
            ask: Asks the caller what the body asks; where None, a question hands the call over at once.

        Returns:
            The value, or a result with `handed_over` set.

        Raises:
            JobCancelled: The job was cancelled by somebody else.
            InvalidInput: The body or an argument cannot be sent to a worker.
            WorkerDied: Its process ended before the body returned.
            RemoteError: The body raised a type that cannot travel.
            BaseException: Otherwise what the body raised.
        """
        front = self._fronts.get(asyncio.get_running_loop()) or await self._front()
        attempt = self._attempt(front, request, listener)
        if ask is not None:
            attempt.questions.ask = ask
        attempt.start()
        attempt.patience.begin(budget_s, self.settings.record_after_seconds)
        try:
            await attempt.patience.over
            if attempt.outcome is None and await attempt.hand_over():
                return handle_of(attempt.seen.snapshot(), budget_s)
        except asyncio.CancelledError:
            await self._caller_left(front, attempt, on_caller_left)
            raise
        finally:
            attempt.patience.stop()
            attempt.seen.hush()
            if ask is not None:
                attempt.questions.ask = None  # what it asks from now on, others answer
        return deliver(attempt.call.job_id, None if attempt.cancelled else attempt.outcome)

    async def rejoin(
        self,
        job_id: str,
        *,
        budget_s: float,
        listener: Listener | None = None,
        on_caller_left: Callable[[], str] | None = None,
    ) -> JobResult | Job:
        """Wait again for a job that was handed over because it asked: for its end, its next question, or
        the budget.

        Returns:
            As `run`; the job as its record has it where it ended and this process was not at work on it.

        Raises:
            JobNotFound: There is no such job.
            BaseException: As `run`.
        """
        deadline = time.monotonic() + budget_s
        attempt, front = self._attempt_of(job_id), await self._front()
        if attempt is None or attempt.loop is not front.loop:
            job, _ = await self.wait(job_id, budget_s, or_question=True)
            return job if job.status.terminal else handle_of(job, budget_s)
        attempt.seen.listen(listener)
        try:
            while attempt.outcome is None and (left_s := deadline - time.monotonic()) > 0:
                if attempt.seen.questions:
                    break
                await attempt.questions.news(left_s)
            if attempt.outcome is None:
                return handle_of(attempt.seen.snapshot(), budget_s)
            await attempt.end()
        except asyncio.CancelledError:
            await self._caller_left(front, attempt, on_caller_left)
            raise
        finally:
            attempt.seen.hush()
        return deliver(job_id, None if attempt.cancelled else attempt.outcome)

    async def submit(self, request: Request | CommandJob) -> Job:
        """Start a job in the background; it is durable when this returns.

        Raises:
            InvalidInput: The body or an argument cannot be sent to a worker.
            StoreError: The job cannot be recorded; nothing was started.
        """
        front = await self._front()
        attempt = self._attempt(front, request, None)
        try:
            await attempt.submit()
            job = attempt.seen.snapshot()
            attempt.queue()
        except asyncio.CancelledError:
            front.spawn(attempt.cancel(), f"cancel-{attempt.call.job_id}")
            raise
        except BaseException as error:
            await attempt.refuse(error)
            raise
        return job

    def _adopt(self, front: Engine, job: Job, request: Request) -> None:
        request = replace(request, replies=replies_of(job.reply, self.tools.get(job.tool)))
        self._attempt(front, request, None, job.id).adopt(job)

    def _attempt(
        self,
        front: Engine,
        request: Request | CommandJob,
        listener: Listener | None,
        job_id: str | None = None,
    ) -> JobRun:
        request = request.request() if isinstance(request, CommandJob) else request
        check_limits(request)
        state = self._state
        if (present := present_state(state)) is not state:
            state = self._follow(present)
        reference = _HERE if request.isolation == "inline" else self._refer(request.body)
        job_id = job_id or model.new_job_id()
        label = request.label or request.tool or getattr(request.body, "__name__", "job")
        folder = self.store.folder_text(job_id)
        call = Call(job_id, label, reference.name, request.args, request.kwargs, folder, reference.code)
        call = replace(call, main=reference.main) if reference.main is not None else call
        call = replace(call, limits=request.limits) if request.limits is not None else call
        attempt = self._live[job_id] = JobRun(front, call, request, listener, state)
        return attempt

    def _follow(self, present: ServerState) -> ServerState:
        """The server's state has changed. With another `sys.path` names may lead elsewhere."""
        former, self._state = self._state, present
        if present.path is not former.path:
            self._references.clear()
            forget_modules()
            here = asyncio.get_running_loop()
            for front in list(self._fronts.values()):
                if front.loop is here:
                    front.pool.renew()
                elif not front.loop.is_closed():
                    front.loop.call_soon_threadsafe(front.pool.renew)
        return present

    def _refer(self, body: Callable[..., Any]) -> BodyReference:
        try:
            reference = self._references[body]
        except (KeyError, TypeError):
            reference = None
        if reference is not None and (reference.main is None or self._main.trouble is None):
            return reference
        reference = refer(body, self._main)
        self._preload(reference)
        if reference.code is not None:
            return reference  # by value: what it refers to may be different at the next call
        try:
            self._references[body] = reference
        except TypeError:
            return reference  # a callable that cannot be remembered, such as a builtin
        return reference

    async def _caller_left(self, front: Engine, attempt: JobRun, ask: Callable[[], str] | None) -> None:
        if attempt.outcome is not None:
            return
        wish = ask() if ask is not None else "cancel"
        if wish == "detach" or (wish == "detach_recorded" and attempt.record.written):
            front.detach(attempt)
            return
        ending = front.spawn(attempt.cancel(), f"cancel-{attempt.call.job_id}")
        await asyncio.wait({ending}, timeout=_CANCEL_WAIT_S)

    # ---- jobs

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; return when its last process is gone and its state is written.

        A job that has ended is returned as it is.

        Raises:
            JobNotFound: There is no such job.
        """
        attempt = self._attempt_of(job_id)
        front = await self._front()
        if attempt is None or not attempt.loop.is_running():
            # for seconds, where the body is deaf: not in the threads that hand-offs need
            work = partial(self._cancel_by_record, job_id, attempt, front.grace_s)
            return await to_thread(front.loop, None, work)
        if attempt.loop is front.loop:
            await attempt.cancel()
        else:
            there = asyncio.run_coroutine_threadsafe(attempt.cancel(), attempt.loop)
            await asyncio.wrap_future(there)
        return await self.get(job_id)

    def cancel_blocking(self, job_id: str) -> Job:
        """Do what `cancel` does, for plain code in any thread, also that of the job's own loop."""
        attempt = self._attempt_of(job_id)
        grace_s = self.settings.cancel_grace_seconds
        if attempt is not None and attempt.loop is _running_loop():
            job = cancel_record(self.store, job_id, grace_s, attempt.look_if_ended)
            attempt.cancelled = job.status is JobState.CANCELLED  # the loop will see its end later
            attempt.cancel_inline()
            return job
        if attempt is None or not _cancelled_there(attempt):
            return self._cancel_by_record(job_id, attempt, grace_s)
        return self.get_blocking(job_id)

    def _cancel_by_record(self, job_id: str, attempt: JobRun | None, grace_s: float) -> Job:
        self._known_here(attempt)  # it may have ended while its loop stood still
        job = cancel_record(self.store, job_id, grace_s)
        if attempt is not None and job.status is JobState.CANCELLED:
            attempt.cancelled = True  # its loop, which stands still, will see its end later
        return job


def _forget_in_child(reference: weakref.ref[JobManager]) -> None:
    """In a forked child nothing of this runs: its jobs are those of another process there."""
    if (manager := reference()) is not None:
        manager.disown()


def _cancelled_there(attempt: JobRun) -> bool:
    """Cancel on the attempt's own loop, from another thread; False where that loop runs no more."""
    if not attempt.loop.is_running():
        return False
    ending = asyncio.run_coroutine_threadsafe(attempt.cancel(), attempt.loop)
    while True:
        try:
            ending.result(_LOOP_POLL_S)
        except (TimeoutError, CancelledError):  # the latter where that loop ends at this moment
            if ending.cancelled() or not attempt.loop.is_running():
                return False
        else:
            return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
