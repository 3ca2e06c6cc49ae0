"""One run of a job: from the queue over the worker to the settled record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.items import has_items
from python_mcp_server.jobs.acquisition import WorkerAcquisition, release
from python_mcp_server.jobs.arguments import resolved
from python_mcp_server.jobs.bodies import without_main
from python_mcp_server.jobs.budget import BudgetTimer, within
from python_mcp_server.jobs.inline import InlineWorker
from python_mcp_server.jobs.limit_watch import EndReason, LimitWatch, disk_meter
from python_mcp_server.jobs.questions import QuestionRelay
from python_mcp_server.jobs.record import WORKER_RECORD, RecordWriter, Started
from python_mcp_server.jobs.settle import never_started
from python_mcp_server.jobs.spec import to_spec, why_not_kept
from python_mcp_server.jobs.state import NEXT_STATES, CallerState, RunState
from python_mcp_server.jobs.status import RunStatus
from python_mcp_server.model import Job, JobState, Outcome
from python_mcp_server.options import Cancel, Snooze
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.outcomes import NEVER_STARTED
from python_mcp_server.pool.protocol import unbegun_note
from python_mcp_server.pool.references import BodyReference
from python_mcp_server.pool.worker.streams import have_content, log_paths, try_link_logs

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Listener, Request
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.jobs.slots import BackgroundSlots
    from python_mcp_server.model import Call
    from python_mcp_server.pool.server_state import ServerState

_log: Final = logging.getLogger(__name__)
_AFTER_REPLY_S: Final = 0.05
"""Sampling begins this long after a hand-off: its thread would compete with the reply."""

BLOATED_BYTES: Final = 300_000_000
"""A worker that has grown beyond this size is not used again; guessed: ten times a fresh worker."""


class JobRun:
    """One start of a body.

    Attributes:
        call: The call that is sent to the worker.
        request: The body to run.
        state: Where the run is; see `RunState`.
        caller: Whether a caller waits for the value.
        outcome: How the run ended; None before that, or where another server goes on with the job.
        status: The facts that others may see.
        budget: How long the caller waits.
        runs_again: Whether the body failed, and the job is queued for another attempt.
    """

    def __init__(
        self,
        services: Services,
        slots: BackgroundSlots,
        call: Call,
        request: Request,
        *,
        listener: Listener | None,
        server_state: ServerState,
        on_done: Callable[[JobRun], object],
    ) -> None:
        self.call = call
        self.state = RunState.QUEUED
        self.caller = CallerState.ATTACHED
        self.outcome: Outcome | None = None
        self.runs_again = False
        self.status = RunStatus(services, call, request, listener)
        self.budget = BudgetTimer(services.record_timer, self._on_record_due)
        self._services = services
        self._slots = slots
        self.request = request
        self._server_state = server_state
        self._on_done = on_done
        self._worker: WorkerHandle | InlineWorker | None = None
        self._record: RecordWriter | None = None
        self._limits: LimitWatch | None = None
        self._questions: QuestionRelay | None = None
        self._queueing: asyncio.Task[None] | None = None
        self._body_ended: asyncio.Event | None = None
        self._done: asyncio.Event | None = None

    def _to(self, state: RunState) -> None:
        if state not in NEXT_STATES[self.state]:
            raise RuntimeError(f"job {self.call.job_id} cannot go from {self.state.name} to {state.name}")
        self.state = state

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the run."""
        return self._services.loop

    @property
    def record(self) -> RecordWriter:
        """Return the durable record, which is made at first use: nearly every call ends without one."""
        if self._record is None:
            show = None if self.request.replies is None else self.request.replies.show
            self._record = RecordWriter(
                self._services, self.call.job_id, self.snapshot, self._on_durable, show
            )
        return self._record

    @property
    def recorded(self) -> bool:
        """Whether the record exists or is being written."""
        return self._record is not None and self._record.begun

    @property
    def live(self) -> bool:
        """Whether `snapshot` is right: others can read the job, it is not about to end, and its worker is
        heard. Any thread may call this, so it makes no record: the loop may make the record at this instant.
        """
        durable = self._record is not None and self._record.durable
        here = not self.background or self.state is not RunState.QUEUED  # else others may start it
        return durable and here and self.state < RunState.ENDING and self.loop.is_running()

    @property
    def background(self) -> bool:
        """Whether the job goes on without a caller."""
        return self.caller is CallerState.DETACHED

    @property
    def survives(self) -> bool:
        """Whether the job goes on after this process ends."""
        return self.background and self.state is RunState.RUNNING and isinstance(self._worker, WorkerHandle)

    def snapshot(self) -> Job:
        """Return the present state of the job."""
        return self.status.snapshot(background=self.caller is not CallerState.ATTACHED)

    # ---- queued

    def start(self) -> None:
        """Send the call to an idle worker now, or queue for a worker.

        Raises:
            InvalidInput: An argument cannot be sent to a worker; nothing was started.
            PoolClosed: The pool takes no more work.
        """
        try:
            inline = self.request.isolation == "inline"
            worker = InlineWorker(self.request) if inline else self._services.pool.take_idle()
            if worker is None:
                self.queue()
            else:
                self._to(RunState.STARTING)
                self._dispatch(worker)
        except BaseException:
            self._drop()
            raise

    def adopt(self, job: Job) -> None:
        """Queue the job of another server, whose record has been taken over."""
        self.caller = CallerState.DETACHED
        self.status.adopt(job)
        self.record.adopt()
        self._on_durable()
        self.queue()

    def to_queued(self) -> Job:
        """Return the record of the job as it waits in the background, for a run that is not kept."""
        self.caller = CallerState.DETACHED
        self._let_others_start_it()
        job = self.snapshot()
        if job.call is None and job.options is not None:
            job = job.evolve(call_note=why_not_kept(self.request, self._reference()))
        may_wait = job.waits_for or job.not_before is not None
        return job.evolve(owner=None) if may_wait and job.call is not None else job

    def _drop(self) -> None:
        self._to(RunState.FINALISING)
        self._conclude()

    def queue(self, *, again: bool = False) -> None:
        """Wait in a task of its own for a worker; a background job waits for a slot first. With `again`, the
        record says that the job runs on a worker, which was gone before it read the call.
        """
        if self.state >= RunState.ENDING:
            return  # the job was submitted this instant
        if not self.background:
            self.status.set_pending_reason(self._services.pool.full())
        work = self._run_queued(again=again)
        self._queueing = self._services.spawn(work, f"queue-{self.call.job_id}")

    async def _run_queued(self, *, again: bool) -> None:
        try:
            request = await self._with_results()
            acquisition = WorkerAcquisition(
                self._services,
                self._slots,
                request,
                self.record,
                self.status,
                in_background=lambda: self.background,
                on_worker=self._on_worker,
            )
            if again:
                await acquisition.wait_again()
            worker = await acquisition.acquire()
            if isinstance(worker, Started):
                await self._leave_queue(worker)
            else:
                self._dispatch(worker)
        except Exception as error:  # noqa: BLE001  no process, no record, a closed pool, a bad argument
            kind = "exception" if isinstance(error, InvalidInput) else "no_worker"
            await self._finalise(Outcome(failure=replace(outcomes.failure_of(error), kind=kind)))

    async def _with_results(self) -> Request:
        """Return the request with the results of other jobs as arguments, and send these with the call."""
        if not self.request.results:
            return self.request
        request = await self._services.in_store(resolved, self._services.store, self.request)
        self.call = replace(self.call, args=request.args, kwargs=request.kwargs)
        return request

    async def _leave_queue(self, why: Started) -> None:
        if why is Started.OVER:
            await self._finalise(Outcome(cancelled=True))
        elif self.state < RunState.ENDING:
            self._drop()  # another server runs the job, or it waits for something else

    def _on_worker(self, has_worker: bool) -> None:
        if self.state is not RunState.ENDING:
            self._to(RunState.STARTING if has_worker else RunState.QUEUED)

    # ---- starting

    def _dispatch(self, worker: WorkerHandle | InlineWorker) -> None:
        self.call = replace(self.call, queued=True) if self.recorded else self.call
        try:
            if isinstance(worker, WorkerHandle):
                worker.follow(self._server_state)
                if self.status.spec is not None:
                    note = unbegun_note(self._services.store.home, self.call.job_id)
                    self.call = replace(self.call, unbegun=note)
                self.call = without_main(self.call, self.request.body, self._services.pool.main)
            disk = disk_meter(self.call, worker)
            worker.dispatch(
                self.call,
                self.status.on_progress,
                self._on_body_end,
                partial(self._announce, worker),
                lambda event: self.questions.on_event(worker, event),
            )
        except BaseException:
            self._worker = None
            release(self._services.pool, worker)
            raise
        if self.state is RunState.STARTING:
            self._to(RunState.RUNNING)
        self.status.start(worker)
        if self.call.limits is not None:
            pool = self._services.pool
            self._limits = LimitWatch(self.call.limits, self.loop, pool.limiter, self.request_end)
            self._limits.start(worker, disk)
        if self.recorded:
            self.status.sample()

    def _announce(self, worker: WorkerHandle | InlineWorker) -> None:
        self._worker = worker
        if self.recorded:
            worker.record()
        if self.caller is CallerState.DETACHED:
            self._detach_worker()

    # ---- running

    @property
    def questions(self) -> QuestionRelay:
        """Return the body's questions, made at first use: nearly every call ends without one."""
        if self._questions is None:
            ensure, wake = self.record.ensure_durable, self.budget.wake
            self._questions = QuestionRelay(self._services, self.call.job_id, ensure, self.status, wake)
            if self.state is RunState.DONE:
                self._questions.end()
        return self._questions

    def _on_record_due(self) -> None:
        if self.state < RunState.FINALISING:
            self.status.sample()
            self.record.create_soon()

    def _on_durable(self) -> None:
        self.status.public = True
        self._services.refresher.add(self.call.job_id, self.refresh)
        if self._worker is not None:
            self._worker.record()
        self.status.publish()

    async def refresh(self) -> None:
        """Bring the record up to date. End the body where another process has asked for that in the record,
        or has settled the job because it heard nothing of this server; leave a queued job that another
        server has started.
        """
        if self.state >= RunState.ENDING:
            return
        self.status.publish()
        job = await self.record.refresh()
        if job is not None and JobState.CANCELLED in (job.ending, job.status):
            self.request_end(EndReason())
            return
        if job is None or (not job.status.terminal and self.record.is_present(job)):
            return
        if self.state is RunState.QUEUED:
            if self._queueing is not None:
                self._queueing.cancel()
            self._drop()
        elif self.background and self.state is RunState.RUNNING:
            self.request_end(EndReason())

    def _on_body_end(self, outcome: Outcome) -> None:
        if self.state >= RunState.ENDING:
            if self._body_ended is not None:
                self._body_ended.set()  # `_end` kills what is left, and settles
        elif outcome.failure is not None and outcome.failure.kind == NEVER_STARTED:
            self._start_again()
        else:
            self._begin_finalising(outcome)
            if self.recorded or outcome.wants_record or outcome.touched or outcome.cancelled:
                self._services.spawn(self._finish(outcome), f"settle-{self.call.job_id}")
            else:
                self._conclude()

    def _start_again(self) -> None:
        """Let another worker start the body, because this worker was gone before it read the call."""
        self._to(RunState.STARTING)
        release(self._services.pool, self._worker)
        self._worker = None
        if self._limits is not None:
            self._limits.stop()
        self.status.restart()
        self.queue(again=True)

    def has_body_ended(self) -> bool:
        """Whether the body has ended, by the frames that the worker has sent so far. Plain code that runs on
        the loop's own thread asks this, because it keeps the loop from reading.
        """
        if isinstance(self._worker, WorkerHandle) and self.state is RunState.RUNNING:
            self._worker.drain()
        return self.state >= RunState.FINALISING

    def settle_if_ended(self) -> Job | None:
        """Write the end of a body that has ended, for plain code on the loop's thread, which keeps the loop
        from doing so. Return the job in its state afterwards; None where nothing is written. Blocks.
        """
        ended = self.has_body_ended() and self.state is RunState.FINALISING and self.record.durable
        outcome = self.outcome
        if not ended or outcome is None or outcome.cancelled:  # after a cancel the loop ends the worker first
            return None
        try:
            return self._write_record(outcome)
        except (StoreError, JobNotFound) as error:
            _log.warning("the end of job %s cannot be written: %s", self.call.job_id, error)
            return None

    # ---- hand-off

    async def detach(self) -> bool:
        """Make the record durable and detach the worker; after that the caller may get the handle.

        Returns:
            Whether the job goes on in the background; False when the job ended meanwhile, or cannot be
            recorded, so that the caller must go on waiting.
        """
        if self.background:
            return True
        fresh = not self.recorded
        if self.state >= RunState.ENDING or not await self._say_that_nobody_waits():
            await self.join()
            return False
        self._detach_worker()
        if not fresh:
            await self.record.refresh()
        if self.state is RunState.QUEUED and self._queueing is not None:
            self._queueing.cancel()  # the job waited as a call with a caller, and now waits for a slot
            self.queue()
        self.loop.call_later(_AFTER_REPLY_S, self._sample)
        return True

    async def _say_that_nobody_waits(self) -> bool:
        self.caller = CallerState.DETACHING
        if not self.status.started:
            self._let_others_start_it()
        try:
            await self.record.ensure_durable()
        except Exception as error:  # noqa: BLE001  whatever the error, the body runs and its caller waits
            _log.warning("job %s cannot be handed over, its caller waits on: %s", self.call.job_id, error)
            self.caller = CallerState.ATTACHED
            self.status.spec = None  # a record that is written later must not let another server start it
            return False
        self.caller = CallerState.DETACHED if self.state < RunState.ENDING else CallerState.ATTACHED
        return self.background

    def _sample(self) -> None:
        if self.state < RunState.FINALISING:
            self.status.sample()

    def _let_others_start_it(self) -> None:
        self.status.spec = self._spec()

    def _spec(self) -> dict[str, Any] | None:
        """Return the spec with which any server may start the job, or None."""
        if self._services.record_locator is None or self.status.spec is not None:
            return self.status.spec
        return to_spec(self.request, self._reference())

    def _reference(self) -> BodyReference:
        return BodyReference(self.call.body, self.call.code, self.call.main)

    def _detach_worker(self) -> None:
        if isinstance(self._worker, WorkerHandle):
            self._services.pool.detach(self._worker)
            if (locator := self._services.record_locator) is not None:
                reply = None if self.request.replies is None else dict(self.request.replies.form)
                known = {"reply": reply, "grace_s": self.call.grace_s, "spec": self._spec()}
                self._worker.detach(WORKER_RECORD, locator | known)

    # ---- ending

    async def cancel(self) -> None:
        """Cancel, and return when the last process is gone; a job that has ended is left unchanged."""
        self.request_end(EndReason())
        await self.join()

    def request_end(self, reason: EndReason) -> None:
        """End the body for this reason, unless the body has ended or is being ended."""
        if self.state < RunState.ENDING:
            self._to(RunState.ENDING)
            self._body_ended = asyncio.Event()
            self._services.spawn(self._end(reason, self._body_ended), f"end-{self.call.job_id}")

    async def _end(self, reason: EndReason, body_ended: asyncio.Event) -> None:
        try:
            await self._end_body(reason, body_ended)
        except Exception:  # noqa: BLE001  whatever the error, a caller may wait for the end
            _log.exception("the body of job %s could not be ended well", self.call.job_id)
        if not (isinstance(self._worker, WorkerHandle) and self._worker.let_go):
            await self._finalise(reason.outcome())
        elif self._done is not None:  # the worker finds the reason in the record, and ends with its tree
            self._done.set()

    async def _end_body(self, reason: EndReason, body_ended: asyncio.Event) -> None:
        self.status.note_peak(reason.peak_bytes)
        await self.record.request_end(reason)
        if self._queueing is not None and self.state is RunState.ENDING:
            self._queueing.cancel()
        if reason.patient and self._worker is not None and not body_ended.is_set():
            self._worker.cancel()
            await within(body_ended.wait(), min(self.call.grace_s, self._services.most_grace_s))
        if reason.sentence is not None:
            await self._end_tree()

    async def requeue_or_fail(self) -> None:
        """Leave a queued job to another server, because this server closes, or fail the job where no other
        can start it. A job that was sent to a worker is cancelled.
        """
        if self.state >= RunState.RUNNING:
            await self.cancel()
            return
        if self._queueing is not None:
            self._queueing.cancel()
        if self.status.spec is None:
            await self._finalise(Outcome(failure=never_started()))
            return
        self._to(RunState.FINALISING)
        await self.record.join()
        await self.record.requeue()
        self._conclude()

    # ---- finalising

    async def join(self) -> None:
        """Wait until the run is over."""
        if self.state is not RunState.DONE:
            self._done = self._done or asyncio.Event()
            await self._done.wait()

    async def _finalise(self, outcome: Outcome) -> None:
        """End the run with this outcome; where the run has ended already, wait until it is settled."""
        if self.state >= RunState.FINALISING:
            await self.join()
        else:
            self._begin_finalising(outcome)
            await self._finish(outcome)

    def _begin_finalising(self, outcome: Outcome) -> None:
        self._to(RunState.FINALISING)
        self.outcome = outcome
        self.status.end()

    async def _finish(self, outcome: Outcome) -> None:
        if self._questions is not None:
            await self._questions.close()
        try:
            cancelled = await self._settle(outcome) is JobState.CANCELLED
            if cancelled and not isinstance(outcome.value, Cancel):  # maybe by another process
                self.outcome = Outcome(cancelled=True)
        finally:
            if not self.loop.is_closed():  # otherwise the run is abandoned, and so are all waiters
                self._conclude()

    async def _settle(self, outcome: Outcome) -> JobState | None:
        """End the processes that must go first, then write the end where there is a record, then end the
        rest. Return the status that was written, or None.
        """
        job_id = self.call.job_id
        try:
            usage = self.status.usage
            if outcome.cancelled or (usage is not None and usage.rss_bytes > BLOATED_BYTES):
                await self._end_tree()  # after a cancel the worker always ends
            await self.record.join()
            if outcome.wants_record or (outcome.touched and await self._has_items()):
                await self.record.ensure_durable()
            return await self._write_end(outcome) if self.record.durable else None
        except JobNotFound:
            _log.warning("the record of job %s was removed while it ran", job_id)
        except Exception as error:  # noqa: BLE001  whatever it is, the outcome must not be lost
            unforeseen = None if isinstance(error, StoreError) else error
            _log.warning("the end of job %s will be written later: %s", job_id, error, exc_info=unforeseen)
            self.runs_again = True  # it may, once its end is written
            # the record still names the worker: a cancel by the record would end the next call
            await self._end_tree()
            # not the logs: they are removed with the worker
            write = partial(self.record.settle, outcome, tree_gone=True, spec=self._spec_after(outcome))
            self._services.refresher.retry_write(job_id, write)
        finally:
            if not self.record.durable and outcome.touched:
                self._services.in_background(self._services.store.discard_folder, job_id)
        return None

    async def _has_items(self) -> bool:
        """Whether a body that could not ask for a record, because it was killed, has emitted items."""
        return await self._services.in_store(has_items, self.call.folder)

    async def _end_tree(self) -> None:
        if isinstance(self._worker, WorkerHandle):
            await self._services.pool.end_tree(self._worker)

    async def _write_end(self, outcome: Outcome) -> JobState:
        """Write the end. A reason that another process wrote meanwhile takes precedence, with its kill."""
        job = await self._services.in_store(self._write_record, outcome)
        if not job.status.terminal and job.ending:
            await self._end_tree()
            job = await self._services.in_store(lambda: self._write_record(outcome, tree_gone=True))
        self.runs_again = not job.status.terminal
        return job.status

    def _write_record(self, outcome: Outcome, *, tree_gone: bool = False) -> Job:
        worker = self._worker
        if isinstance(worker, WorkerHandle) and have_content(log_paths(worker.log_folder)):
            try_link_logs(worker.log_folder, self.call.folder)
        gone = tree_gone or outcome.cancelled or not isinstance(worker, WorkerHandle) or worker.gone
        spec = self._spec_after(outcome)
        return self.record.settle(outcome, tree_gone=gone, cpu_s=self.status.cpu_s, spec=spec)

    def _spec_after(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return the spec where the body wants to run again, else None."""
        return self._spec() if isinstance(outcome.value, Snooze) else None

    def _conclude(self) -> None:
        """Free the worker, and wake all waiters."""
        if self._limits is not None:
            self._limits.stop()
        release(self._services.pool, self._worker)
        self._to(RunState.DONE)
        if self.status.public:
            self._services.refresher.remove(self.call.job_id)
        self._on_done(self)
        if self._questions is not None:
            self._questions.end()
        if self._done is not None:
            self._done.set()
        self.budget.wake()
