"""Limits repeated log messages to one line a minute, with a count.

A stranger can cause most of the lines of a server on the network: asyncio's when no connection can be
accepted, uvicorn's for what is no HTTP, ours for refusals. Lines on jobs are caused by clients with access,
and each tells something else, so they are all written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_EVERY_S: Final = 60.0
_MOST_KINDS: Final = 64
_TEMPLATE_CHARS: Final = 200
_OURS: Final = "python_mcp_server"
_LIMITED: Final = f"{_OURS}.server.transports"


@dataclass(slots=True)
class _Kind:
    last: logging.LogRecord
    written_at: float
    unwritten: int = 0


class LogLimit(logging.Filter):
    """Lets one line of a kind pass each minute, and counts the others.

    Lines are of one kind where logger, level and the text before its arguments are put in are the same, and
    the type and place of the exception, and the attribute `kind` that a line may be given. A kind beyond the
    first 64 of a minute counts as one with all other such kinds of its logger and level.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[Any, _Kind] = {}
        self._lock = threading.RLock()  # a finalizer may log at any instruction

    def install(self) -> None:
        """Stand before every handler of the root logger."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this record; each of the handlers gets the same answer."""
        if (decided := getattr(record, "limit_passed", None)) is None:
            free = record.name.startswith(_OURS) and not record.name.startswith(_LIMITED)
            decided = record.limit_passed = free or self._passes(record)
        return bool(decided)

    def _passes(self, record: logging.LogRecord) -> bool:
        key = _kind_of(record)
        with self._lock:
            if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
                key = (record.name, record.levelno)
            known = self._kinds.get(key)
            if known is None:
                self._kinds[key] = _Kind(record, self._clock())
                return True
            known.last, known.unwritten = record, known.unwritten + 1
            return False

    def report(self) -> None:
        """Write the counts of messages held back for a minute. Called periodically."""
        with self._lock:
            due = [key for key, kind in self._kinds.items() if self._clock() - kind.written_at >= _EVERY_S]
            kinds = [self._kinds.pop(key) for key in due]
            for key, kind in zip(due, kinds, strict=True):
                if kind.unwritten:  # a minute goes by from this line, too
                    self._kinds[key] = _Kind(kind.last, self._clock())
        for kind in kinds:
            if kind.unwritten:
                logging.getLogger(kind.last.name).handle(_summary(kind))


def _kind_of(record: logging.LogRecord) -> tuple[Any, ...]:
    template = str(record.msg).partition("\n")[0][:_TEMPLATE_CHARS]
    return record.name, record.levelno, template, _raised(record), getattr(record, "kind", None)


def _raised(record: logging.LogRecord) -> tuple[Any, ...]:
    """Return the type of the exception of a line, and where it was raised."""
    kind, _, trace = record.exc_info or (None, None, None)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (kind, trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno))


def _summary(kind: _Kind) -> logging.LogRecord:
    last = kind.last
    text = f"{kind.unwritten} more in the last minute like this: {last.getMessage().partition(chr(10))[0]}"
    record = logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, None, None)
    record.limit_passed = True
    return record
