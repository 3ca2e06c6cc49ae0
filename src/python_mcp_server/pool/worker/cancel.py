"""How a cancel reaches exactly one body inside a worker.

The control thread asks; a signal wakes the main thread; the handler raises `JobCancelled` there, once,
and only while the interrupted code is the body's own: between two halves of a write, our code is not to be
interrupted. There the handler leaves the cancel pending. It is raised by `raise_pending`, which the functions
that a body calls end with, because a body may spend nearly all its time in them; and the control thread sends
the signal again.

An async body gets `task.cancel()`, which waits for the loop to turn. A body that never lets it turn, because
what it awaits never waits, hears of the cancel through `raise_pending` too.
"""

from __future__ import annotations

import _thread
import inspect
import os
import signal
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from python_mcp_server import processes
from python_mcp_server.pool.start import RAW

if TYPE_CHECKING:
    import asyncio

SIGNAL: Final = int(signal.SIGINT if sys.platform == "win32" else signal.SIGTERM)
_set_handler: Final = RAW.signal
_handler: Final = RAW.getsignal

_PACKAGE: Final = str(Path(__file__).resolve().parents[2])
_OWN_CODE: Final = tuple(
    os.path.join(_PACKAGE, name)
    for name in ("context.py", "atomic.py", "pool" + os.sep, "store" + os.sep, "jobs" + os.sep)
)


class CancelGate:
    """Is open while a body runs; carries at most one cancel to it."""

    def __init__(self) -> None:
        self._entry: CodeType | None = None
        self._job_id: str | None = None
        self._wanted: str | None = None
        self._requested = False
        self._pending = False
        self._delivered = False
        self._task: asyncio.Future[Any] | None = None
        self._finishing = self._going = False
        self._handler = self._on_signal
        self._pid = os.getpid()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_default_in_child)

    def enter(self, job_id: str, entry: CodeType) -> None:
        """Open for a body that `entry`, a function's code, is about to call.

        Raises:
            JobCancelled: The cancel came before the body.
        """
        self._entry = entry
        self._requested = self._pending = self._delivered = False
        self._task = None
        if _handler(SIGNAL) is not self._handler:  # the last body may have set its own handler
            _set_handler(SIGNAL, self._handler)
        self._job_id = job_id
        if self._wanted == job_id:
            self._raise()

    def leave(self) -> None:
        """Close the gate: no cancel is raised from here on."""
        self._job_id = None

    def ended_by(self, error: BaseException) -> bool:
        """Whether this exception of the body is the cancel that was delivered."""
        return self._delivered and any(kind.__name__ == "CancelledError" for kind in type(error).__mro__)

    def told(self) -> bool:
        """Whether the present body was told to end; raises a cancel that waits for the thread that asks.

        Raises:
            JobCancelled: As `raise_pending`.
        """
        self.raise_pending()
        return self._delivered or (self._pending and self._task is not None)

    def deliver_to(self, task: asyncio.Future[Any], entry: CodeType) -> None:
        """Cancel this task instead of raising an exception: the body is async, and `entry` runs its loop."""
        self._entry, self._task = entry, task
        if self._pending:
            self._cancel_soon(task)

    def raise_pending(self) -> None:
        """Raise the cancel that came while our code ran, where this code returns to the body. It is raised in
        the body's own thread and task only, and not where the body was called back in the middle of our code.

        Raises:
            JobCancelled: The present body was told to end.
        """
        if self._pending and threading.current_thread() is threading.main_thread() and self._in_task():
            frame = inspect.currentframe()
            while frame is not None and frame.f_code.co_filename.startswith(_OWN_CODE):
                frame = frame.f_back
            if self._inside_body(frame):
                self._raise()

    def _in_task(self) -> bool:
        return self._task is None or sys.modules["asyncio"].current_task() is self._task

    def request(self, job_id: str) -> bool:
        """Ask, from another thread, that this job's body is cancelled; ask again until False. A body that has
        not begun yet is cancelled as soon as it begins.

        Returns:
            Whether the body runs and has not received the cancel yet.
        """
        self._wanted = job_id
        if self._job_id != job_id or self._delivered:
            return False
        self._requested = True
        if sys.platform == "win32":
            _thread.interrupt_main(SIGNAL)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
        return True

    @property
    def cancelling(self) -> bool:
        """Whether the present body is being told to end."""
        return self._requested and self._job_id is not None

    @property
    def cancelled(self) -> bool:
        """Whether the present body was told to end, by its server or by a signal of another process."""
        return self._job_id is not None and (self._requested or self._pending or self._delivered)

    def request_present(self) -> None:
        """Do as `request` does, for the body that runs now, if there is one."""
        if (job_id := self._job_id) is not None:
            self.request(job_id)

    def finish(self) -> None:
        """Note that the last body has ended and its end must still be written: SIGTERM no longer interrupts
        that, `Termination` handles it. Only the main thread calls this.
        """
        self._finishing = True
        _set_handler(SIGNAL, self._handler)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        if self._job_id is None:
            if not (self._requested or self._finishing or self._going):
                self.go()
            return
        if self._delivered:
            return
        if self._task is None and self._inside_body(frame):
            self._raise()
        if self._task is not None and not self._pending:
            self._cancel_soon(self._task)
        self._pending = True

    def _cancel_soon(self, task: asyncio.Future[Any]) -> None:
        def cancel() -> None:
            if self._pending and self._task is task:
                self._pending, self._delivered = False, True
                task.cancel()

        task.get_loop().call_soon_threadsafe(cancel)

    def go(self) -> NoReturn:
        """Exit while idle, as SIGTERM demands. First end the processes that bodies have left running, because
        no other process finds hidden orphans once they are no longer below this process.
        """
        self._going = True
        try:
            processes.kill_tree(self._pid, with_root=False)
        finally:
            os._exit(128 + SIGNAL)

    def _raise(self) -> None:
        self._pending, self._delivered = False, True
        from python_mcp_server.cancelled import JobCancelled

        raise JobCancelled("the job was cancelled")

    def _inside_body(self, frame: FrameType | None) -> bool:
        depth = 0
        while frame is not None:
            if frame.f_code is self._entry:
                return depth > 0
            if frame.f_code.co_filename.startswith(_OWN_CODE):
                return False
            frame, depth = frame.f_back, depth + 1
        return False


def _default_in_child() -> None:
    """Reset SIGTERM in a process that the body forks, so that it ends as any other process."""
    signal.signal(SIGNAL, signal.SIG_DFL)
