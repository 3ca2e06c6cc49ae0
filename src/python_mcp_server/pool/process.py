"""One worker process: how it is started through loky, how its end is noticed, how the program detaches from
it.

loky breaks a whole executor when one of its workers dies, and cannot cancel what runs. So each worker is the
one process of an executor of its own, and a death or a kill touches no other. loky makes exactly one call
here, the worker's `serve`; everything else goes through the channel.

With `start` this is the only module that uses names which are private to other projects. They are
`_processes` (loky's executor), `_threads_wakeups` (loky's module) and `_register_atexit` (threading). Beside
them `process_pool_executor_at_exit` (loky's module) is set. What breaks without each is said by
`tests/unit/pool/test_privates.py`.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false, reportAttributeAccessIssue=false
# (loky has no types, and this is the place for what is private)

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import uuid
import weakref
from array import array
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import loky
from loky import process_executor

from python_mcp_server import processes
from python_mcp_server.pool.protocol import WINDOWS, Kind, close_ends, open_channel, pack
from python_mcp_server.pool.start import WorkerContext
from python_mcp_server.pool.steady import never_free
from python_mcp_server.pool.worker import serve, start
from python_mcp_server.pool.worker.streams import early_log, remove_logs
from python_mcp_server.processes.inherited import open_standard_descriptors

if TYPE_CHECKING:
    import asyncio


_log: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.1
"""Between two looks at a worker where there are no pidfds."""


class DeathWatch:
    """Watches one worker process, and calls `on_death` once, on the event loop, when the process dies."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, on_death: Callable[[], None]) -> None:
        self.pidfd = -1
        self._loop = loop
        self._pid = pid
        self._on_death = on_death
        self._over = False

    def start(self) -> None:
        """Start watching; for a worker that is dead already `on_death` is called at once."""
        if hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(self._pid)
            except ProcessLookupError:
                self._tell()
                return
            except OSError as error:
                _log.warning("process %s is polled for its end: %s", self._pid, error)
        if self.pidfd >= 0:
            self._loop.add_reader(self.pidfd, self._tell)
        else:
            self._loop.call_later(_POLL_S, self._poll)

    def _tell(self) -> None:
        if not self._over:
            self._stop()
            self._on_death()

    def _poll(self) -> None:
        if self._over:
            return
        try:
            alive = processes.identify(self._pid) is not None
        except OSError:
            alive = True  # nothing is known for now: there are no descriptors for the look
        if alive:
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._tell()

    def _stop(self) -> None:
        self._over = True
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)

    def close(self) -> None:
        """Stop watching, and close the pidfd."""
        self._stop()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


_REAP_POLL_S: Final = 0.002
_REAP_WAIT_S: Final = 1.0


class WorkerProcess:
    """A loky executor with one worker, from which the program can detach, which loky does not offer.

    Attributes:
        worker_id: The id that the process carries in its environment.
        pid: The pid of the process.
        server_pipes: The program's ends of the wires.
        ready: Whether the worker has reported that it takes calls.
    """

    def __init__(self, log_folder: Path, is_heard: Callable[[], bool] = bool) -> None:
        """Start the process. Blocks for some 20 ms.

        Args:
            log_folder: The folder for the worker's output.
            is_heard: Returns whether the worker's frames are still read; called at the end of the
                interpreter.

        Raises:
            OSError: The machine has no process, memory or descriptors left, or the interpreter file is gone.
            RuntimeError: The interpreter is ending.
        """
        self.worker_id = uuid.uuid4().hex
        self._parted = self.ready = False
        self._is_heard = is_heard
        self._log_folder = log_folder
        self._context = WorkerContext(early_log(log_folder))
        open_standard_descriptors()
        self.server_pipes, worker_ends = open_channel(self._context)
        self._loky = loky.ProcessPoolExecutor(
            1,
            context=self._context,
            initializer=start,
            initargs=(worker_ends, str(log_folder), os.getpid()),
            env={processes.WORKER_VARIABLE: self.worker_id, **processes.worker_variables()},
        )
        self._calls_in = worker_ends.calls  # kept open, to count the unread bytes: see `unread`
        try:
            with _exit.starting(self):
                self._loky.submit(serve).add_done_callback(_consume_exception)
                self._process: Any = self._context.worker
                self._process.close_ends(in_worker=False)
                self.pid: int = self._process.pid
        except BaseException:
            self._abort_start()
            raise
        finally:
            worker_ends.control.close()
            worker_ends.up.writer.close()

    def _abort_start(self) -> None:
        """Clean up a start that failed halfway: there may be a process without a managing thread of loky."""
        worker = self._context.worker
        if worker is not None and worker.pid is not None:
            _end(worker)
        self._parted = True
        self._shut_down()
        self._close_wires()

    def _shut_down(self) -> None:
        """End loky's threads, which have no process to kill or to join."""
        self._loky._processes.clear()
        self._loky.shutdown(wait=False, kill_workers=True)

    def unread(self) -> int:
        """Return how many bytes of calls the worker has not read; 0 where that cannot be known."""
        if sys.platform == "win32" or self._calls_in.closed:
            return 0
        import fcntl
        import termios

        count = array("i", [0])
        fcntl.ioctl(self._calls_in.fileno(), termios.FIONREAD, count)
        return count[0]

    def exit_code(self, wait_s: float) -> int | None:
        """Return the worker's exit code, once loky has reaped the worker."""
        deadline = time.monotonic() + wait_s
        while self._process.exitcode is None and time.monotonic() < deadline:
            time.sleep(_REAP_POLL_S)
        code: int | None = self._process.exitcode
        return code

    def end_unready(self) -> None:
        """Kill a process that is not ready. It has run nothing, so there is no tree to look for."""
        _end(self._process)

    def orphan(self) -> None:
        """Detach from the process: it is no longer joined or killed, and is told so. A detached job is then
        finished and committed by its worker; any other worker exits. Any thread may call this, more than
        once.
        """
        if self._parted:
            return
        self._parted = True
        self._detach()
        self._send_free()
        self._close_wires()
        if not _exit.ended:
            self._reap_later()

    def orphan_at_exit(self) -> None:
        """Do as `orphan`, but a loop that another thread runs keeps its wires until the process ends."""
        if not self._is_heard():
            self.orphan()
        elif not self._parted:
            self._detach()

    def leave_to_parent(self) -> None:
        """Leave the worker to the parent, in a child that the program has forked. The end of this object
        would wait for threads and locks of the parent.
        """
        self._parted = True
        never_free(self)

    def _detach(self) -> None:
        """Keep all code here from joining or killing the process."""
        if not self.ready:  # it has nothing to finish
            _end(self._process)
            remove_logs(str(self._log_folder))
        self._process.parted = True
        self._shut_down()

    def _send_free(self) -> None:
        """Send the worker an explicit frame: a process that the program has forked holds copies of the wires,
        and while that process lives, closing them has no effect.
        """
        try:
            if WINDOWS:
                self.server_pipes.control.send_bytes(Kind.FREE)
            else:
                os.write(self.server_pipes.control.fileno(), pack(Kind.FREE))
        except OSError as error:
            _log.debug("worker %s does not hear that it is free: %s", self.pid, error)

    def _reap_later(self) -> None:
        """Reap the process when it ends, because it is still our child and would stay a zombie."""
        try:
            threading.Thread(target=self._process.reap, name=f"reap-{self.pid}", daemon=True).start()
        except RuntimeError as error:
            _log.warning("worker %s stays a zombie when it ends: %s", self.pid, error)

    def _close_wires(self) -> None:
        close_ends(self.server_pipes)
        self._calls_in.close()

    def close(self) -> None:
        """Free the resources of a worker that is gone."""
        if not self._parted:
            self._parted = True
            self._loky.shutdown(wait=False, kill_workers=True)
            self._close_wires()


