"""The questions of a job in its record: put there before anybody is told, answered once by whoever
comes first, taken out when the body has the answer.

    body ──▶ worker ──▶ owner (or the worker itself, once it is an orphan) ──▶ record
    body ◀── worker ◀── owner (or the worker itself) ◀── record ◀── whoever answers: compare-and-set

All of it blocks. How answers are written is in `answering`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import QuestionNotOpen
from python_mcp_server.model import Job, JobState
from python_mcp_server.questions.model import Question, still_open

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_BODY_STARTED: Final = (JobState.RUNNING, JobState.INPUT_REQUIRED)


def standing(job: Job, questions: tuple[Question, ...]) -> Job:
    """Return the job with these questions, in the state that they mean."""
    if job.status not in _BODY_STARTED:
        return job
    state = JobState.INPUT_REQUIRED if still_open(questions) else JobState.RUNNING
    same = (questions, state) == (job.questions, job.status)
    return job if same else job.evolve(questions=questions, status=state)


def exchange(store: JobStore, job_id: str, asked: Iterable[Question], expired: Collection[str]) -> Job:
    """Let the record have what the body asks now, and return the job with the answers that stand.

    Args:
        store: Where it lies.
        job_id: The job.
        asked: What the body asks and has no answer to; what is not among them is taken out.
        expired: Keys of those whose time is over: they are taken out unless they have been answered.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    wanted = tuple(asked)

    def change(job: Job) -> Job:
        if job.ending is not None:
            return job
        there = {question.key: question for question in job.questions}
        now = tuple(there.get(question.key, question) for question in wanted)
        return standing(job, tuple(each for each in now if not (each.open and each.key in expired)))

    return store.update(job_id, change)


def sentence_of(job_id: str, questions: Iterable[Question]) -> str:
    """Return what a job waits for, and how it is told, for whoever reads its handle."""
    asked = "; ".join(f"{question.key!r}: {question.message}" for question in questions)
    return f"The job asks and waits for the answer: {asked} (py_answer_job with job_id {job_id} and the key)"


def question_of(job: Job, key: str) -> Question:
    """Return the open question of this key.

    Raises:
        QuestionNotOpen: There is none; the text says why, or what is open.
    """
    for question in job.open_questions:
        if question.key == key:
            return question
    raise not_open(job, key)


def not_open(job: Job, key: str) -> QuestionNotOpen:
    """Return the error for an answer that comes too late, or to nothing."""
    if job.status.terminal:
        return QuestionNotOpen(f"Job {job.id} has ended as {job.status}; its questions are closed")
    if job.ending is not None:
        return QuestionNotOpen(f"Job {job.id} is being ended; its questions are closed")
    open_keys = ", ".join(repr(question.key) for question in job.open_questions) or "none"
    return QuestionNotOpen(
        f"Job {job.id} has no open question {key!r}: it was answered, withdrawn or never asked; "
        f"open: {open_keys}"
    )
