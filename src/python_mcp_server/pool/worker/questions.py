"""The questions of a worker's body on the wires: questions up, answers down to the threads that wait.

The open questions are known here even if frames were lost: a worker whose server is gone writes them into the
record itself, see `OrphanQuestions`.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from python_mcp_server.errors import NotInJob
from python_mcp_server.pool.protocol import Kind, pack
from python_mcp_server.questions.model import EXPIRED, InputAnswer, Question, QuestionEvent

if TYPE_CHECKING:
    from python_mcp_server.questions.open import OpenQuestions

_log: Final = logging.getLogger(__name__)


def question_frame(job_id: str, said: QuestionEvent) -> bytes:
    """Return the message that carries a question to the server."""
    return pack(Kind.QUESTION, pickle.dumps((job_id, said)))


def read_question(payload: bytes) -> tuple[str, QuestionEvent]:
    """Read the payload of `question_frame`: the job's id and the event."""
    job_id, said = pickle.loads(payload)
    return job_id, said


def answer_frame(job_id: str, key: str, answer: InputAnswer | None, trouble: str | None) -> bytes:
    """Return the message that carries an answer, or the reason for its absence, to the worker."""
    return pack(Kind.ANSWER, pickle.dumps((job_id, key, answer, trouble)))


class BodyQuestions:
    """The questions of the body that runs in this worker."""

    def __init__(
        self, send: Callable[[bytes], None], cancelled: Callable[[], bool], orphaned: Callable[[], bool]
    ) -> None:
        """Make the questions of a worker.

        Args:
            send: Sends a frame up; may block.
            cancelled: Whether the present body was told to end.
            orphaned: Whether the server no longer reads the frames.
        """
        self._send = send
        self._cancelled = cancelled
        self._orphaned = orphaned
        self._lock = threading.Lock()
        self._job_id: str | None = None
        self.present: OpenQuestions | None = None

    def open(self, job_id: str) -> Callable[[], OpenQuestions]:
        """Begin a body; return a function that gives the body its questions, made when it asks the first."""
        self._job_id = job_id
        return partial(self._of, job_id, os.getpid())

    def _of(self, job_id: str, body_pid: int) -> OpenQuestions:
        from python_mcp_server.questions.open import OpenQuestions, check_process

        check_process(body_pid)  # before the lock, whose holder at the fork is not here to release it
        with self._lock:
            if self._job_id != job_id:
                raise NotInJob("the job has ended, and with it all that it asks")
            if self.present is None:
                self.present = OpenQuestions(partial(self._tell, job_id), self._cancelled)
            return self.present

    def close(self) -> None:
        """End the questions, because the body has ended."""
        self._job_id = None
        if self.present is not None:
            self.present.close()
            self.present = None

    def _tell(self, job_id: str, said: QuestionEvent) -> None:
        if self._orphaned():
            return
        try:
            self._send(question_frame(job_id, said))
        except BrokenPipeError:
            _log.debug("the server is gone; the questions of job %s go into its record from here", job_id)

    def hear(self, payload: bytes) -> None:
        """Take the payload of an answer."""
        job_id, key, answer, trouble = pickle.loads(payload)
        if self.present is not None and job_id == self._job_id:
            self.present.resolve(key, answer, trouble)


class QuestionRecord(Protocol):
    """The record that gets an orphan's questions."""

    def exchange(
        self, asked: Collection[Question], expired: Collection[str]
    ) -> Mapping[str, InputAnswer | None]:
        """Write the questions; return them by key, each with its recorded answer if there is one."""
        ...


class OrphanQuestions:
    """Carries the questions of an orphan's body to the record, and the answers back."""

    def __init__(self, present: Callable[[], OpenQuestions | None]) -> None:
        self._present = present
        self._told: Any = ((), frozenset[str]())

    def run(self, record: Callable[[], QuestionRecord]) -> None:
        """Carry questions and answers once, where there are any.

        Raises:
            Exception: Any exception of the record; the next run tries again.
        """
        inquiries = self._present()
        if inquiries is None:
            return
        asked, expired = state = inquiries.state()
        if not asked and state == self._told:
            return
        there = record().exchange(asked, expired)
        self._told = state
        for key, answer in there.items():
            if answer is not None:
                inquiries.resolve(key, answer)
        for key in expired - there.keys():
            inquiries.resolve(key, None, EXPIRED)

    def withdraw(self, reason: str) -> None:
        """Withdraw the questions, because the record is gone and no answer can come."""
        if (inquiries := self._present()) is not None:
            for question in inquiries.state()[0]:
                inquiries.resolve(question.key, None, reason)
