"""The data of questions and answers: frozen, plain, JSON in and out.

Any module may import this one. The answer to a question is the user's own data: it is in the job's record
only until the body has it, and is never shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

ACTIONS: Final = ("accept", "decline", "cancel")
"""The actions of a user on a question: answer it, say no, or put it away without a choice."""

EXPIRED: Final = "expired"
"""Stands for the answer to a question whose time is over."""


@dataclass(frozen=True, slots=True)
class InputAnswer:
    """The user's answer to one question.

    Attributes:
        action: "accept", "decline" (the user said no) or "cancel" (put away without a choice).
        content: Mapping of the form's fields to values; None unless it was accepted.
    """

    action: str
    content: dict[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        """Whether the user answered."""
        return self.action == "accept"

    @property
    def text(self) -> str | None:
        """The text that was typed, for a question without a schema; None where no text was typed."""
        return (self.content or {}).get("answer")

    def to_json(self) -> dict[str, Any]:
        """Return `{"action", "content"}`."""
        return {"action": self.action, "content": self.content}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(data["action"], data.get("content"))


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a job, from the asking until its body has the answer.

    Attributes:
        key: The question's name; no other question of the job ever has the same.
        message: The text that the user reads.
        schema: The form of the answer: a JSON schema of an object with flat properties.
        asked_at: ISO 8601, UTC.
        expires_at: When the body stops waiting; None where it waits for ever.
        answer: The answer, until the body has it.
    """

    key: str
    message: str
    schema: dict[str, Any]
    asked_at: str
    expires_at: str | None = None
    answer: InputAnswer | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        """Whether it has no answer yet."""
        return self.answer is None

    def to_json(self) -> dict[str, Any]:
        """Return the form that tools show: `{"key", "message", "schema", "asked_at", "expires_at"?}`."""
        shown = {"key": self.key, "message": self.message, "schema": self.schema, "asked_at": self.asked_at}
        return shown | {"expires_at": self.expires_at} if self.expires_at else shown

    def to_record(self) -> dict[str, Any]:
        """Return the form that the store writes: `to_json` plus the answer."""
        return self.to_json() | {"answer": None if self.answer is None else self.answer.to_json()}

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Self:
        """Read what `to_record` wrote."""
        answer = data.get("answer")
        return cls(
            data["key"],
            data["message"],
            data["schema"],
            data["asked_at"],
            data.get("expires_at"),
            None if answer is None else InputAnswer.from_json(answer),
        )


@dataclass(frozen=True, slots=True)
class QuestionEvent:
    """An event of one question of a body.

    Attributes:
        key: The question.
        question: Set where the body has just asked it.
        expired: Whether its time is over: the body waits for the recorded answer, or for `EXPIRED`. Where
            neither `question` nor `expired` is set, the body is done with the question: it has the answer, or
            has stopped waiting.
    """

    key: str
    question: Question | None = None
    expired: bool = False


def still_open(questions: Iterable[Question]) -> tuple[Question, ...]:
    """Return the questions that have no answer yet."""
    return tuple(question for question in questions if question.open)
