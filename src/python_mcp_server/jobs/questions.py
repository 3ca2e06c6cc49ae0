"""The questions of a job: written into its record before a caller sees them, answered once, by the first
answer that comes, and removed when the body has the answer.

    body ──▶ worker ──▶ server (or the worker itself, once it is an orphan) ──▶ record ──▶ caller
    body ◀── worker ◀── server (or the worker itself) ◀── record ◀── an answer: compare-and-set

The functions block; `QuestionRelay` is the server's side, on its loop. A worker imports this module.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput, JobNotFound, QuestionNotOpen, StoreError
from python_mcp_server.jobs.budget import within
from python_mcp_server.model import Job, JobState
from python_mcp_server.questions.forms import validate
from python_mcp_server.questions.model import (
    ACTIONS,
    EXPIRED,
    InputAnswer,
    Question,
    QuestionEvent,
    still_open,
)

if TYPE_CHECKING:
    from python_mcp_server.jobs.inline import InlineWorker
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.jobs.status import RunStatus
    from python_mcp_server.pool.handle import WorkerHandle
    from python_mcp_server.store.contract import JobStore

_BODY_STARTED: Final = (JobState.RUNNING, JobState.INPUT_REQUIRED)


def with_questions(job: Job, questions: tuple[Question, ...]) -> Job:
    """Return the job with these questions; the job needs input while one of them is open."""
    if job.status not in _BODY_STARTED:
        return job
    state = JobState.INPUT_REQUIRED if still_open(questions) else JobState.RUNNING
    same = (questions, state) == (job.questions, job.status)
    return job if same else job.evolve(questions=questions, status=state)


def exchange(store: JobStore, job_id: str, asked: Iterable[Question], expired: Collection[str]) -> Job:
    """Write the body's present questions into the record, and return the job with the recorded answers.

    Args:
        store: Where the job is stored.
        job_id: The job.
        asked: The body's questions without an answer; all others are removed.
        expired: Keys of the questions whose time is over: they are removed unless they have been answered.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    wanted = tuple(asked)

    def change(job: Job) -> Job:
        if job.ending is not None:
            return job
        there = {question.key: question for question in job.questions}
        now = tuple(there.get(question.key, question) for question in wanted)
        return with_questions(job, tuple(each for each in now if not (each.open and each.key in expired)))

    return store.update(job_id, change)


def question_of(job: Job, key: str) -> Question:
    """Return the open question with this key.

    Raises:
        QuestionNotOpen: No open question has this key; the text says why, or which questions are open.
    """
    for question in job.open_questions:
        if question.key == key:
            return question
    raise not_open(job, key)


def not_open(job: Job, key: str) -> QuestionNotOpen:
    """Return the error for an answer that comes too late, or that answers no question."""
    if job.status.terminal:
        return QuestionNotOpen(f"Job {job.id} has ended as {job.status}; its questions are closed")
    if job.ending is not None:
        return QuestionNotOpen(f"Job {job.id} is being ended; its questions are closed")
    open_keys = ", ".join(repr(question.key) for question in job.open_questions) or "none"
    return QuestionNotOpen(
        f"Job {job.id} has no open question {key!r}: it was answered, withdrawn or never asked; "
        f"open: {open_keys}"
    )


def answer_record(
    store: JobStore, job: Job, answers: Mapping[str, InputAnswer], *, lenient: bool = False
) -> Job:
    """Answer questions of a job, all or none; return the job in its state afterwards. Blocks.

    Args:
        store: Where the job is stored.
        job: The job as it is in its record.
        answers: Mapping of key to answer.
        lenient: Whether keys that are not open, and fields that a form does not have, are left out;
            otherwise they are refused.

    Raises:
        JobNotFound: The record is gone.
        QuestionNotOpen: The job does not ask this question, or no longer asks it.
        InvalidInput: An answer does not fit its question.
        StoreError: The record cannot be written.
    """
    fit = {
        question.key: _fitted(question, answers[question.key], strict=not lenient)
        for question in job.open_questions
        if question.key in answers
    }
    taken = dict[str, InputAnswer]()

    def change(job: Job) -> Job:
        open_keys = {question.key for question in job.open_questions} if job.ending is None else set[str]()
        if lenient or open_keys >= fit.keys():
            taken.update({key: answer for key, answer in fit.items() if key in open_keys})
        return with_questions(
            job, tuple(replace(q, answer=taken.get(q.key, q.answer)) for q in job.questions)
        )

    if lenient or fit.keys() == answers.keys():
        job = store.update(job.id, change)
    if not lenient and taken.keys() != answers.keys():
        raise not_open(job, min(answers.keys() - fit.keys() or answers.keys() - taken.keys()))
    return job


