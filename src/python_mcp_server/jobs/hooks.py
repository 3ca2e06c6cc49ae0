"""Functions of a program that are called for the events of all jobs of a home, and the events as an iterator.

Each hook follows the journal by itself, in a task of the loop that it was added on: a slow one holds up no
other. The lines of this process are read at once, those of others within 0.2 s.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import InvalidInput, StoreError, quoted
from python_mcp_server.jobs.budget import within
from python_mcp_server.pool.steady import in_thread
from python_mcp_server.store.events import ENDS, EventKind, JobEvent
from python_mcp_server.store.journal import JournalReader, Position
from python_mcp_server.store.keys import ATTACHED, RUNNING

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.store.contract import JobStore

Function = Callable[[JobEvent], Awaitable[object] | object]

ALL: Final = "*"
ENDED: Final = "ended"
_POLL_S: Final = 0.2
_CHECK_S: Final = 2.0
_CHECKED_AT_ONCE: Final = 100
"""A look at a record costs 0.1 ms."""

_MOST_OPEN: Final = 20_000
_CLOSE_S: Final = 2.0
_log: Final = logging.getLogger(__name__)


class Hook:
    """A function that is called for events, until it is removed."""

    def __init__(
        self, function: Function, kinds: frozenset[EventKind], tool: str | None, reader: JournalReader
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._function = function
        self._kinds = kinds
        self._tool = tool
        self._follower = reader
        self.removed = False
        self._stream: Stream | None = None

    def remove(self) -> None:
        """Call the function no more; a call under way goes on."""
        self.removed = True
        self.end()

    def end(self) -> None:
        """End the task when the events that are there by now were told."""
        if self._stream is not None:
            self._stream.end()

    def start(self, store: JobStore) -> None:
        """Go on in a task of the running loop, unless one is at work."""
        if self.task is None or self.task.done():
            self._stream = Stream(store, self._follower)
            self.task = asyncio.create_task(self._run(self._stream), name=f"hook {self._function!r}")

    async def _run(self, stream: Stream) -> None:
        async for event in stream.events():
            if self.removed:
                return
            if event.kind in self._kinds and self._tool in (None, event.tool):
                await self._call(event)

    async def _call(self, event: JobEvent) -> None:
        try:
            result = self._function(event)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError):  # a program's own code, whose fault must not end the hook
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # else what was cancelled is something that the hook awaits
            _log.exception("a hook failed at the event %s of job %s", event.kind, event.job_id)


class Stream:
    """The events of a journal as they come, for one task."""

    def __init__(self, store: JobStore, reader: JournalReader) -> None:
        self._journal = store.journal
        self._follower = reader
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ending = False

    def end(self) -> None:
        """End the iteration when all events that are there by now were yielded."""
        self._ending = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop was closed without its tasks
            self._journal.listeners.discard(self._wake)

    async def events(self) -> AsyncGenerator[JobEvent]:
        """Yield each event once, from the reader's position on."""
        self._journal.listeners.add(self._wake)
        try:
            while True:
                ending = self._ending
                self._news.clear()
                events = await in_thread(self._loop, None, self._read)
                for event in events or ():
                    yield event
                if events is None and ending:
                    return
                if events is None:
                    await within(self._news.wait(), _POLL_S)
        finally:
            self._journal.listeners.discard(self._wake)

    def _read(self) -> list[JobEvent] | None:
        try:
            return self._follower.read()
        except (OSError, StoreError) as error:
            _log.warning("the events of the jobs cannot be read now: %s", error)
            return None


