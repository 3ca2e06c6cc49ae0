"""Looks again and again at something, and says when it has changed. Knows no SDK."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final

from python_mcp_server.errors import JobNotFound, PoolClosed, StoreError

INTERVAL_S: Final = 0.5

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen.

    Attributes:
        mark: Equal to that of another look where nothing has changed.
        over: Whether it can change no more.
    """

    mark: Hashable
    over: bool


async def follow(
    seen: Sight,
    look: Callable[[], Awaitable[Sight]],
    tell: Callable[[], Awaitable[None]],
    interval_s: float = INTERVAL_S,
) -> None:
    """Call `tell` after each change, until what is looked at is over or gone. The task of one follower.

    Changes within one interval are told once, and a listener that is slow hears less often.

    Args:
        seen: A look from before the listener was promised to hear of changes.
        look: Looks again.
        tell: Says that there is a change.
        interval_s: The time between two looks.
    """
    try:
        while not seen.over:
            await asyncio.sleep(interval_s)
            seen = await _again(look, tell, seen)
    except PoolClosed:
        _log.debug("the server is leaving; nobody is told of changes any more")
    except Exception:  # noqa: BLE001  the top of a task; logged with its traceback
        _log.exception("a client hears no more of the changes that it asked for")


async def _again(
    look: Callable[[], Awaitable[Sight]], tell: Callable[[], Awaitable[None]], seen: Sight
) -> Sight:
    try:
        now = await look()
    except JobNotFound:  # it was pruned
        now = Sight(None, over=True)
    except StoreError as error:
        _log.warning("a job could not be looked at, and is looked at again: %s", error)
        return seen
    if now.mark != seen.mark:
        await tell()
    return now
