"""What a caller gets of an outcome: the value, or the exception itself.

One start of a body, as the front sees it: from the queue over the lane to the settled record.

    queued ──▶ running ──▶ ended ──▶ settled
       │          │ budget over: record, keep, reply; the run goes on
       └──────────┴ cancel: verdict into the record, JobCancelled, grace, kill, settle

A call that ends within its first second touches no file.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import InvalidInput, RemoteError, WorkerDied
from python_mcp_server.jobs.answering import QuestionRelay
from python_mcp_server.jobs.budget import BudgetTimer, within
from python_mcp_server.jobs.finish import Finish
from python_mcp_server.jobs.inline import InlineLane
from python_mcp_server.jobs.limits import EndReason, LimitWatch
from python_mcp_server.jobs.questions import sentence_of
from python_mcp_server.jobs.queue import WorkerWait
from python_mcp_server.jobs.record import WORKER_RECORD, RecordWriter, never_started
from python_mcp_server.jobs.request import JobResult, Listener, Request
from python_mcp_server.jobs.status import RunStatus
from python_mcp_server.jobs.takeover import to_spec
from python_mcp_server.model import Call, Failure, Job, JobState, Outcome
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.main_module import MainFile
from python_mcp_server.pool.outcomes import NEVER_STARTED
from python_mcp_server.pool.references import BodyReference, refer
from python_mcp_server.pool.server_state import ServerState

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.questions.model import QuestionEvent


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


_AFTER_REPLY_S: Final = 0.05
"""Sampling begins this long after a hand-off: its thread would compete with the reply."""


class JobRun:
    """One start of a body.

    Attributes:
        call: What is sent to the worker.
        seen: What others may see of it.
        patience: The waiting of its caller.
        record: Its durable record.
        outcome: How the body ended, once it did.
        background: Whether it was handed over.
        cancelled: Whether its verdict is "cancelled".
        concluded: Whether nothing more will happen.
    """

    def __init__(
        self,
        front: Engine,
        call: Call,
        request: Request,
        listener: Listener | None,
        state: ServerState,
    ) -> None:
        self.call = call
        self._state = state
        self.seen = RunStatus(front, call, request, listener)
        self.patience = BudgetTimer(front, self.observe_and_record)
        replies = request.replies
        show = None if replies is None else replies.show
        self.record = RecordWriter(front, call.job_id, self.seen.snapshot, self._on_recorded, show)
        self._questions: QuestionRelay | None = None
        self._ending = Finish(front, call, self.record, self.seen)
        self._fence = LimitWatch(front, call.limits, self._exceed)
        self.outcome: Outcome | None = None
        self.background = False
        self.cancelled = False
        self._front = front
        self._request = request
        self._lane: WorkerHandle | InlineLane | None = None
        self._body_ended = False
        self._said: Outcome | None = None
        self._heard: asyncio.Event | None = None
        self.concluded = False
        self._leaving = False
        self._settled: asyncio.Event | None = None
        self._queueing: asyncio.Task[None] | None = None
        self._turn: WorkerWait | None = None
        self._cancelling: asyncio.Task[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it belongs to."""
        return self._front.loop

    @property
    def live(self) -> bool:
        """Whether others can read the job, it is not about to end, and what its worker says is heard:
        `snapshot` is the truth."""
        ended = self._body_ended or self.outcome is not None or self.cancelled
        return self.record.written and not ended and self._front.hears

    @property
    def survives(self) -> bool:
        """Whether its body runs in a worker and was handed over: it goes on without this process."""
        runs = isinstance(self._lane, WorkerHandle) and not self._body_ended
        return self.background and runs and self._cancelling is None

    # ---- start

    def start(self) -> None:
        """Take a lane now, or queue for one.

        Raises:
            InvalidInput: An argument cannot be sent to a worker; nothing was started.
            PoolClosed: No more work is taken.
        """
        try:
            if self._request.isolation == "inline":
                self._dispatch(InlineLane(self._request))
            elif (lane := self._front.pool.take_idle()) is not None:
                self._dispatch(lane)
            else:
                self.queue()
        except BaseException:
            self._front.forget(self)
            raise

    def queue(self, *, again: bool = False) -> None:
        """Wait in a task of its own: for a lane, and in the background for a place before.

        Args:
            again: Whether its record says that it runs, on a worker that was gone before it read the call.
        """
        if self._leaving:
            return  # it was submitted this instant
        turn = WorkerWait(self._front, self._request, self.record, self.seen, background=self.background)
        self._turn = turn
        self._queueing = self._front.spawn(
            self._wait_for_lane(turn, again=again), f"queue-{self.call.job_id}"
        )

    def adopt(self, job: Job) -> None:
        """Queue as the job of another server, whose record has been taken over."""
        self.background = True
        self.seen.adopt(job)
        self.record.resume()
        self._on_recorded()
        self.queue()

    async def _wait_for_lane(self, turn: WorkerWait, *, again: bool) -> None:
        try:
            lane = await turn.lane(again=again)
            if lane is None:
                self.cancelled = True
                await self._end(Outcome(cancelled=True))
            else:
                self._dispatch(lane)
        except Exception as error:  # noqa: BLE001  no process, no record, a closed pool, a bad argument
            kind = "exception" if isinstance(error, InvalidInput) else "no_worker"
            await self._end(Outcome(failure=replace(outcomes.failure_of(error), kind=kind)))

    def _release(self, lane: WorkerHandle | InlineLane | None) -> None:
        if isinstance(lane, WorkerHandle):
            self._front.pool.release(lane)

    def _dispatch(self, lane: WorkerHandle | InlineLane) -> None:
        try:
            if isinstance(lane, WorkerHandle):
                lane.follow(self._state)
                if self.seen.recipe is not None:
                    self.call = replace(self.call, unbegun=True)
                if self.call.main is not None:
                    self._do_without_main()
            announce, question = partial(self._announce, lane), partial(self._hear_question, lane)
            lane.dispatch(self.call, self.seen.hear, self._on_body_end, announce, question)
        except BaseException:
            self._release(lane)
            raise
        self.seen.start(lane)
        self._fence.begin(lane)
        if self.record.begun:
            self.seen.sample()

    def _do_without_main(self) -> None:
        """Where a worker could not load the main module meanwhile, let the body go without.

        Raises:
            InvalidInput: It cannot.
        """
        main = self._front.pool.main
        if main.trouble is not None and isinstance(self.call.main, MainFile):
            reference = refer(self._request.body, main)
            self.call = replace(self.call, body=reference.name, code=reference.code, main=reference.main)

    def _announce(self, lane: WorkerHandle | InlineLane) -> None:
        self._lane = lane
        if self.record.begun:
            lane.record()
        if self.background:
            self._keep()

    # ---- what the worker says

    def look_if_ended(self) -> bool:
        """Whether the body has ended, by what its worker has sent so far: for plain code that runs on
        the loop itself, and so keeps it from reading."""
        if isinstance(self._lane, WorkerHandle) and not self._body_ended:
            self._lane.drain()
        return self._body_ended

    def look_while_still(self) -> None:
        """Hear the worker while the loop stands still between two runs; for plain code of its thread."""
        if not self.loop.is_running() and self._front.hears:
            self.look_if_ended()

    def settle_while_still(self) -> None:
        """Write the end of a body that was heard by `look_while_still`: the loop will do so again, when
        it runs the next time. Blocks."""
        if self._said is not None and self.outcome is None and not self.loop.is_running():
            self._ending.write_now(self._lane, self._said)

    def leave(self) -> None:
        """Its loop was closed without us: leave it to another server if it was queued. Blocks."""
        if self._queueing is not None and not self.seen.started and self.record.written:
            self.record.leave()

    @property
    def questions(self) -> QuestionRelay:
        """What its body asks; nearly every call ends without."""
        if self._questions is None:
            self._questions = QuestionRelay(
                self._front, self.call.job_id, self.record, self.seen, self.patience.end
            )
            if self.concluded:
                self._questions.end()
        return self._questions

    def _hear_question(self, lane: WorkerHandle | InlineLane, said: QuestionEvent) -> None:
        self.questions.hear(lane, said)

    def _on_body_end(self, outcome: Outcome) -> None:
        self._body_ended = True
        self._said = outcome
        if self._heard is not None:
            self._heard.set()
        if self._cancelling is not None:
            return  # the cancel waits for it, kills what is left, and settles
        if outcome.failure is not None and outcome.failure.kind == NEVER_STARTED:
            self._start_again()
        elif self.record.begun or outcome.keep or outcome.touched or outcome.cancelled:
            self._front.spawn(self._end(outcome), f"settle-{self.call.job_id}")
        else:
            self.outcome = outcome
            self.seen.ended = True
            self._conclude()

    def _start_again(self) -> None:
        """The worker was gone before it read the call: nothing has started, so another may start it."""
        self._release(self._lane)
        self._lane = None
        self._fence.end()
        self.seen.restart()
        self._body_ended, self._said = False, None
        self.queue(again=True)

    # ---- what others see

    def observe_and_record(self) -> None:
        """The call lasts: sample it from now on, and make it durable."""
        if self.outcome is None:
            self.seen.sample()
            self.record.begin()

    def _let_others_start_it(self) -> None:
        if self._front.sink is not None:
            self.seen.recipe = to_spec(
                self._request, BodyReference(self.call.body, self.call.code, self.call.main)
            )

    async def submit(self) -> None:
        """Make it a durable job in the background, to be queued next.

        Raises:
            StoreError: The job cannot be recorded; nothing was started.
        """
        self.background = self.seen.background = True
        self._let_others_start_it()
        await self.record.ensure()

    async def refuse(self, error: BaseException) -> None:
        """Its caller is told this error: let no record of it be left that would be started later."""
        if self.record.written:
            await self._end(Outcome(failure=outcomes.failure_of(error)))
        else:
            self._front.forget(self)

    def _on_recorded(self) -> None:
        self.seen.public = True
        self._front.recorded(self)
        if self._lane is not None:
            self._lane.record()
        self.seen.notify()

    # ---- hand-off

    async def hand_over(self) -> bool:
        """Durable record, `keep` to the worker; then the caller may be told.

        Returns:
            Whether the job goes on in the background; False when it ended meanwhile, or when it
            cannot be recorded, so that the caller must go on waiting for it.
        """
        if self.background:
            return True
        if self.outcome is not None:
            await self.end()
            return False
        self.seen.background = fresh = not self.record.begun
        if not self.seen.started:
            self._let_others_start_it()
        try:
            await self.record.ensure()
        except Exception as error:  # noqa: BLE001  whatever it is, the body runs, and somebody waits
            _log.warning("job %s cannot be handed over, its caller waits on: %s", self.call.job_id, error)
            self.seen.background = self.background
            await self.end()
            return False
        if self.outcome is not None or self._cancelling is not None:
            await self.end()
            return False
        self.background = self.seen.background = True
        self._keep()
        if not fresh:
            await self.record.refresh()
        self._change_lines()
        self._front.loop.call_later(_AFTER_REPLY_S, self.seen.sample)
        return True

    def _change_lines(self) -> None:
        """Go from the line of the callers to that of the background jobs."""
        if self._queueing is not None and self._turn is not None and self._turn.in_line:
            self._queueing.cancel()
            self.queue()

    def _keep(self) -> None:
        if isinstance(self._lane, WorkerHandle) and self.outcome is None:
            self._front.pool.hand_over(self._lane)
            if self._front.sink is not None:
                reply = None if self._request.replies is None else dict(self._request.replies.form)
                self._lane.keep(WORKER_RECORD, self._front.sink | {"reply": reply})

    # ---- cancel

    async def cancel(self) -> None:
        """Cancel and return when the last process is gone; a job that ended is left as it is."""
        if self._cancelling is None:
            if self.outcome is not None or self._body_ended:
                await self.end()
                return
            self._cancelling = self._front.spawn(self._carry_out(EndReason()), f"cancel-{self.call.job_id}")
        await asyncio.shield(self._cancelling)

    def _exceed(self, verdict: EndReason) -> None:
        if self._cancelling is None and self.outcome is None and not self._body_ended:
            self._cancelling = self._front.spawn(self._carry_out(verdict), f"limit-{self.call.job_id}")

    async def _carry_out(self, verdict: EndReason) -> None:
        self.seen.note_peak(verdict.peak_bytes)
        await self.record.doom(verdict)
        outcome = verdict.outcome()
        self.cancelled = outcome.cancelled
        if self._queueing is not None:
            self._queueing.cancel()
        if verdict.patient and self._lane is not None and not self._body_ended:
            self._heard = asyncio.Event()
            self._lane.cancel()
            await within(self._heard.wait(), self._front.grace_s)
        if isinstance(self._lane, WorkerHandle) and not outcome.cancelled:
            await self._front.pool.end_tree(self._lane)
        await self._end(outcome)

    async def lose(self) -> None:
        """The server leaves before the body of this queued job was started: leave it to another server,
        or settle it as failed."""
        if self.seen.started or self._lane is not None or self._cancelling is not None:
            await self.cancel()
            return
        self._leaving = True
        if self._queueing is not None:
            self._queueing.cancel()
        if self.seen.recipe is not None:
            await self.record.rest()
            await self.record.release()
            self._conclude()
        else:
            await self._end(Outcome(failure=never_started()))

    def cancel_inline(self) -> None:
        """Cancel a body that runs on this very loop, where only its task can be reached."""
        if isinstance(self._lane, InlineLane):
            self._lane.cancel()

    # ---- end

    def let_go(self) -> None:
        """The loop was closed without us: let go of all its workers, and of this attempt's caller."""
        self._front.pool.abandon()

    async def _end(self, outcome: Outcome) -> None:
        """Settle, once; then lane, files and callers."""
        if self.outcome is not None:
            await self.end()
            return
        self.outcome = outcome
        self.seen.ended = True
        if self._questions is not None:
            await self._questions.close()
        try:
            status = await self._ending.settle(self._lane, outcome)
            self.cancelled = self.cancelled or status is JobState.CANCELLED  # perhaps by another process
        finally:
            if not self.loop.is_closed():  # else we are let go of with it, and so are all who wait
                self._conclude()

    def _conclude(self) -> None:
        """Nothing more will happen: the lane is free, and whoever waits is told."""
        self._fence.end()
        self.seen.stop_sampling()
        self._release(self._lane)
        self._front.forget(self)
        self.concluded = True
        if self._questions is not None:
            self._questions.end()
        if self._settled is not None:
            self._settled.set()
        self.patience.end()

    async def end(self) -> None:
        """Wait until nothing more will happen."""
        if not self.concluded:
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()
