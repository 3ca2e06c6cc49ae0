"""The workers of one event loop: warm spares, growth on demand, shrinking when idle, admission, back-off.

                     ┌───────────────────────── server (one event loop) ────────────────────────┐
    JobRun ──▶ Pool.take ──▶ handle.dispatch ── calls ────────────▶ worker: body ──▶ child
        ▲           │             │          ── detach, cancel ───▶ its control thread
        │           │             ◀── progress, outcome (one queue) ─ in order
        │           │             ◀── pidfd: death ──────────────────
        │     spares, queue
        └── release, detach, end_tree          Sampler ◀─ usage ─── the worker's tree

The pool limits the workers that a caller waits for (`max_workers`). Background jobs are admitted by `jobs`,
for all servers of a home together. `detach` moves a worker from the first to the second, and never fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import PoolClosed, WorkerUnavailable
from python_mcp_server.pool.backoff import FIRST_S, StartBackoff
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.main_module import MainFile, MainModule
from python_mcp_server.pool.monitor import LimitMonitor, Sampler
from python_mcp_server.pool.steady import let_lie, steady_task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from python_mcp_server.settings import Settings


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for a worker."""

    background: bool
    worker: asyncio.Future[WorkerHandle]
    set_reason: Callable[[str], object] = bool


class Admission:
    """The limit of a pool, beside the workers that count."""

    def __init__(self, limit: int, busy: Collection[WorkerHandle]) -> None:
        self._limit = limit
        self._busy = busy

    def admits(self, *, background: bool) -> bool:
        """Whether one more call of this kind may have a worker."""
        return background or self._room > 0

    def refusal(self) -> str | None:
        """Return why a call with a caller must wait, or None if it need not wait."""
        if self._room > 0:
            return None
        return f"waiting for a free worker: {len(self._busy)} calls run, the limit is {self._limit}"

    def count(self, waiting: Iterable[Waiter]) -> int:
        """Return how many of the waiting calls may have a worker now."""
        kinds = [waiter.background for waiter in waiting]
        return kinds.count(True) + min(kinds.count(False), max(0, self._room))

    @property
    def _room(self) -> int:
        return max(1, self._limit) - len(self._busy)


_log: Final = logging.getLogger(__name__)
_THREADS: Final = 8
"""For starts and kills: each is short, and none may wait behind another for long."""

_LARGE_THREADS: Final = 2
"""For values that take long to pickle: pickling holds the interpreter most of the time, so more threads would
not help.
"""

_SENDING_S: Final = 10.0
"""How long a close waits for large arguments; guessed: only a stopped worker takes longer."""

_SENDING_POLL_S: Final = 0.005


