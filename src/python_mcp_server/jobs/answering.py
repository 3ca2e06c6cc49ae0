"""Answers to the questions of a job: whoever writes one into the record first has answered. Blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.forms.whole import fitted
from python_mcp_server.jobs.questions import not_open, standing
from python_mcp_server.jobs.recovery import recovered
from python_mcp_server.questions import ACTIONS, InputAnswer, Question

if TYPE_CHECKING:
    from python_mcp_server.model import Job
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
    return InputAnswer(answer.action, fitted(question.schema, answer.content, strict=strict))


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
