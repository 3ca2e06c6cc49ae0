"""The objects that the parts of one engine share: its loop, its pool, the store with its threads, its tasks.

Every part of an engine may import this module; it imports none of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.budget import RecordTimer
from python_mcp_server.jobs.spending import QuotaGate
from python_mcp_server.pool.pool import Pool
from python_mcp_server.pool.steady import in_background, in_thread, let_lie, steady_task

if TYPE_CHECKING:
    from python_mcp_server.pool.main_module import MainModule
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_log: Final = logging.getLogger(__name__)
_REFRESH_S: Final = 1.0
"""Between two writes of a running job's progress and usage, as other processes see them."""

_STORE_THREADS: Final = 4
_READERS: Final = 16
"""How many pages and lists are read at once, and how many patterns are searched for."""

_READS_IN_TURN: Final = 2
"""How many of one job or one principal run at once: the disk of a job's output may hang, a principal may list
all again and again, and a pattern that does not end keeps a core busy for seconds."""


class Services:
    """The objects that the parts of one engine share. All methods belong to its loop.

    Attributes:
        loop: The event loop.
        thread_id: The thread of the loop.
        store: Where the jobs lie.
        pool: The workers.
        settings: The settings.
        identity: This process.
        most_grace_s: How long any cancelled body may clean up; bounded when the server exits.
        record_locator: Where a worker finds the store, or None where only this process can write to it.
        record_timer: Reports when a call has lasted long enough for a record.
        refresher: Keeps the records of running jobs fresh.
        quotas: Knows which clients have spent their quotas.
        tasks: The background tasks; the engine awaits them when it closes.
    """

    def __init__(self, store: JobStore, settings: Settings, main: MainModule) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self.store = store
        self.settings = settings
        self.main = main
        self.identity = processes.identify(os.getpid())
        self.most_grace_s = math.inf
        self.record_locator: dict[str, Any] | None = None
        if (locator := store.locator()) is not None:
            self.record_locator = locator | {"grace_s": settings.cancel_grace_seconds}
        self.pool = Pool(settings, store.worker_folder, f"{os.getpid()}-{os.urandom(6).hex()}", main)
        self.record_timer = RecordTimer(self.loop, settings.record_after_seconds)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.refresher = RecordRefresher(self)
        self.quotas = QuotaGate(store)
        self._threads = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._searches = ThreadPoolExecutor(_READERS, thread_name_prefix="search")
        self._turns: WeakValueDictionary[tuple[str, str | None], asyncio.Semaphore] = WeakValueDictionary()

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine as a background task; a failure is logged, and the close awaits its end."""
        task = steady_task(self.loop, work, name)
        self.tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, StoreError)
        ):
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def in_store(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a blocking call to the store in a thread; the call is completed even if the caller is
        cancelled.
        """
        return await _heard(self.begin_in_store(work, *args))

    def begin_in_store(self, work: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Start a blocking call to the store in a thread."""
        return in_thread(self.loop, self._threads, work, *args)

    async def read_output(self, job_id: str, work: Callable[[], T]) -> T:
        """Read output of a job in a thread, a few pages of each job at once."""
        return await self._in_turn(self._readers, ("output", job_id), work)

    async def look_through(self, principal: str | None, work: Callable[[], T]) -> T:
        """List or prune jobs in a thread, a few times for each principal at once."""
        return await self._in_turn(self._readers, ("jobs", principal), work)

    async def search(self, principal: str | None, work: Callable[[], T]) -> T:
        """Search in a thread, a few searches for each principal at once."""
        return await self._in_turn(self._searches, ("search", principal), work)

    async def _in_turn(self, threads: Executor, turn: tuple[str, str | None], work: Callable[[], T]) -> T:
        """Run a blocking call in a thread when few others of this turn run. A call that is stuck counts until
        it ends, even if its caller is cancelled; a call that waits is dropped then.
        """
        running = self._turns.setdefault(turn, asyncio.Semaphore(_READS_IN_TURN))
        await running.acquire()
        call = in_thread(self.loop, threads, work)
        call.add_done_callback(lambda _: running.release())
        return await _heard(call)

    def in_background(self, work: Callable[..., object], *args: Any) -> None:
        """Run a blocking call to the store without waiting for its end."""
        in_background(self.loop, self._threads, work, *args)

    def abandon_tasks(self) -> None:
        """Leave unfinished tasks, because the process and the loop end."""
        let_lie(self.tasks)

    def shutdown(self) -> None:
        """Accept no more calls to the store; calls under way are completed."""
        self._threads.shutdown(wait=False)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._searches.shutdown(wait=False, cancel_futures=True)


async def _heard(call: asyncio.Future[T]) -> T:
    """Return the result of a call that is completed even if its caller is cancelled. What it raises then is
    noted here, because the loop would report it with a traceback.
    """
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        call.add_done_callback(_note_unheard)
        raise


def _note_unheard(call: asyncio.Future[Any]) -> None:
    if not call.cancelled() and (error := call.exception()) is not None:
        _log.debug("a call to the store failed after its caller had left: %r", error)


class RecordRefresher:
    """Brings the records of running jobs up to date each second, and retries writes that failed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._running: dict[str, Callable[[], Awaitable[None]]] = {}
        self._pending_writes: dict[str, Callable[[], object]] = {}
        # a timer, not a task that sleeps: a loop that is closed without us complains of no task
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, job_id: str, refresh: Callable[[], Awaitable[None]]) -> None:
        """Call `refresh` each second from now on."""
        self._running[job_id] = refresh
        self._schedule()

    def remove(self, job_id: str) -> None:
        """Stop refreshing a job, because it has ended."""
        self._running.pop(job_id, None)

    def retry_write(self, job_id: str, write: Callable[[], object]) -> None:
        """Write the end of a job later, because the store fails now and the outcome must not be lost."""
        self._pending_writes[job_id] = write
        self._schedule()

    def has_pending_write(self, job_id: str) -> bool:
        """Whether the end of this job is known and waits to be written."""
        return job_id in self._pending_writes

    @property
    def pending_writes(self) -> tuple[str, ...]:
        """The ids of the jobs whose end waits to be written."""
        return tuple(self._pending_writes)

    def _schedule(self) -> None:
        if self._timer is None and not self._closed and not self._services.loop.is_closed():
            self._timer = self._services.loop.call_later(_REFRESH_S, self._start)

    def _start(self) -> None:
        self._task = self._services.spawn(self.run(), "record-refresh")

    async def run(self) -> None:
        """Run one round of refreshes and retries."""
        try:
            await self._flush_pending_writes()
            for job_id, refresh in list(self._running.items()):
                try:
                    await refresh()
                except Exception:  # noqa: BLE001  one job must not keep the others from being refreshed
                    _log.exception("job %s could not be refreshed", job_id)
        finally:
            self._timer = None
            if self._running or self._pending_writes:
                self._schedule()

    async def _flush_pending_writes(self) -> None:
        for job_id, write in list(self._pending_writes.items()):
            try:
                await self._services.in_store(write)
            except JobNotFound:
                _log.warning("the record of job %s is gone", job_id)
            except Exception as error:  # noqa: BLE001  one job must not keep the others from being written
                _log.warning("the end of job %s still cannot be written: %s", job_id, error)
                continue
            del self._pending_writes[job_id]

    def stop(self) -> None:
        """Begin no more rounds."""
        self._closed = True

    async def close(self) -> None:
        """Wait for the current round, and write the pending ends that can be written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._flush_pending_writes()
