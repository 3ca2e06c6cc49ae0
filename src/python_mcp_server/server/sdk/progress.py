"""Forwards a call's progress to the client that waits: coalesced, rising, and without delaying the call.

Knows no SDK: `private.progress_sender` gives the function that sends one notification.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from python_mcp_server.model import MB, JobProgress, Usage
from python_mcp_server.server.text import repair_unicode

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Listener, Notice

Send = Callable[[float, float | None, str | None], Awaitable[None]]

_log: Final = logging.getLogger(__name__)
_INTERVAL_S: Final = 0.1  # ten a second: what a person can read, and 0.3 % of a core
_NAMING_S: Final = 5.0  # hosts that extend their time-out at progress use 10 s and more
_LAST_WORD_S: Final = 0.5  # the answer itself waits no longer than this
_STEP: Final = 1e-6  # the protocol wants rising values, also where the body's do not rise


class ProgressForwarder:
    """Sends the notices of a listener to one caller, while its call is in flight.

    At most ten notifications a second, the latest wins, and the last one goes out before the
    answer. At least every 5 s one says that the call is alive and names its job, once there is one.

    Args:
        send: Sends one notification; None where the caller wants none, and then nothing is started.
        interval_s: The least time between two.
        naming_s: The longest time without one that names the job.
        age_s: How long the job has been running already.
    """

    def __init__(
        self,
        send: Send | None,
        *,
        interval_s: float = _INTERVAL_S,
        naming_s: float = _NAMING_S,
        age_s: float = 0.0,
    ) -> None:
        self._send = send
        self._interval_s = interval_s
        self._naming_s = naming_s
        self._named = time.monotonic()
        self._began = self._named - age_s
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._telling = self._over = False
        self._value: float | None = None
        self._job_id: str | None = None
        self._progress: JobProgress | None = None
        self._usage: Usage | None = None
        self._message: str | None = None

    async def __aenter__(self) -> Listener:
        if self._send is None:
            return _ignore
        self._task = asyncio.create_task(self._forward(self._send), name="progress of a call")
        return self._hear

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._task is None or self._send is None:
            return
        self._over = True
        if kind is not None or not self._telling:  # otherwise a cancel would lose a notification on its way
            self._task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await asyncio.wait([self._task])
                if kind is None and self._wake.is_set():
                    await self._tell(self._send)
        self._task.cancel()
        await asyncio.wait([self._task])

    def _hear(self, notice: Notice) -> None:
        changed = notice.progress not in (None, self._progress) or notice.message not in (None, self._message)
        if notice.job_id is not None and self._job_id is None:
            self._named -= self._naming_s  # the client should know the id before it gives up
            changed = True
        self._job_id = notice.job_id or self._job_id
        self._progress = notice.progress or self._progress
        self._usage = notice.usage or self._usage
        self._message = notice.message or self._message
        if changed:
            self._wake.set()

    async def _forward(self, send: Send) -> None:
        try:
            while not self._over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._named + self._naming_s - time.monotonic())):
                        await self._wake.wait()
                await self._tell(send)
                if not self._over:
                    await asyncio.sleep(self._interval_s)
        except Exception:  # noqa: BLE001  # the top of a task: no other code would see it
            _log.exception("progress cannot be sent; the call itself goes on")

    async def _tell(self, send: Send) -> None:
        self._wake.clear()
        progress = self._progress
        self._telling = True
        try:
            await send(self._next_value(), progress.total if progress else None, repair_unicode(self._text()))
        finally:
            self._telling = False

    def _next_value(self) -> float:
        wanted = self._progress.current if self._progress else 0.0
        if self._value is not None and wanted <= self._value:
            wanted = self._value + max(_STEP, abs(self._value) * 1e-9)
        self._value = wanted
        return wanted

    def _text(self) -> str | None:
        said = (self._progress.message if self._progress else None) or self._message
        now = time.monotonic()
        if now < self._named + self._naming_s:
            return said
        self._named = now
        return f"{said} ({self._state(now)})" if said else self._state(now)

    def _state(self, now: float) -> str:
        name = f"job {self._job_id} " if self._job_id else ""
        memory = f", {self._usage.rss_bytes / MB:.0f} MB" if self._usage and self._usage.rss_bytes else ""
        return f"{name}running for {now - self._began:.0f} s{memory}"


def _ignore(notice: Notice) -> None:
    """Ignore the notice, because the caller gave no progress token."""
