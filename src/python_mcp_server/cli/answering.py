"""What a person types as the answer to a job's question."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.questions import answer_of
from python_mcp_server.questions.forms import from_words

if TYPE_CHECKING:
    from python_mcp_server.questions.model import InputAnswer, Question


def typed_answer(question: Question, words: tuple[str, ...], action: str, as_json: str | None) -> InputAnswer:
    """Return the answer that the words of a command line stand for.

    Args:
        question: The question.
        words: `FIELD=VALUE` each, or one bare value where the question has one field.
        action: "accept", "decline" or "cancel".
        as_json: The answer as a JSON object instead.

    Raises:
        InvalidInput: They cannot be meant.
    """
    if (words or as_json is not None) and action != "accept":
        raise InvalidInput(f"--{action} is an answer by itself; leave the values out")
    if as_json is not None:
        return answer_of(question, _object(as_json, words))
    fields: dict[str, Any] = question.schema["properties"]
    if len(words) == 1 and len(fields) == 1 and not words[0].startswith(f"{next(iter(fields))}="):
        given = {next(iter(fields)): words[0]}
    else:
        given = dict(_pair(word, fields) for word in words)
    return answer_of(question, from_words(question.schema, given), action)


def _object(text: str, words: tuple[str, ...]) -> Any:
    if words:
        raise InvalidInput("--json-answer and FIELD=VALUE exclude each other")
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--json-answer is {text!r}; it must be JSON: {error}") from None


def _pair(word: str, fields: dict[str, Any]) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not separator:
        known = " ".join(f"{field}=..." for field in fields) or "nothing, for it has no fields"
        raise InvalidInput(f"VALUE is {word!r}; this question wants {known}")
    return name, value