class Pool:
    """The workers of one event loop. The pool is not thread-safe: all methods belong to that loop. `prefix`
    begins the names of its workers, so that several pools can share a home.
    """

    def __init__(
        self,
        settings: Settings,
        worker_folder: Callable[[str], Path],
        prefix: str,
        main: MainModule | None = None,
    ) -> None:
        self.main = main or MainModule()
        self.sampler = Sampler(settings.sample_seconds)
        self.limiter = LimitMonitor()
        self._settings = settings
        self._worker_folder = worker_folder
        self._prefix = prefix
        self.loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pool")
        self._large = ThreadPoolExecutor(_LARGE_THREADS, thread_name_prefix="pool-large")
        self._numbers = count(1)
        self._modules = ["python_mcp_server.cancelled"]  # with asyncio: a cancel must not wait for it
        self._main_file: MainFile | None = None
        self._idle: list[WorkerHandle] = []
        self._busy: set[WorkerHandle] = set()
        self._background: set[WorkerHandle] = set()
        self._admission = Admission(settings.max_workers, self._busy)
        self._retired: set[WorkerHandle] = set()
        self._generation = 0
        self._starting = 0
        self._unready: set[WorkerHandle] = set()
        self._deaths = StartBackoff()
        self._failed_starts = StartBackoff()
        self._untold_failures = 0
        self._waiting: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def workers(self) -> Iterable[WorkerHandle]:
        """Return all workers that have a process."""
        return [*self._idle, *self._busy, *self._background, *self._retired]

    def preload(self, module: str) -> None:
        """Let new workers load this module in their idle time."""
        if module not in self._modules:
            self._modules.append(module)

    def preload_main(self, main: MainFile) -> None:
        """Let new workers load the main module in their idle time."""
        self._main_file = main

    def renew(self) -> None:
        """Give the present workers no more calls: modules that they have loaded may be others now."""
        self._generation += 1
        behind, self._idle = self._idle, []
        for worker in behind:
            self._spawn(self._end_worker(worker), "worker-renewal")

    def warm(self) -> None:
        """Start the missing workers: the spares, and one for each call that waits and is admitted."""
        now = self.loop.time()
        if self._closed or (self._failed_starts.active(now) and self._has_workers):
            return
        resting = self._deaths.active(now) or self._failed_starts.failing
        spares = 0 if resting else self._settings.spare_workers
        missing = self._admission.count(self._waiting) + spares - len(self._idle) - self._starting
        for _ in range(missing):
            self._begin_start()

    def _begin_start(self) -> None:
        self._starting += 1
        start = self._spawn(self._start_worker(), "worker-start")
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    def try_again(self) -> None:
        """Start a worker if none could be started lately and the back-off is over: there are no spares until
        a start succeeds, so without a call the trouble would seem to last.
        """
        now = self.loop.time()
        resting = self._deaths.active(now) or self._failed_starts.active(now)
        if self.trouble is not None and not (self._closed or resting or self._starting):
            self._begin_start()

    @property
    def start_delay_s(self) -> float:
        """Return how long to wait before a worker is started again after one that could not be started."""
        return max(FIRST_S, self._failed_starts.left_s(self.loop.time()))

    @property
    def trouble(self) -> str | None:
        """Return why no worker could be started lately, or None where one is idle or nothing failed."""
        if self._idle:
            return None
        if self._failed_starts.failing:
            return self._failed_starts.reason
        return self._deaths.reason if self._deaths.failing_on else None

    @property
    def is_empty(self) -> bool:
        """Whether there is no worker, idle or not."""
        return not (self._idle or self._busy or self._background)

    def full(self) -> str | None:
        """Return why a call with a caller must wait for a worker, or None if it need not wait."""
        return self._admission.refusal()

    def take_idle(self, *, background: bool = False) -> WorkerHandle | None:
        """Return an idle worker at once, or None; the spare is replaced in the background."""
        if self._closed:
            raise PoolClosed("the pool is closed and takes no more calls")
        if not self._idle or self._waiting or not self._admission.admits(background=background):
            return None
        worker = self._idle.pop()
        (self._background if background else self._busy).add(worker)
        if len(self._idle) < self._settings.spare_workers:
            self.loop.call_soon(self.warm)
        return worker

    async def take(
        self, *, background: bool = False, set_reason: Callable[[str], object] = bool
    ) -> WorkerHandle:
        """Return the next free worker; callers are served in order.

        Args:
            background: Whether no caller waits for the call.
            set_reason: Gets the reason of each failed start, while the call waits for the next one.

        Raises:
            PoolClosed: The pool was closed meanwhile.
            WorkerUnavailable: The machine gives no process, and no worker exists that the call could wait
                for.
        """
        if (worker := self.take_idle(background=background)) is not None:
            return worker
        waiter = Waiter(background, self.loop.create_future(), set_reason)
        self._waiting.append(waiter)
        self.warm()
        try:
            return await waiter.worker
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.worker.done() and not waiter.worker.cancelled() and waiter.worker.exception() is None:
            self.release(waiter.worker.result())

    def release(self, worker: WorkerHandle) -> None:
        """Take back a worker whose call is settled."""
        worker.finished()
        self._busy.discard(worker)
        self._background.discard(worker)
        if self._closed or worker.gone:
            return
        if worker.retired:  # a kill has failed: the worker gets no call, and the kill is repeated
            self._retired.add(worker)
            self._spawn(self._end_worker(worker), "worker-end")
            self.loop.call_soon(self.warm)
            return
        self._deaths.reset()
        self._take_in(worker)

    def _take_in(self, worker: WorkerHandle) -> None:
        """Put a worker back among the idle ones, or end it if it is outdated."""
        if worker.generation != self._generation:
            self._spawn(self._end_worker(worker), "worker-renewal")
            self.loop.call_soon(self.warm)
            return
        self._idle.append(worker)
        if self._waiting:
            self._serve_waiting()
        if self._idle_timer is None and len(self._idle) > self._settings.spare_workers:
            self._idle_timer = self.loop.call_later(self._settings.worker_idle_seconds, self._shrink)

    def detach(self, worker: WorkerHandle) -> None:
        """Count this worker as background from now on, so that the next call may have a worker."""
        if worker in self._busy:
            self._busy.discard(worker)
            self._background.add(worker)
            self._serve_waiting()

    async def end_tree(self, worker: WorkerHandle) -> list[int]:
        """End a worker with all that it started; return the pids that did not end. `release` comes next."""
        if worker.gone:
            return []
        try:
            survivors = await worker.kill()
        except Exception:  # noqa: BLE001  the end of its job must be told all the same
            _log.exception("worker %s could not be ended", worker.name)
            return [worker.pid]
        if survivors:
            _log.warning("worker %s: these processes would not end: %s", worker.name, survivors)
        return survivors

    async def all_sent(self) -> None:
        """Wait until the calls of detached jobs are in their pipes, because a close would cut them off."""
        deadline = self.loop.time() + _SENDING_S
        for worker in [worker for worker in self.workers if worker.detached]:
            while worker.detached and worker.sending and self.loop.time() < deadline:  # noqa: ASYNC110  rare
                await asyncio.sleep(_SENDING_POLL_S)

    async def close(self) -> None:
        """End every worker whose job is not detached; release the others."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.worker.done():
                waiter.worker.set_exception(
                    PoolClosed("the pool was closed while the call waited for a worker")
                )
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        detached = [worker for worker in self.workers if worker.detached and not worker.gone]
        others = [worker for worker in self.workers if not worker.detached and not worker.gone]
        for start in self._starts:
            start.cancel()  # a worker that is not ready is ended, not waited for
        for worker in detached:
            worker.orphan()
        await asyncio.gather(*(worker.kill() for worker in others), *self._tasks, return_exceptions=True)
        # these threads remove the workers' files: the process may end right after this
        try:
            await asyncio.to_thread(self._threads.shutdown)
        except RuntimeError as error:  # the interpreter is ending: no thread is available
            _log.info("what the workers left is not waited for: %s", error)
        self._forget()

    def abandon(self) -> None:
        """Release the workers of a loop that was closed without its manager: detached jobs run on and are
        committed by their workers, other workers exit. Any thread may call this.
        """
        self._closed = True
        for worker in [*self.workers, *self._unready]:
            worker.abandon()
        self._forget()

    def abandon_tasks(self) -> None:
        """Leave the rest to the workers, because the loop ends: they notice that this process is gone."""
        let_lie(self._tasks)

    def _forget(self) -> None:
        self._idle.clear()
        self._busy.clear()
        self._background.clear()
        self._retired.clear()
        self.sampler.close()
        self.limiter.close()
        self._threads.shutdown(wait=False)
        self._large.shutdown(wait=False)

    # ---- inside

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = steady_task(self.loop, work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start_worker(self) -> None:
        try:
            try:
                worker = await self._started_worker()
            finally:
                self._starting -= 1
        except Exception as error:  # noqa: BLE001  no process to be had, in whatever way
            self._on_start_failed(error)
            return
        self._failed_starts.reset()
        self._untold_failures = 0
        if worker.gone:
            return
        if self._closed:
            await self._end_worker(worker)
        else:
            self._take_in(worker)

    async def _started_worker(self) -> WorkerHandle:
        name = f"{self._prefix}-{next(self._numbers)}"
        worker = WorkerHandle(
            name,
            self._worker_folder(name),
            self._threads,
            self._large,
            self._on_gone,
            generation=self._generation,
            main=self.main,
            on_main_failed=self._on_main_failed,
        )
        self._unready.add(worker)
        try:
            await worker.start(list(self._modules) if self._deaths.preloading else [])
        except GeneratorExit:
            raise  # the loop is gone, so the worker cannot be ended here
        except BaseException:
            if not worker.gone:
                await self._end_worker(worker)
            raise
        finally:
            self._unready.discard(worker)
        if self._main_file is not None:
            worker.tell_main(self._main_file)
        return worker

    def _on_main_failed(self, worker: WorkerHandle) -> None:
        """End a worker that failed to load the main module, because its state is unknown."""
        if self.main.trouble is not None:
            self._main_file = None
        if worker in self._idle:
            self._idle.remove(worker)
        if not worker.gone:
            self._spawn(self._end_worker(worker), "worker-end")

    @property
    def _has_workers(self) -> bool:
        """Whether a worker exists that a call may wait for."""
        return bool(self._idle or self._busy or self._background or self._starting)

    def _on_start_failed(self, error: Exception) -> None:
        """Try again later; where no worker exists to wait for, fail one call for each failed start."""
        _log.warning("no worker could be started: %s", error)
        self._untold_failures += 1
        self.loop.call_later(self._failed_starts.failed(self.loop.time(), str(error)), self.warm)
        for waiter in self._waiting:
            waiter.set_reason(f"waiting to start: {_unavailable(error)}")
        if self._has_workers:
            return
        for waiter in list(self._waiting):
            if self._untold_failures and self._admission.admits(background=waiter.background):
                self._waiting.remove(waiter)
                if not waiter.worker.done():
                    self._untold_failures -= 1
                    waiter.worker.set_exception(_unavailable(error))
        self._untold_failures = 0
        if self._admission.count(self._waiting):
            self.loop.call_soon(self.warm)  # the other calls get their own try

    def _serve_waiting(self) -> None:
        for waiter in list(self._waiting):
            if not self._idle:
                break
            if waiter.worker.done():
                self._waiting.remove(waiter)
            elif self._admission.admits(background=waiter.background):
                self._waiting.remove(waiter)
                worker = self._idle.pop()
                (self._background if waiter.background else self._busy).add(worker)
                waiter.worker.set_result(worker)
        self.warm()

    def _on_gone(self, worker: WorkerHandle) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            if not self._closed:
                _log.info("idle worker %s is gone, another takes its place", worker.name)
        for workers in (self._busy, self._background, self._retired):
            workers.discard(worker)
        if self._closed:
            return
        if worker.died_unused and not worker.retired:
            reason = f"worker {worker.name} died before its first call"
            self.loop.call_later(self._deaths.failed(self.loop.time(), reason), self.warm)
        self.loop.call_soon(self.warm)

    def _shrink(self) -> None:
        self._idle_timer = None
        surplus = max(0, len(self._idle) - self._settings.spare_workers)
        longest_idle, self._idle = self._idle[:surplus], self._idle[surplus:]
        for worker in longest_idle:
            self._spawn(self._end_worker(worker), "worker-shrink")

    async def _end_worker(self, worker: WorkerHandle) -> None:
        await self.end_tree(worker)


def _unavailable(error: Exception) -> WorkerUnavailable:
    unavailable = WorkerUnavailable(
        f"no worker process could be started: {error}; "
        "the home must be writable, and the machine must have processes, memory and descriptors left"
    )
    unavailable.__cause__ = error
    return unavailable
