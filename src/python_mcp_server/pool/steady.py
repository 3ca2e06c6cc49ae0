"""Background work: tasks that the end of `asyncio.run` does not cancel, and blocking calls that run without a
waiter. The pool and `jobs` use this module.

`asyncio.run` cancels every task it knows and only then ends the async generators, which is when our own close
runs. A settle or a cancel that is cut off then would leave a job `running` for ever; so such tasks are taken
off asyncio's list, and their owner awaits them when it closes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor, Future
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


def steady_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Return a task that only its owner cancels."""
    task = loop.create_task(work, name=name)
    asyncio.tasks._unregister_task(task)  # noqa: SLF001  documented in "Extending"
    return task


def let_lie(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Let these tasks end unfinished with the process: asyncio complains of one destroyed before."""
    for task in tasks:
        never_free(task)


def never_free(thing: object) -> None:
    """Keep an object until the process ends, also from the interpreter's last collection."""
    import ctypes  # costs 5 ms, and is needed only at the end

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class _Once(Generic[T]):
    """A blocking call that runs at most once, although an executor keeps a call that it has refused.

    `ThreadPoolExecutor.submit` queues the call before it starts a thread for it. Where the system gives no
    thread, the caller gets an error, yet the next thread of the executor runs the call.
    """

    __slots__ = ("_args", "_turn", "_work", "outcome")

    def __init__(self, work: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._work = work
        self._args = args
        self._turn = threading.Lock()
        self.outcome: Future[T] = Future()

    def __call__(self) -> T | None:
        if self.take():
            self._run()
            return self.outcome.result()
        return None

    def _run(self) -> None:
        try:
            self.outcome.set_result(self._work(*self._args))
        except BaseException as error:  # noqa: BLE001  as an executor does
            self.outcome.set_exception(error)

    def take(self) -> bool:
        """Return whether the asker may run or drop the call; true once."""
        return self._turn.acquire(blocking=False)


def to_thread(
    loop: asyncio.AbstractEventLoop, threads: Executor | None, work: Callable[..., T], *args: Any
) -> asyncio.Future[T]:
    """Run a blocking call in a thread of this executor, or of the loop's own.

    Raises:
        RuntimeError: No thread is available; the call does not run, now or later.
    """
    once = _Once(work, args)
    try:
        return cast("asyncio.Future[T]", loop.run_in_executor(threads, once))
    except RuntimeError:
        if once.take():
            raise
    return asyncio.wrap_future(once.outcome, loop=loop)  # another thread was quicker than the refusal


def in_thread(
    loop: asyncio.AbstractEventLoop, threads: Executor | None, work: Callable[..., T], *args: Any
) -> asyncio.Future[T]:
    """Run a blocking call in a thread, or at once in this thread where none is available: the interpreter
    starts no threads after its main thread has ended.
    """
    try:
        return to_thread(loop, threads, work, *args)
    except RuntimeError as error:
        _log.info("no thread is to be had, the loop stands still meanwhile: %s", error)
        return asyncio.wrap_future(done(work, *args), loop=loop)


def done(work: Callable[..., T], *args: Any) -> Future[T]:
    """Run the call now, and return a future with its result or exception."""
    future: Future[T] = Future()
    try:
        future.set_result(work(*args))
    except Exception as error:  # noqa: BLE001  as an executor does
        future.set_exception(error)
    return future


def in_background(
    loop: asyncio.AbstractEventLoop, threads: Executor, work: Callable[..., object], *args: Any
) -> None:
    """Run a blocking call in a thread; its failure is logged."""
    try:
        future = to_thread(loop, threads, work, *args)
    except RuntimeError as error:  # the system gives no thread, or the interpreter is ending
        _log.info("left undone: %s", error)
        return
    future.add_done_callback(_note)


def _note(future: asyncio.Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.warning("work in the background failed: %s: %s", type(error).__name__, error)
