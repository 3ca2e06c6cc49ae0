"""Bodies that ask their user questions."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from python_mcp_server import request_input
from python_mcp_server.cancelled import JobCancelled
from tests.helpers import bodies
from tests.helpers.waiting import eventually

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def colour(starts: str = "") -> list[Any]:
    """Ask for a text; note the start, and the cancel of the wait."""
    if starts:
        bodies.note(starts)
    try:
        answer = request_input("Which colour?", key="colour")
    except JobCancelled:
        bodies.note(starts, "cleaned up")
        raise
    return [answer.action, answer.text]


def threads_ask(starts: str = "") -> list[Any]:
    """Ask two questions at once, from threads that inherit no context."""
    if starts:
        bodies.note(starts)
    with ThreadPoolExecutor(2) as threads:
        try:  # the cancel comes as soon as one has asked
            asked = [threads.submit(request_input, text, NUMBER, key=text) for text in ("one", "two")]
            return [each.result().content for each in asked]
        finally:
            if starts:
                bodies.note(starts, "cleaned up")


async def tasks_ask(starts: str = "") -> list[Any]:
    """Ask two questions at once on a loop, the second under a key that is taken."""
    if starts:
        bodies.note(starts)
    try:
        answers = await asyncio.gather(*(request_input("How many?", NUMBER, key="n") for _ in range(2)))
    except asyncio.CancelledError:  # a `JobCancelled` too: of the one that asks after the cancel
        bodies.note(starts, "cleaned up")
        raise
    return [answer.content for answer in answers]


def hurried(seconds: float) -> str:
    """Ask with this time-out."""
    try:
        return request_input("Anybody?", timeout_seconds=seconds).action
    except TimeoutError as late:
        return str(late)


async def gives_up() -> str:
    """Let asyncio time an answer out, then ask another question."""
    try:
        await asyncio.wait_for(request_input("Slow?", key="slow"), 0.2)
    except TimeoutError:
        return (await request_input("Quick?", key="quick")).action
    return "answered"


def asks_after(folder: str) -> list[Any]:
    """Ask once the file `on` exists."""
    bodies.note(f"{folder}/starts")
    eventually(Path(folder, "on").exists, deadline_s=bodies.LIFETIME_S)
    return colour()


def hurried_after(folder: str) -> str:
    """Ask once the file `on` exists, with a short time-out."""
    bodies.note(f"{folder}/starts")
    eventually(Path(folder, "on").exists, deadline_s=bodies.LIFETIME_S)
    return hurried(0.2)


def fails_to_ask() -> str:
    """Ask where the question cannot be recorded; return the error."""
    try:
        request_input("Anybody?")
    except Exception as error:  # noqa: BLE001  the test looks at it
        return f"{type(error).__name__}: {error}"
    return "answered"
