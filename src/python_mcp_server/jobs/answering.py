"""Answers to the questions of a job: whoever writes one into the record first has answered. Blocks.

The open questions of one attempt, as its front sees them: from the body into the record, and the
answers from the record to the body, whoever wrote them there.

    body asks ──▶ hear ──▶ record ──▶ the caller is told, live or by the hand-off
    body goes on ◀── lane.answer ◀── the record, looked at while something is open

Everything belongs to the front's loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.jobs.budget import within
from python_mcp_server.jobs.questions import exchange, not_open, standing
from python_mcp_server.jobs.recovery import recovered
from python_mcp_server.questions.forms import validate
from python_mcp_server.questions.model import ACTIONS, EXPIRED, InputAnswer, Question, QuestionEvent

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.inline import InlineLane
    from python_mcp_server.jobs.record import RecordWriter
    from python_mcp_server.jobs.status import RunStatus
    from python_mcp_server.model import Job
    from python_mcp_server.pool.handle import WorkerHandle
    from python_mcp_server.store.contract import JobStore


def answer_record(
    store: JobStore, job_id: str, answers: Mapping[str, InputAnswer], *, lenient: bool = False
) -> Job:
    """Answer questions of a job, all or none; return the job as it then stands.

    Args:
        store: Where it lies.
        job_id: The job.
        answers: Mapping of key to answer.
        lenient: Whether keys that are not open, and fields that a form does not have, are left out;
            else they are refused.

    Raises:
        JobNotFound: There is no such job.
        QuestionNotOpen: It does not ask this, or not any more.
        InvalidInput: An answer does not fit its question.
        StoreError: It cannot be written.
    """
    job = store.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    job = recovered(store, job)
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
        return standing(job, tuple(replace(q, answer=taken.get(q.key, q.answer)) for q in job.questions))

    if lenient or fit.keys() == answers.keys():
        job = store.update(job_id, change)
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
    """Return what somebody said in the shape of an answer: the fields themselves, the value of the only
    field, or what MCP clients send, `{"action", "content"}`.

    Args:
        question: The question.
        response: What was said.
        action: "accept", "decline" or "cancel".
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
    """The object or list that a client has put into a text; anything else as it is."""
    try:
        meant: Any = json.loads(response) if isinstance(response, str) else None
    except (ValueError, RecursionError):
        return response
    return cast("Any", meant) if isinstance(meant, dict | list) else response


Ask = Callable[[str, Question], Awaitable[InputAnswer | None]]
"""Asks the caller of a call that still waits; gets the job's id. None where they cannot be asked."""

_LOOK_S: Final = 0.2
"""Between two looks at a record in which somebody else may have answered."""

