"""The open questions of one body, in the process that runs it: asked from any thread, answered from
another one.

Only `asking` and the modules that run a body import this one. The body's own code waits here, so a cancel may
be raised in the middle of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from time import monotonic
from typing import Any, Final

from python_mcp_server.errors import AnswerTimeout, InvalidInput, NotInJob, StoreError
from python_mcp_server.questions.model import EXPIRED, InputAnswer, Question, QuestionEvent

_SLICE_S: Final = 0.2
"""Between two looks of a waiting thread at whether the job was cancelled: no signal reaches such a thread."""


@dataclass(slots=True)
class Waiting:
    """One question, and the future of its answer.

    Attributes:
        question: The question.
        timeout_s: How long the body waits for the answer; None for ever.
        deadline: When this time is over, by the monotonic clock.
        answer: Done with the answer, or with the reason why there is no answer.
        expired: Whether its time is over.
    """

    question: Question
    timeout_s: float | None
    deadline: float | None
    answer: Future[InputAnswer]
    expired: bool = False

    @property
    def rest_s(self) -> float | None:
        """How long to wait until the next step; None for ever."""
        return None if self.deadline is None or self.expired else max(0.0, self.deadline - monotonic())


def check_process(body_pid: int) -> None:
    """Refuse a process that the body has forked, because its questions would reach no user.

    Raises:
        InvalidInput: This process was forked by the body.
    """
    if os.getpid() != body_pid:
        raise InvalidInput("a process that the body has forked cannot ask; ask in the body's own process")


class OpenQuestions:
    """The questions of one body.

    Args:
        tell: Passes on the events of the questions; may block for as long as a pipe is full.
        cancelled: Whether the body was told to end.
    """

    def __init__(self, tell: Callable[[QuestionEvent], None], cancelled: Callable[[], bool]) -> None:
        self._tell = tell
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._used: set[str] = set()
        self._over = False
        self._pid = os.getpid()

    # ---- the body's threads

    def ask(self, message: str, form: dict[str, Any], key: str | None, timeout_s: float | None) -> Waiting:
        """Ask a question; return the object that gets its answer.

        Raises:
            InvalidInput: This process was forked by the body.
            NotInJob: The body has ended.
            JobCancelled: The job was cancelled.
        """
        check_process(self._pid)
        self._check()
        now, deadline = datetime.now(UTC), None if timeout_s is None else monotonic() + timeout_s
        until = None if timeout_s is None else (now + timedelta(seconds=timeout_s)).isoformat()
        answer: Future[InputAnswer] = Future()
        answer.set_running_or_notify_cancel()  # a waiter that stops waiting must not cancel this future
        with self._lock:
            name = self._new_key(key)
            question = Question(name, message, form, now.isoformat(), until)
            waiting = self._waiting[name] = Waiting(question, timeout_s, deadline, answer)
        self._tell(QuestionEvent(name, question))
        return waiting

    def _new_key(self, wanted: str | None) -> str:
        """Return an unused key: a late answer to one question must not answer another."""
        numbered = (f"{wanted or 'question'}-{number}" for number in count(2 if wanted else 1))
        key = next(name for name in chain([wanted] if wanted else [], numbered) if name not in self._used)
        self._used.add(key)
        return key

    def wait(self, waiting: Waiting) -> InputAnswer:
        """Block until there is an answer.

        Raises:
            AnswerTimeout: No answer came in time.
            StoreError: The question cannot be recorded, so no user would see it.
            JobCancelled, NotInJob: The job was cancelled, or the body has ended.
        """
        try:
            while not waiting.answer.done():
                rest_s = waiting.rest_s
                with suppress(TimeoutError):
                    waiting.answer.exception(_SLICE_S if rest_s is None else min(_SLICE_S, rest_s))
                self._check()
                self.expire_if_due(waiting)
            return waiting.answer.result()
        finally:
            self.withdraw(waiting)

    def _check(self) -> None:
        if self._cancelled():
            from python_mcp_server.cancelled import JobCancelled

            raise JobCancelled("the job was cancelled")
        if self._over:
            raise NotInJob("the job has ended, and with it all that it asks")

    def expire_if_due(self, waiting: Waiting) -> None:
        """Report once that the time is over. The keeper of the record decides whether an answer came first,
        so that no user is told that an answer was taken when it was not."""
        if waiting.rest_s == 0 and not waiting.answer.done():
            waiting.expired = True
            self._tell(QuestionEvent(waiting.question.key, expired=True))

    def withdraw(self, waiting: Waiting) -> None:
        """Take the question back, because the body has its answer or has stopped waiting."""
        with self._lock:
            self._waiting.pop(waiting.question.key, None)
        if not self._over:
            self._tell(QuestionEvent(waiting.question.key))

    # ---- other threads

    def resolve(self, key: str, answer: InputAnswer | None, trouble: str | None = None) -> None:
        """Give the body its answer, or the reason why there is no answer: `EXPIRED`, or a sentence."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None or waiting.answer.done():
                return
            if answer is not None:
                waiting.answer.set_result(answer)
            elif trouble == EXPIRED:
                waiting.answer.set_exception(AnswerTimeout(key, waiting.timeout_s))
            else:
                waiting.answer.set_exception(StoreError(trouble or "the question cannot be recorded"))

    def state(self) -> tuple[tuple[Question, ...], frozenset[str]]:
        """Return the unanswered questions, and the keys of those whose time is over."""
        with self._lock:
            waiting = [each for each in self._waiting.values() if not each.answer.done()]
        expired = frozenset(each.question.key for each in waiting if each.expired)
        return tuple(each.question for each in waiting), expired

    def close(self) -> None:
        """End the questions of a body that has ended: threads that it left behind cannot ask."""
        self._over = True