def _fitted(question: Question, answer: InputAnswer, *, strict: bool) -> InputAnswer:
    if answer.action not in ACTIONS:
        raise InvalidInput(f"action is {answer.action!r}; it must be one of {', '.join(ACTIONS)}")
    if not answer.accepted:
        return InputAnswer(answer.action)
    return InputAnswer(answer.action, validate(question.schema, answer.content, strict=strict))


def answer_of(question: Question, response: Any, action: str = "accept") -> InputAnswer:
    """Return a response in the shape of an answer. The response may be the fields themselves, the value of
    the only field, or the form that MCP clients send, `{"action", "content"}`.
    """
    if action != "accept":
        return InputAnswer(action)
    fields: dict[str, Any] = question.schema["properties"]
    if [each.get("type") for each in fields.values()] != ["string"]:
        response = _parsed(response)
    if isinstance(response, Mapping):
        said = dict(cast("Mapping[str, Any]", response))
        if said.get("action") in ACTIONS and "action" not in fields and said.keys() <= {"action", "content"}:
            return InputAnswer(said["action"], said.get("content"))
        return InputAnswer(action, said)
    if len(fields) == 1 and response is not None:
        return InputAnswer(action, {next(iter(fields)): response})
    return InputAnswer(action, {} if response is None else response)


def _parsed(response: Any) -> Any:
    """Return the object or list that a client has put into a text; anything else unchanged."""
    try:
        meant: Any = json.loads(response) if isinstance(response, str) else None
    except (ValueError, RecursionError):
        return response
    return cast("Any", meant) if isinstance(meant, dict | list) else response


Ask = Callable[[str, Question], Awaitable[InputAnswer | None]]
"""Asks the caller that still waits; gets the job's id. None where the caller cannot be asked."""

_LOOK_S: Final = 0.2
"""Between two looks at a record in which another process may have answered."""

