"""`request_input`: how a body asks its user, and waits.

The module is apart from `context` for two reasons: only bodies that ask pay for its imports, and the code
that waits here is the body's own, so a cancel may be raised in it.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.context import current_job
from python_mcp_server.errors import InvalidInput, NotInJob
from python_mcp_server.limits import LONGEST_S
from python_mcp_server.questions.forms import form_of
from python_mcp_server.settings import positive

if TYPE_CHECKING:
    from python_mcp_server.questions.model import InputAnswer
    from python_mcp_server.questions.open import OpenQuestions

_MOST_CHARS: Final = 8000
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def request_input(
    message: str, schema: object = None, *, key: str | None = None, timeout_seconds: float | None = None
) -> Any:
    """Ask the user a question and wait for the answer.

    Plain code, in any thread of the body, gets the `InputAnswer` itself; code that runs on an event
    loop gets an awaitable of the answer. Several questions may be open at once. While one is open, the job's
    status is `input_required`. How a question reaches the user depends on the client.

    Args:
        message: What the user reads.
        schema: What to ask for: a dataclass, a TypedDict, a pydantic model or a JSON schema, with flat
            fields (texts, numbers, booleans, dates, choices). None: one text, the answer's `text`.
        key: Names the question for the one who answers. Where None, a key is generated; a key that this job
            has used already gets a number at its end.
        timeout_seconds: How long to wait; None for ever. The job's time limit and its budget run on
            meanwhile.

    Returns:
        The answer: `action` is "accept", "decline" or "cancel", `content` maps fields to values.

    Raises:
        InvalidInput: The message, the schema, the key or the time is not valid.
        NotInJob: The call is made outside a job.
        AnswerTimeout: No answer came in time.
        JobCancelled: The job was cancelled.
        StoreError: The question cannot be recorded, so no user would see it.
    """
    inquiries = _inquiries()
    _check(message, key)
    timeout_s = None if timeout_seconds is None else _checked_time(timeout_seconds)
    what = (message, form_of(schema), key, timeout_s)
    return _awaited(inquiries, what) if _on_loop() else inquiries.wait(inquiries.ask(*what))


def _inquiries() -> OpenQuestions:
    job = current_job()
    if job is None:
        raise NotInJob("request_input asks from inside a job; call the decorated function, not its body")
    return job.inquiries


def _check(message: object, key: object) -> None:
    if not isinstance(message, str) or not message.strip():
        raise InvalidInput(f"message is {message!r}; it must be a text that the user can read")
    if len(message) > _MOST_CHARS:
        raise InvalidInput(f"message has {len(message)} characters; it may have {_MOST_CHARS}")
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise InvalidInput(f"key is {key!r}; it must be 1 to 64 letters, digits, dots, dashes or underscores")


def _checked_time(timeout_seconds: object) -> float:
    timeout_s = positive(timeout_seconds, "timeout_seconds")
    if timeout_s > LONGEST_S:
        raise InvalidInput(
            f"timeout_seconds is {timeout_seconds!r}; it may be at most {LONGEST_S:g}, or None for ever"
        )
    return timeout_s


def _on_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    return cast("Any", asyncio)._get_running_loop() is not None  # noqa: SLF001  documented for libraries


async def _awaited(inquiries: OpenQuestions, what: tuple[Any, ...]) -> InputAnswer:
    import asyncio

    waiting = inquiries.ask(*what)
    try:
        answer = asyncio.wrap_future(waiting.answer)
        await asyncio.wait({answer}, timeout=waiting.rest_s)
        inquiries.expire_if_due(waiting)
        return await answer
    finally:
        inquiries.withdraw(waiting)