_AGAIN_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class QuestionRelay:
    """The questions of one attempt.

    Attributes:
        ask: How the caller can be asked while it waits; None where they cannot.
    """

    def __init__(
        self, front: Engine, job_id: str, record: RecordWriter, seen: RunStatus, attend: Callable[[], None]
    ) -> None:
        """Make it for an attempt.

        Args:
            front: The attempt's front.
            job_id: Its job.
            record: Its record.
            seen: Where the open questions are shown.
            attend: Lets the caller look up, for there is a question that it must be told of.
        """
        self.ask: Ask | None = None
        self._front = front
        self._job_id = job_id
        self._record = record
        self._seen = seen
        self._attend = attend
        self._lane: WorkerHandle | InlineLane | None = None
        self._asked: dict[str, Question] = {}
        self._expired: set[str] = set()
        self._answered: set[str] = set()
        self._changed = False
        self._over = False
        self._wake: asyncio.Event | None = None
        self._work: asyncio.Task[None] | None = None
        self._live: dict[str, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Future[None]] = set()

    # ---- from the body

    def hear(self, lane: WorkerHandle | InlineLane, said: QuestionEvent) -> None:
        """Take what the body says of a question."""
        if self._over:
            return
        self._lane = lane
        if said.question is not None:
            self._asked[said.key] = said.question
        elif said.expired:
            self._expired.add(said.key)
        else:
            self._close(said.key)
        self._changed = True
        self._go_on()

    def _close(self, key: str) -> None:
        """The body is done with a question."""
        self._asked.pop(key, None)
        self._expired.discard(key)
        self._answered.discard(key)
        if (live := self._live.pop(key, None)) is not None:
            live.cancel()

    def _go_on(self) -> None:
        if self._wake is None:
            self._wake = asyncio.Event()
        self._wake.set()
        if self._work is None or self._work.done():
            self._work = self._front.spawn(self._see_to(self._wake), f"questions-{self._job_id}")

    async def _see_to(self, wake: asyncio.Event) -> None:
        """Carry questions and answers until the body asks nothing more."""
        while not self._over and (self._changed or self._asked):
            wake.clear()
            pause_s = _LOOK_S
            try:
                if self._changed:
                    await self._exchange()
                else:
                    await self._look()
            except (StoreError, JobNotFound) as error:
                self._complain(error)
                pause_s = _AGAIN_S
            if self._asked or self._changed:
                await within(wake.wait(), pause_s)

    async def _exchange(self) -> None:
        self._changed = False
        asked, expired = tuple(self._asked.values()), frozenset(self._expired)
        try:
            await self._record.ensure()
            job = await self._front.in_store(exchange, self._front.store, self._job_id, asked, expired)
        except BaseException:
            self._changed = True
            raise
        self.take(job)
        there = {question.key for question in job.questions}
        for key in expired - there:
            self._tell(key, None, EXPIRED)

    async def _look(self) -> None:
        job = await self._front.in_store(self._front.store.get, self._job_id)
        if job is not None:
            self.take(job)

    def _complain(self, error: Exception) -> None:
        """The record cannot be written: nobody would hear of what is not in it, or of an answer."""
        _log.warning("the questions of job %s cannot be recorded: %s", self._job_id, error)
        shown = {question.key for question in self._seen.questions}
        for key in [key for key in self._asked if key not in shown]:
            self._tell(key, None, str(error))
        for key in self._expired:
            self._tell(key, None, EXPIRED)

    # ---- to the body, and to whoever waits

    def take(self, job: Job) -> None:
        """Take the record as it stands: show what is open, and pass on what was answered."""
        if self._over or job.status.terminal:
            return
        asked = [question for question in job.questions if question.key in self._asked]
        for question in asked:
            if question.answer is not None and question.key not in self._answered:
                self._answered.add(question.key)
                self._tell(question.key, question.answer)
        shown = {question.key for question in self._seen.questions}
        self._seen.questions = tuple(question for question in asked if question.open)
        self._open([question for question in self._seen.questions if question.key not in shown])

    def _tell(self, key: str, answer: InputAnswer | None, trouble: str | None = None) -> None:
        if self._lane is not None:
            self._lane.answer(key, answer, trouble)

    def _open(self, questions: list[Question]) -> None:
        """Others can read these questions now: let the caller have them."""
        if not questions:
            return
        self._seen.notify()
        self._call_watchers()
        for question in questions:
            if self.ask is None:
                self._attend()
            else:
                work = self._ask_caller(self.ask, question)
                self._live[question.key] = self._front.loop.create_task(work, name=f"ask-{self._job_id}")

    async def _ask_caller(self, ask: Ask, question: Question) -> None:
        """Ask the caller; where they cannot be asked, the call is handed over, for others to answer."""
        try:
            answer = await ask(self._job_id, question)
            if answer is not None:
                await self._answer({question.key: answer})
                return
        except Exception as error:  # noqa: BLE001  a client may fail in any way; no text, for it may hold the answer
            _log.warning("the caller of job %s has no answer: %s", self._job_id, type(error).__name__)
        self.ask = None
        self._attend()

    async def _answer(self, answers: dict[str, InputAnswer]) -> None:
        write = partial(answer_record, self._front.store, self._job_id, answers, lenient=True)
        self.take(await self._front.in_store(write))

    # ---- from others

    async def news(self, seconds: float) -> None:
        """Wait until another question is open, or nothing more will happen, but not longer than this."""
        if not self._over:
            watcher: asyncio.Future[None] = self._front.loop.create_future()
            self._watchers.add(watcher)
            await within(_done(watcher), seconds)
            self._watchers.discard(watcher)

    def _call_watchers(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def close(self) -> None:
        """Leave the questions to the worker: this process is leaving."""
        self.end()
        if self._work is not None:
            await asyncio.wait({self._work})

    def end(self) -> None:
        """Nothing more will happen: the attempt is settled."""
        self._over = True
        for key in list(self._live):
            self._close(key)
        self._call_watchers()
        if self._wake is not None:
            self._wake.set()


async def _done(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)