_AGAIN_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class QuestionRelay:
    """The open questions of one running job: from the body into the record, and the answers from the record
    to the body. All methods belong to the loop of the server.

    Attributes:
        ask: Asks the caller while it waits; None where the caller cannot be asked.
    """

    def __init__(
        self,
        services: Services,
        job_id: str,
        ensure_durable: Callable[[], Awaitable[None]],
        status: RunStatus,
        on_question: Callable[[], None],
    ) -> None:
        """Make the relay of one run of a job.

        Args:
            services: The objects that the parts of an engine share.
            job_id: The job.
            ensure_durable: Returns when the job has a record.
            status: Where the open questions are shown.
            on_question: Called when a question opens that the caller cannot be asked, to wake it.
        """
        self.ask: Ask | None = None
        self._services = services
        self._job_id = job_id
        self._ensure_durable = ensure_durable
        self._status = status
        self._on_question = on_question
        self._worker: WorkerHandle | InlineWorker | None = None
        self._asked: dict[str, Question] = {}
        self._expired: set[str] = set()
        self._answered: set[str] = set()
        self._changed = False
        self._closed = False
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Future[None]] = set()

    # ---- from the body

    def on_event(self, worker: WorkerHandle | InlineWorker, event: QuestionEvent) -> None:
        """Take an event of one of the body's questions."""
        if self._closed:
            return
        self._worker = worker
        if event.question is not None:
            self._asked[event.key] = event.question
        elif event.expired:
            self._expired.add(event.key)
        else:
            self._forget(event.key)
        self._changed = True
        self._wake.set()
        if self._work is None or self._work.done():
            self._work = self._services.spawn(self._run(), f"questions-{self._job_id}")

    def _forget(self, key: str) -> None:
        """Remove a question that the body is done with."""
        self._asked.pop(key, None)
        self._expired.discard(key)
        self._answered.discard(key)
        if (asking := self._asking.pop(key, None)) is not None:
            asking.cancel()

    async def _run(self) -> None:
        """Carry questions and answers until the body has no open question."""
        while not self._closed and (self._changed or self._asked):
            self._wake.clear()
            pause_s = _LOOK_S
            try:
                if self._changed:
                    await self._exchange()
                elif job := await self._services.in_store(self._services.store.get, self._job_id):
                    self.apply(job)
            except (StoreError, JobNotFound) as error:
                self._refuse(error)
                pause_s = _AGAIN_S
            if self._asked or self._changed:
                await within(self._wake.wait(), pause_s)

    async def _exchange(self) -> None:
        self._changed = False
        asked, expired = tuple(self._asked.values()), frozenset(self._expired)
        try:
            await self._ensure_durable()
            store = self._services.store
            job = await self._services.in_store(exchange, store, self._job_id, asked, expired)
        except BaseException:
            self._changed = True
            raise
        self.apply(job)
        there = {question.key for question in job.questions}
        for key in expired - there:
            self._deliver(key, None, EXPIRED)

    def _refuse(self, error: Exception) -> None:
        """Tell the body that its questions cannot be recorded: no caller would see them."""
        _log.warning("the questions of job %s cannot be recorded: %s", self._job_id, error)
        shown = {question.key for question in self._status.questions}
        for key in [key for key in self._asked if key not in shown]:
            self._deliver(key, None, str(error))
        for key in self._expired:
            self._deliver(key, None, EXPIRED)

    # ---- to the body and the caller

    def apply(self, job: Job) -> None:
        """Take the present record: show the open questions, and deliver the answers."""
        if self._closed or job.status.terminal:
            return
        asked = [question for question in job.questions if question.key in self._asked]
        for question in asked:
            if question.answer is not None and question.key not in self._answered:
                self._answered.add(question.key)
                self._deliver(question.key, question.answer)
        shown = {question.key for question in self._status.questions}
        self._status.questions = tuple(question for question in asked if question.open)
        self._announce([question for question in self._status.questions if question.key not in shown])

    def _deliver(self, key: str, answer: InputAnswer | None, trouble: str | None = None) -> None:
        if self._worker is not None:
            self._worker.answer(key, answer, trouble)

    def _announce(self, questions: list[Question]) -> None:
        """Pass these questions to the caller, because others can read them now."""
        if not questions:
            return
        self._status.publish()
        self._wake_watchers()
        for question in questions:
            if self.ask is None:
                self._on_question()
            else:
                work = self._ask_caller(self.ask, question)
                self._asking[question.key] = self._services.loop.create_task(work, name=f"ask-{self._job_id}")

    async def _ask_caller(self, ask: Ask, question: Question) -> None:
        """Ask the caller; where the caller cannot be asked, the call is handed over, so that others
        answer.
        """
        try:
            answer = await ask(self._job_id, question)
            if answer is not None:
                self.apply(await self._services.in_store(self._record_answer, {question.key: answer}))
                return
        except Exception as error:  # noqa: BLE001  a client may fail in any way; no text, for it may hold the answer
            _log.warning("the caller of job %s has no answer: %s", self._job_id, type(error).__name__)
        self.ask = None
        self._on_question()

    def _record_answer(self, answers: dict[str, InputAnswer]) -> Job:
        store = self._services.store
        if (job := store.get(self._job_id)) is None:
            raise JobNotFound(self._job_id)
        return answer_record(store, job, answers, lenient=True)

    # ---- to others

    async def wait_for_question(self, seconds: float) -> None:
        """Wait until another question is open, or the job ends, but not longer than the time."""
        if not self._closed:
            watcher: asyncio.Future[None] = self._services.loop.create_future()
            self._watchers.add(watcher)
            await within(_done(watcher), seconds)
            self._watchers.discard(watcher)

    def _wake_watchers(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def close(self) -> None:
        """Leave the open questions to the record, and wait for writes that are under way."""
        self.end()
        if self._work is not None:
            await asyncio.wait({self._work})

    def end(self) -> None:
        """Stop, because the job is settled."""
        self._closed = True
        for key in list(self._asking):
            self._forget(key)
        self._wake_watchers()
        self._wake.set()


async def _done(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)