class Hooks:
    """The hooks of one manager."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._hooks = list[Hook]()
        self._checking: asyncio.Task[None] | None = None

    def on(self, event: str, function: Function, kind: str | None = None) -> Hook:
        """Call a function for events of the whole home from now on; return the handle to remove it.

        A hook hears each event once, in the order of the journal, as long as this process follows: not those
        of the time when the process did not run. An exception in it is logged.

        Args:
            event: A member of `EventKind`, such as "completed"; "ended" for every end; "*" for all.
            function: Called with the `JobEvent` on the event loop; it may be async, and is awaited then.
            kind: Only jobs of this tool or body.

        Raises:
            InvalidInput: There is no such event, or the function cannot be called.
            OSError: The journal cannot be looked at.
        """
        if not callable(function):
            raise InvalidInput(f"the hook is {function!r:.160}; it must be a function")
        reader = JournalReader(self._store.journal, self._store.journal.end())
        hook = Hook(function, _kinds(event), kind, reader)
        self._hooks.append(hook)
        self.start()
        return hook

    def start(self) -> None:
        """Start the hooks that do not run yet on the running loop; where none runs, they start later."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._hooks = [hook for hook in self._hooks if not hook.removed]
        for hook in self._hooks:
            hook.start(self._store)
        if self._hooks:
            self._check(loop)

    def events(self, after: str | None = None) -> AsyncGenerator[JobEvent]:
        """Return the events of all jobs of the home as they come, for the running loop.

        Each comes once; a program that goes on from an earlier cursor may get one again. Where the journal
        no longer goes back as far as the cursor, the oldest event comes first.

        Args:
            after: The cursor of an event, to go on after it; from now on where None.

        Raises:
            InvalidInput: The cursor is not from an event.
            OSError: The journal cannot be looked at.
        """
        journal = self._store.journal
        position = journal.end() if after is None else Position.parse(after)
        self._check(asyncio.get_running_loop())
        return Stream(self._store, JournalReader(journal, position)).events()

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._checking is None or self._checking.done():
            check = Check(self._store)
            self._checking = loop.create_task(_repeat(check, loop), name="check of events")

    async def close(self, *, drain: bool = True) -> None:
        """End the hooks of the running loop, with `drain` after what is there was told."""
        loop = asyncio.get_running_loop()
        tasks = {hook.task for hook in self._hooks if hook.task is not None and not hook.task.done()}
        own = {task for task in tasks if task.get_loop() is loop}
        for hook in self._hooks:
            hook.end()
        if drain and own:
            await asyncio.wait(own, timeout=_CLOSE_S)
        if self._checking is not None and self._checking.get_loop() is loop:
            own.add(self._checking)
        for task in own:
            task.cancel()

    def abandon(self) -> None:
        """Forget the hooks in a forked child, because they run in the parent."""
        self._hooks, self._checking = [], None
        self._store.journal.listeners.clear()


def _kinds(event: str) -> frozenset[EventKind]:
    if event == ALL:
        return frozenset(EventKind)
    if event == ENDED:
        return ENDS
    if event not in list(EventKind):
        known = ", ".join((*EventKind, ENDED))
        raise InvalidInput(f"the event is {quoted(str(event))}; it must be one of {known}, or * for all")
    return frozenset({EventKind(event)})


class Check:
    """Appends the last events of records whose writers were killed before they could. All methods block.

    Only jobs that have not ended as far as the journal tells are looked at, a few at a time.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._follower = JournalReader(store.journal, store.journal.end())
        self._open: dict[str, int] | None = None

    def round(self) -> None:
        """Read what is new, and look at the records of some jobs.

        Raises:
            OSError, StoreError: The journal or a record cannot be read.
        """
        if self._open is None:
            begun = [
                job for name in (RUNNING, ATTACHED) for job in self._store.indexed(name, _MOST_OPEN // 2)
            ]
            self._open = {job.id: _number(job) for job in begun}
        known = self._open
        for event in self._follower.read_all():
            known.pop(event.job_id, None)
            if not event.kind.is_end and len(known) < _MOST_OPEN:
                known[event.job_id] = event.number
        for job_id in list(known)[:_CHECKED_AT_ONCE]:
            job, number = self._store.peek(job_id), known.pop(job_id)
            if job is not None:
                self._store.journal.mend(job, number)
                if not job.status.terminal:
                    known[job_id] = _number(job)


def _number(job: Job) -> int:
    return 0 if job.event is None else job.event.number


async def _repeat(check: Check, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            await in_thread(loop, None, check.round)
        except (OSError, StoreError) as error:
            _log.warning("the events of the jobs cannot be checked now: %s", error)
        await asyncio.sleep(_CHECK_S)