def _end(process: Any) -> None:
    """Kill a process of loky that has no call, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, processes.KILL)
    process.join()


def _consume_exception(future: Any) -> None:
    """Consume the exception of `serve`. It never returns; its future fails when the process exits."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.debug("a worker ended: %s", type(error).__name__)


class _Exit:
    """The end of the interpreter, and of a child that the program has forked.

    loky would join its workers at the end of the interpreter, and so wait for every detached job. Hooks of
    `threading` run last in, first out, so ours is added after loky's. loky means to add its hook once, but
    notes None for that, and would add another with every executor: so we note it after the first start.
    `atexit` itself comes too late, after the joins.

    A forked child has copies of all this. Its end must not reach the workers of its parent.
    """

    def __init__(self) -> None:
        self._hooked = False
        self._start_over()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._alive: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()
        self._starting: WorkerProcess | None = None
        self.ended = False

    def _forget(self) -> None:
        for worker in [*self._alive, *([self._starting] if self._starting else [])]:
            worker.leave_to_parent()
        process_executor._threads_wakeups.clear()  # as loky does itself after a fork by multiprocessing
        self._start_over()

    @contextlib.contextmanager
    def starting(self, executor: WorkerProcess) -> Generator[None]:
        """Start a process in this block; the end of the interpreter waits for the start, and detaches from
        the process.

        Raises:
            RuntimeError: The interpreter is ending.
        """
        with self._lock:
            self._register()  # before the start too: the interpreter may end while there is no hook yet
            self._starting = executor
            try:
                yield
                self._alive.add(executor)
                process_executor.process_pool_executor_at_exit = self
            finally:
                self._starting = None
                self._register()
            self._hooked = True

    def _register(self) -> None:
        if not self.ended:
            if self._hooked:
                return
            with contextlib.suppress(RuntimeError):
                threading._register_atexit(self._orphan_all)
                return
            self._orphan_alive()  # the end began this instant: loky's hook may be running, and waits for them
        raise RuntimeError("the interpreter is ending and starts no more workers")

    def _orphan_all(self) -> None:
        with self._lock:
            self._orphan_alive()

    def _orphan_alive(self) -> None:
        self.ended = True
        with contextlib.ExitStack() as each:  # one that fails must not leave the others for loky to join
            for executor in list(self._alive):
                each.callback(executor.orphan_at_exit)


_exit: Final = _Exit()
"""One hook for the process, as loky's own."""


def exit_code_of(pidfd: int, executor: WorkerProcess | None) -> int | None:
    """Return the exit code, negative for a signal. It is not reaped, because loky waits for its children."""
    if pidfd >= 0:
        try:
            status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            status = None  # loky was quicker
        if status is not None:
            return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
    return executor.exit_code(_REAP_WAIT_S) if executor else None
