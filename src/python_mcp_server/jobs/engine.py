"""What one event loop holds of the manager: its pool, its live attempts, its threads for the store."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.slots import BackgroundSlots
from python_mcp_server.jobs.takeover import Takeover
from python_mcp_server.model import MB, JobState
from python_mcp_server.pool import start
from python_mcp_server.pool.pool import Pool
from python_mcp_server.pool.steady import in_background, in_thread, let_lie, steady_task
from python_mcp_server.store.files import FileJobStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from python_mcp_server.jobs.budget import BudgetTimer
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.run import JobRun
    from python_mcp_server.model import Job
    from python_mcp_server.pool.main_module import MainModule
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_log: Final = logging.getLogger(__name__)
_REFRESH_S: Final = 1.0
"""Between two writes of a running job's progress and usage: what other processes see of it."""

_STORE_THREADS: Final = 4
_SEARCHES: Final = 2
"""How many patterns are tried at once: one that comes to no end keeps a core busy for seconds."""

_EXIT_GRACE_S: Final = 0.5
"""What bodies get to clean up when the server leaves: clients wait 2 s before they kill."""


class Engine:
    """One event loop's side of a manager; closed with the manager or with the loop."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        live: dict[str, JobRun],
        on_closed: Callable[[Engine], object],
        main: MainModule,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.settings = settings
        self.identity = processes.identify(os.getpid())
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self.grace_s = settings.cancel_grace_seconds
        self.sink: dict[str, Any] | None = None
        if isinstance(store, FileJobStore):  # only what lies in files can be written by a worker
            self.sink = {
                "home": str(store.home),
                "lock_s": settings.lock_seconds,
                "fsync": settings.fsync,
                "grace_s": settings.cancel_grace_seconds,
            }
        self.pool = Pool(settings, store.lane_folder, f"{os.getpid()}-{os.urandom(6).hex()}", main)
        self.places = BackgroundSlots(self, settings.max_background_jobs, settings.min_free_memory_mb * MB)
        self._takeover: Takeover | None = None
        self._live = live
        self._on_closed = on_closed
        self._owed: dict[str, Callable[[], object]] = {}
        self._threads = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store")
        self._searches = ThreadPoolExecutor(_SEARCHES, thread_name_prefix="search")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._detaching: set[asyncio.Task[bool]] = set()
        self._recorded: set[JobRun] = set()
        # a timer, not a task that sleeps: a loop that is closed without us has nothing to complain of
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._end_of_loop: AsyncGenerator[None] | None = None
        self._young: deque[tuple[float, BudgetTimer]] = deque()
        self._aging: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Arrange that the end of the loop closes this front: `asyncio.run` ends the generators."""
        self._end_of_loop = self._until_loop_ends()
        await anext(self._end_of_loop)
        self.in_background(start.sweep)

    def take_over(self, adopt: Callable[[Job, Request], None]) -> None:
        """From now on, start the queued jobs of servers that are gone; `adopt` queues one here."""
        if self.sink is not None:
            self._takeover = Takeover(self, adopt)

    async def _until_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if os.getpid() == self._pid:  # else the program has forked, and this is the loop of its parent
                await self.close()

    # ---- services for attempts

    @property
    def hears(self) -> bool:
        """Whether what workers say is heard: by the running loop, or by who asks in its thread."""
        return self.loop.is_running() or threading.get_ident() == self._thread

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run something beside; its failure is logged, its end awaited at close."""
        task = steady_task(self.loop, work, name)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, StoreError)
        ):
            _log.error("%s failed", task.get_name(), exc_info=error)

    def detach(self, attempt: JobRun) -> None:
        """Hand an attempt over whose caller has left; a close waits for that."""
        task = self.spawn(attempt.hand_over(), f"detach-{attempt.call.job_id}")
        self._detaching.add(task)
        task.add_done_callback(self._detaching.discard)

    async def in_store(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a blocking call to the store in a thread; it goes through even if we are cancelled."""
        return await asyncio.shield(in_thread(self.loop, self._threads, work, *args))

    async def in_search(self, work: Callable[[], T]) -> T:
        """Search in a thread, a few at once; one that waits for its turn is dropped if we are cancelled."""
        return await in_thread(self.loop, self._searches, work)

    def in_background(self, work: Callable[..., object], *args: Any) -> None:
        """Run a blocking call to the store whose end nobody waits for."""
        in_background(self.loop, self._threads, work, *args)

    def age(self, patience: BudgetTimer) -> None:
        """Call `come_of_age` when a record is due. All wait equally long, so one timer serves them
        in turn: a timer each would cost every short call more than its bookkeeping."""
        due_at = self.loop.time() + self.settings.record_after_seconds
        self._young.append((due_at, patience))
        if self._aging is None:
            self._aging = self.loop.call_at(due_at, self._come_of_age)

    def _come_of_age(self) -> None:
        now = self.loop.time()
        try:
            while self._young and (self._young[0][1].over.done() or self._young[0][0] <= now):
                self._young.popleft()[1].come_of_age()
        finally:  # else one failure would switch off the budget of every later call
            self._aging = self.loop.call_at(self._young[0][0], self._come_of_age) if self._young else None

    def recorded(self, attempt: JobRun) -> None:
        """Others can read this job now: keep its record fresh."""
        self._recorded.add(attempt)
        self._keep_refreshing()

    def _keep_refreshing(self) -> None:
        if self._refresh_timer is None and self._closing is None:
            self._refresh_timer = self.loop.call_later(_REFRESH_S, self._begin_refresh)

    def _begin_refresh(self) -> None:
        self._refreshing = self.spawn(self._refresh(), "record-refresh")

    def owe(self, job_id: str, write: Callable[[], object]) -> None:
        """Write the end of a job later: the store fails now, but the outcome must not be lost."""
        self._owed[job_id] = write
        self._keep_refreshing()

    def owes(self, job_id: str) -> bool:
        """Whether the end of this job is known here and waits to be written."""
        return job_id in self._owed

    async def _pay(self) -> None:
        for job_id, write in list(self._owed.items()):
            try:
                await self.in_store(write)
            except JobNotFound:
                _log.warning("the record of job %s is gone", job_id)
            except Exception as error:  # noqa: BLE001  one job must not keep the others from being written
                _log.warning("the end of job %s still cannot be written: %s", job_id, error)
                continue
            del self._owed[job_id]

    def forget(self, attempt: JobRun) -> None:
        """The attempt is settled."""
        if self._live.get(attempt.call.job_id) is attempt:  # not another's, who has taken the job over
            del self._live[attempt.call.job_id]
        self._recorded.discard(attempt)
        self.places.wake()

    async def _refresh(self) -> None:
        try:
            await self._pay()
            for attempt in [a for a in self._recorded if a.live]:
                await self._refresh_one(attempt)
        finally:
            self._refresh_timer = None
            if (self._recorded or self._owed) and not self.loop.is_closed():  # we are let go of with our loop
                self._keep_refreshing()

    async def _refresh_one(self, attempt: JobRun) -> None:
        try:
            attempt.seen.notify()
            job = await attempt.record.refresh()
        except Exception:  # noqa: BLE001  else one job would end the refreshing of all
            _log.exception("job %s could not be refreshed", attempt.call.job_id)
            return
        if job is not None and job.ending == JobState.CANCELLED and attempt.live:
            self.spawn(attempt.cancel(), f"cancel-{job.id}")  # another process asks for it

    # ---- end

    async def close(self) -> None:
        """Cancel what somebody waits for; let handed-over jobs go on, or end them if so set."""
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="manager-close")
        await asyncio.shield(self._closing)

    def give_up(self) -> None:
        """The close took too long, and the loop ends: leave the rest to the workers, which see us gone."""
        let_lie([*self._tasks, *([self._closing] if self._closing else [])])
        self.pool.give_up()

    async def _close(self) -> None:
        self.grace_s = min(self.grace_s, _EXIT_GRACE_S)
        if self._takeover is not None:
            await self._takeover.close()
        await self.places.close()
        if self._detaching:
            await asyncio.wait(self._detaching, timeout=_EXIT_GRACE_S)
        everything = self.settings.on_exit == "cancel" or self.sink is None
        attempts = [attempt for attempt in list(self._live.values()) if attempt.loop is self.loop]
        kept = [] if everything else [attempt for attempt in attempts if attempt.survives]
        lost = [] if everything else [a for a in attempts if a.background and a not in kept]
        doomed = [attempt for attempt in attempts if attempt not in kept and attempt not in lost]
        ends = [*(a.cancel() for a in doomed), *(a.lose() for a in lost)]
        for failed in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(failed, BaseException):
                _log.error("a job could not be ended at the close", exc_info=failed)
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing})
        await self._pay()
        await self._leave(kept)
        await self.in_store(self.store.flush)
        self._threads.shutdown(wait=False)
        self._searches.shutdown(wait=False, cancel_futures=True)
        self._on_closed(self)

    async def _leave(self, kept: list[JobRun]) -> None:
        """Leave these to their workers, and let the pool go; those that end meanwhile are settled."""
        for attempt in kept:
            await attempt.questions.close()
            await attempt.record.set_free()
        await self.pool.all_sent()
        while ending := [attempt for attempt in kept if not (attempt.survives or attempt.concluded)]:
            await asyncio.gather(*(attempt.end() for attempt in ending))
        await self.pool.close()  # from its first step on nothing is heard of the others
        for attempt in kept:
            self.forget(attempt)
