"""One event loop's part of the manager: its services, its slots, its runs, and how they end with the loop."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import QuotaExceeded
from python_mcp_server.jobs.arguments import waiting_for_results
from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.housekeeping import Housekeeping
from python_mcp_server.jobs.limit_watch import HomeDisk, check_limits
from python_mcp_server.jobs.reply import Adapter, replies_of
from python_mcp_server.jobs.request import Listener, Request
from python_mcp_server.jobs.run import JobRun
from python_mcp_server.jobs.server_health import ServerHealth
from python_mcp_server.jobs.services import Services
from python_mcp_server.jobs.slots import BackgroundSlots
from python_mcp_server.jobs.spec import subject_of
from python_mcp_server.jobs.state import RunState
from python_mcp_server.jobs.submission import Submissions
from python_mcp_server.limits import DISK
from python_mcp_server.model import Call, new_job_id
from python_mcp_server.pool.references import BodyReference
from python_mcp_server.pool.steady import let_lie

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from python_mcp_server.jobs.bodies import BodyRegistry
    from python_mcp_server.model import Job
    from python_mcp_server.pool.pool import Pool
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_HERE: Final = BodyReference("inline")
"""The reference of an inline body, which is not sent."""

_EXIT_GRACE_S: Final = 0.5
"""The time of bodies to clean up when the server exits: clients wait 2 s before they kill."""

_TASKS_S: Final = 10.0
"""How long a close waits for the last tasks; guessed: only a disk that hangs holds one up for longer."""


class Engine:
    """One event loop's side of a manager; closed with the manager or with the loop."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        runs: dict[str, JobRun],
        on_closed: Callable[[Engine], object],
        bodies: BodyRegistry,
    ) -> None:
        self.services = Services(store, settings, bodies.main)
        bodies.prepare(self.services.pool)
        limits = SlotLimits.of(settings)
        self.submissions = Submissions(self.services, runs)
        self.slots = BackgroundSlots(self.services, limits, self.submissions.can_start)
        self._housekeeping = Housekeeping(self.services)
        self._home_disk: HomeDisk | None = None
        if settings.max_disk_mb and self.services.record_locator is not None:
            self._home_disk = HomeDisk(self.services, store.home, settings.max_disk_mb, runs)
        self.health = ServerHealth(self.services, self._home_disk)
        self._bodies = bodies
        self._pid = os.getpid()
        self._runs = runs
        self._on_closed = on_closed
        self._detaching: set[asyncio.Task[bool]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._end_of_loop: AsyncGenerator[None] | None = None
        self._adapter_of: Callable[[str], Adapter | None] = lambda _: None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the engine's event loop."""
        return self.services.loop

    @property
    def pool(self) -> Pool:
        """Return the engine's pool of workers."""
        return self.services.pool

    async def open(
        self, adapter_of: Callable[[str], Adapter | None], declared: Sequence[Callable[[JobStore], None]]
    ) -> None:
        """Open the engine: close it with the loop, as `asyncio.run` ends async generators, and start queued
        jobs. `adapter_of` returns the adapter of a tool by its name, and `declared` make schedules.
        """
        self._end_of_loop = self._until_loop_ends()
        await anext(self._end_of_loop)
        self._adapter_of = adapter_of
        self.slots.open(self._adopt, declared)
        self._housekeeping.open()
        if self.services.record_locator is not None:
            import_module("filelock")  # else the first record would load it: a hand-off 15 ms late

    async def _until_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if os.getpid() == self._pid:  # otherwise the program has forked, and this is its parent's loop
                await self.close()

    async def admit(self, request: Request) -> Request:
        """Return the request as it may run here: where the home has a bound on its disk space, with what is
        left as a limit.

        Raises:
            StoreError: Nothing is left.
            QuotaExceeded: Its client has spent its quota, as this process knows.
        """
        if (gate := self.services.quotas).is_closed(request):
            await self.services.in_store(gate.check, request)
        if self._home_disk is None:
            return request
        return await self._home_disk.admit(request)

    async def submit(self, request: Request, on_recorded: Callable[[str], object] = len) -> Job:
        """Queue a job in the background, and return it; or the job that this submission repeats. It is
        durable when this returns.

        Args:
            request: The call.
            on_recorded: Called with the job's id when the job is durable, before it is started here.

        Raises:
            InvalidInput: The body cannot be sent to a worker, or an option cannot be kept.
            JobNotFound: A job that it is to wait for does not exist.
            StoreError: The job cannot be recorded; nothing was started.
        """
        job, request = await self.prepare(request, new_job_id())
        try:
            job = await self.submissions.add(job, request)
        except QuotaExceeded as error:
            self.services.quotas.close(error.client)
            raise
        on_recorded(job.id)
        self.slots.wake_for_new()
        return job

    async def prepare(self, request: Request, job_id: str) -> tuple[Job, Request]:
        """Return the record of a new job as it waits, and its request; nothing is written.

        Raises:
            InvalidInput, StoreError: As `submit`.
        """
        request = await self.admit(request)
        request = waiting_for_results(request)
        seen = {"server_state": self._bodies.server_state(), "reference": self._reference_of(request)}
        request = replace(request, **seen)
        return self._make_run(request, None, job_id).to_queued(), request

    def _reference_of(self, request: Request) -> BodyReference:
        if request.isolation == "inline":
            return _HERE
        reference = self._bodies.refer(request.body)
        if (kind := subject_of(reference.name, request.args)) != reference.name:
            self._bodies.load_ahead(kind)
        return reference

    def _adopt(self, job: Job) -> None:
        """Run a queued job here, now that it has a slot."""
        request = self.submissions.take(job)
        if request is None:
            self.slots.drop(job.id)
            return
        if request.replies is None:
            request = replace(request, replies=replies_of(job.reply, self._adapter_of(job.tool)))
        run = self.new_run(request, None, job.id)
        if self._runs.get(job.id) is run:  # else another loop of this manager was quicker
            run.adopt(job)
        else:
            self.slots.drop(job.id)

    def new_run(self, request: Request, listener: Listener | None, job_id: str | None = None) -> JobRun:
        """Create a run of this job, without starting it. Without a `job_id` the job is new.

        Raises:
            InvalidInput: The body cannot be sent to a worker, or a limit cannot be kept.
        """
        job_id = job_id or new_job_id()
        run = self._make_run(request, listener, job_id)
        self._runs.setdefault(job_id, run)
        return run

    def _make_run(self, request: Request, listener: Listener | None, job_id: str) -> JobRun:
        check_limits(request)
        server_state = request.server_state or self._bodies.server_state()
        reference = request.reference or self._reference_of(request)
        label = request.label or request.tool or getattr(request.body, "__name__", "job")
        folder = self.services.store.folder_text(job_id)
        grace_s = self.services.settings.cancel_grace_seconds
        call = Call(
            job_id,
            label,
            reference.name,
            request.args,
            request.kwargs,
            folder,
            reference.code,
            limits=request.limits,
            grace_s=grace_s if request.grace_s is None else request.grace_s,
            main=reference.main,
        )
        return JobRun(
            self.services,
            self.slots,
            call,
            request,
            listener=listener,
            server_state=server_state,
            on_done=self._forget,
        )

    def _forget(self, run: JobRun) -> None:
        if self._runs.get(run.call.job_id) is run:  # not a job that another server has taken over
            del self._runs[run.call.job_id]
        if run.runs_again:
            self.submissions.hold(run.call.job_id, run.request)
        self.slots.drop(run.call.job_id)
        failure = None if run.outcome is None else run.outcome.failure
        if self._home_disk is not None and failure is not None and failure.kind == DISK:
            self._home_disk.forget()
        if run.background:  # a call that a caller waited for had no slot
            self.slots.wake()

    def detach(self, run: JobRun) -> None:
        """Move a run to the background because its caller disconnected. `close` waits for this."""
        task = self.services.spawn(run.detach(), f"detach-{run.call.job_id}")
        self._detaching.add(task)
        task.add_done_callback(self._detaching.discard)

    # ---- end

    async def close(self, at_most_s: float | None = None) -> None:
        """Cancel the runs that a caller waits for; let handed-over jobs go on, or end them if the settings
        say so.

        Raises:
            TimeoutError: The close takes too long. The rest is left to the workers, which notice that this
                process is gone.
        """
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="manager-close")
        try:
            async with asyncio.timeout(at_most_s):
                await asyncio.shield(self._closing)
        except TimeoutError:
            let_lie([self._closing])
            self.services.abandon_tasks()
            self.pool.abandon_tasks()
            raise

    async def _close(self) -> None:
        self.services.most_grace_s = _EXIT_GRACE_S
        self.services.refresher.stop()
        await self.slots.close()
        await self._housekeeping.close()
        if self._detaching:
            await asyncio.wait(self._detaching, timeout=_EXIT_GRACE_S)
        kept = await self._end_runs()
        await self.submissions.close()
        await self.services.refresher.close()
        await self._orphan(kept)
        await self._end_tasks()
        await self.services.in_store(self.services.store.flush)
        self.services.shutdown()
        self._on_closed(self)

    def _own_runs(self) -> list[JobRun]:
        return [run for run in list(self._runs.values()) if run.loop is self.loop]

    async def _end_runs(self) -> list[JobRun]:
        """End the runs that do not go on without this process, and return the others."""
        services, kept, ends = self.services, list[JobRun](), list[Coroutine[None, None, None]]()
        everything = services.settings.on_exit == "cancel" or services.record_locator is None
        for run in self._own_runs():
            if run.survives and not everything:
                kept.append(run)
                continue
            end = run.requeue_or_fail if run.background and not everything else run.cancel
            ends.append(end())
        for failed in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(failed, BaseException):
                _log.error("a job could not be ended at the close", exc_info=failed)
        return kept

    async def _orphan(self, kept: list[JobRun]) -> None:
        """Leave these runs to their workers, and close the pool; runs that end meanwhile are settled."""
        for run in kept:
            await run.questions.close()
            await run.record.orphan()
        await self.pool.all_sent()
        while ending := [run for run in kept if RunState.ENDING <= run.state < RunState.DONE]:
            await asyncio.gather(*(run.join() for run in ending))
        await self.pool.close()  # from the first step on the others are not heard
        for run in kept:
            self._forget(run)

    async def _end_tasks(self) -> None:
        """Wait for the background tasks: a run that plain code has settled has ended for all but its loop."""
        deadline = self.loop.time() + _TASKS_S
        while (tasks := self.services.tasks) and (rest_s := deadline - self.loop.time()) > 0:
            await asyncio.wait(tasks, timeout=rest_s)

    def abandon(self) -> None:
        """Abandon a loop that was closed without its manager: kept jobs run on and are committed by their
        workers, queued jobs are left to another server. Any thread may call this.
        """
        self.pool.abandon()
        left = self._own_runs()
        for run in left:
            self._runs.pop(run.call.job_id, None)
        work = partial(_abandon, left)
        try:
            threading.Thread(target=work, name="leave-queued").start()  # the calling thread may run a loop
        except RuntimeError:  # no thread is available
            work()


def _abandon(runs: list[JobRun]) -> None:
    for run in runs:
        if run.state < RunState.RUNNING and run.record.durable:
            run.record.abandon()
