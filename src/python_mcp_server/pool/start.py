"""How loky starts a worker process, adapted to programs that do not meet loky's assumptions.

loky flushes `sys.stdout`, asks for the working directory, starts resource trackers, leaves a worker in the
session of the program, and starts it before there is any data for it to read. The classes here are loky's own
with these changed; nothing of loky is patched. A start does not wait on a pipe for the exec, so a process
that another thread of the program forks meanwhile does not block it.

    program                                       worker
    WorkerProcess.start ── pickled process ──┐    (a pipe)
                        ── fork, exec ───────│──▶ `_BEGIN`: what it prints goes to its log from now on
                                             │    loky's main function
                                             └──▶ `_arrive`: a session of its own, signals, priority
                                                  `worker.start`, which loky calls its initializer

Between exec and `_arrive` lie 60 ms in which a signal to the group of the program reaches the worker too. The
worker has every signal blocked until it arrives, and nothing to lose: no call is sent to a worker that is not
ready.

With `process` this is the only module of the package `pool` that uses names which are private to other
projects. They are `_Popen`, `_inheriting` (multiprocessing's process), `_reader`, `_writer`, `_semlock` (its
queue), `_data` (`os.environ`) and the module `_signal`; `tests/unit/pool/test_privates.py` says what breaks
without each.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false, reportPrivateUsage=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false
# (loky has no types, and this is the place for what is private)

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing import process as mp_process
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.context import set_spawning_popen
from typing import Any, Final, cast

from loky.backend import reduction
from loky.backend.context import LokyContext
from loky.backend.process import LokyProcess
from loky.backend.queues import SimpleQueue

from python_mcp_server import processes
from python_mcp_server.processes import inherited

RAW: Final[Any] = importlib.import_module("_signal")
"""Without the wrappers of `signal`, which spend 3 us at a time on turning numbers into enums."""

_BEGIN: Final = """\
import os, sys
log = int(sys.argv.pop(1))
os.dup2(log, 1), os.dup2(log, 2), os.close(log)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""The first code of a worker: a start that fails says why in the log, not in the program's own streams. It
runs with `-P`: a `socket.py` in the working directory is not to take the place of the standard library's.
"""

_LIFE_MS: Final = 100
"""Between two checks whether a worker that does not read its data lives; guessed."""

_FAULTS: Final = {
    "SIGSEGV",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGABRT",
    "SIGSYS",
    "SIGTRAP",
    "SIGKILL",
    "SIGSTOP",
}


class WorkerSession(LokyProcess):
    """A process of loky that leaves the session of the program before it does anything else.

    Attributes:
        log: The file for what it prints before it opens its own logs.
        parted: Whether the program has detached from the worker: the program's end does not wait for it.
    """

    def __init__(self, *args: Any, log: str = os.devnull, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log = log
        self.parted = False
        self._starter = os.getpid()
        self._to_worker, self._to_program = kwargs.get("args", (None, None))[:2]

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end; multiprocessing does so for every child at the end of a program. A forked child
        of the program has copies of these objects and waits for none of the processes.
        """
        if not self.parted and os.getpid() == self._starter:
            super().join(timeout)

    def reap(self) -> None:
        """Wait for the end, although the program has detached from the worker."""
        super().join()

    def close_ends(self, *, in_worker: bool) -> None:
        """Close the ends of loky's two queues that only the other side uses. An end that both sides hold
        costs a descriptor each, and hides the end of the other side.
        """
        if self._to_worker is not None:
            (self._to_worker._writer if in_worker else self._to_worker._reader).close()
            (self._to_program._reader if in_worker else self._to_program._writer).close()

    def __reduce__(self) -> tuple[Any, ...]:
        state = BytesIO()
        reduction.dump(self.__dict__, state)
        return _arrive, (os.getpid(), state.getvalue())

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  multiprocessing's name
        return LokyProcess._Popen(process_obj) if sys.platform == "win32" else Start(process_obj)


if sys.platform != "win32":
    from loky.backend.fork_exec import fork_exec
    from loky.backend.popen_loky_posix import Popen

    class Start(Popen):
        """Starts the process without a flush of the program's streams, which may be closed."""

        __module__ = Popen.__module__  # what the worker runs

        def __init__(self, process: Any) -> None:
            self.returncode = None
            self._passed: list[int] = []
            with _blocked_signals():
                self._start(process)

        def duplicate_for_child(self, fd: int) -> int:
            """Pass this descriptor to the worker under the same number."""
            self._passed.append(fd)
            return fd

        def _start(self, process: Any) -> None:
            data = memoryview(self._pickled(process))
            self.sentinel, alive = os.pipe()
            util.Finalize(self, os.close, (self.sentinel,))
            with os.fdopen(alive, "wb"):
                source, target = os.pipe()
                with os.fdopen(target, "wb", buffering=0):
                    os.set_blocking(target, False)
                    with os.fdopen(source, "rb"), open(process.log, "ab", opener=_private) as log:
                        # open before the worker starts: otherwise it would complain if this process dies now
                        data = data[_write_what_fits(target, data) :]
                        self._passed += [source, alive, log.fileno()]
                        command = self._command(process.name, source, log.fileno())
                        self.pid = fork_exec(command, self._passed, env=process.env)
                    self._write_rest(target, data)

        def _write_rest(self, target: int, data: memoryview) -> None:
            """Write until the worker has read all or is dead, which is noticed elsewhere. A process that the
            program has forked meanwhile may hold the other end, so a full pipe does not show whether the
            worker lives.
            """
            room = select.poll()
            room.register(target, select.POLLOUT)
            with suppress(BrokenPipeError):
                while data:
                    if room.poll(_LIFE_MS):
                        data = data[_write_what_fits(target, data) :]
                    elif self.poll() is not None:
                        return

        def _pickled(self, process: Any) -> bytes:
            buffer = BytesIO()
            set_spawning_popen(cast("Any", self))
            try:
                reduction.dump(_facts(process.name), buffer)
                reduction.dump(process, buffer)
            finally:
                set_spawning_popen(None)
            return buffer.getvalue()

        def _command(self, name: str, source: int, log: int) -> list[str]:
            to_loky = [Popen.__module__, "--process-name", name, "--pipe", str(source)]
            return [sys.executable, "-P", "-c", _BEGIN, str(log), *to_loky]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _facts(name: str) -> dict[str, Any]:
    """Return the facts that loky's `spawn.prepare` needs in a worker. Its `get_preparation_data` would start
    two resource trackers, which are processes, and would fail where the working directory is gone.

    Raises:
        RuntimeError: This process is loading a main module, which would start a worker at each level.
    """
    current: Any = mp_process.current_process()
    if getattr(current, "_inheriting", False):
        raise RuntimeError(
            "an attempt was made to start a new process before the main module is loaded; "
            "put what starts it under `if __name__ == '__main__':`"
        )
    first: str = mp_process.ORIGINAL_DIR or ""
    return {
        "name": name,
        "authkey": bytes(current.authkey),
        "sys_argv": sys.argv,
        "sys_path": [path or first for path in sys.path],
        "orig_dir": mp_process.ORIGINAL_DIR,
        "dir": _directory(),
    }


def _directory() -> str:
    """Return where a worker begins: the root where the working directory is gone or may not be entered."""
    try:
        directory = os.getcwd()
    except OSError:
        return os.sep
    return directory if os.access(directory, os.X_OK) else os.sep


def _write_what_fits(target: int, data: memoryview) -> int:
    """Write to a pipe until it is full, and return the number of bytes written."""
    try:
        return os.write(target, data)
    except BlockingIOError:
        return 0


@contextmanager
def silent_without(program: int) -> Generator[None]:
    """End this process silently where the block fails because the program is gone, with the files that the
    start needs: no process is left that could be told.
    """
    try:
        yield
    except Exception:
        if os.getppid() != program:
            os._exit(0)
        raise


def _arrive(program: int, state: bytes) -> WorkerSession:
    """Begin a worker: leave the program's session, and drop the inherited signals and priority."""
    if hasattr(os, "setsid"):
        if os.getppid() != program:
            os._exit(0)  # the program has ended already: skip the rest
        os.setsid()
        # signals that were sent to the program's group; but SIGTERM always ends a worker
        inherited.reset_signals(discard=signal.sigpending() - {signal.SIGTERM})
        processes.keep_priority()
        inherited.allow_owner()
    process = WorkerSession.__new__(WorkerSession)
    with silent_without(program):
        process.__dict__.update(pickle.loads(state))
        process.close_ends(in_worker=True)
    return process


@contextmanager
def _blocked_signals() -> Generator[None]:
    """Block all signals in this thread: processes that it starts inherit that, and are not ended halfway."""
    faults = {number for number in signal.valid_signals() if _name(number) in _FAULTS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""  # a real-time signal


class LocalSemaphore(threading.Semaphore):
    """A semaphore, or with one permit a lock, of which each process has its own.

    loky's locks keep several workers apart, and each of our executors has one worker: a queue is written by
    the threads of one process and read by the threads of the other. So no lock has to be shared, and nothing
    has a name, not even for the instant between the system calls that make a semaphore of multiprocessing.
    The server counts what it puts into loky's call queue, which is one call.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalSemaphore, ()

    @property
    def _semlock(self) -> LocalSemaphore:
        """Stands in for the semaphore that bounds a multiprocessing queue."""
        return self

    def _is_zero(self) -> bool:
        free = self.acquire(blocking=False)
        if free:
            self.release()
        return not free


class UpQueue(SimpleQueue):
    """The queue from a worker to its program. Its own `put` and `get` would pickle, and may block."""

    @property
    def reader(self) -> Connection:
        """The program's end."""
        return self._reader

    @property
    def writer(self) -> Connection:
        """The worker's end."""
        return self._writer


class WorkerContext(LokyContext):
    """loky's context for an executor with one worker.

    Args:
        log: The file for what the process prints before it opens its own logs.

    Attributes:
        worker: The process that loky has made, if it has.
    """

    worker: WorkerSession | None = None

    def __init__(self, log: str = os.devnull) -> None:
        super().__init__()
        self._log = log

    def Process(self, *args: Any, **kwargs: Any) -> WorkerSession:  # noqa: N802  multiprocessing's name
        """Return a process that is not started, and remember it."""
        self.worker = WorkerSession(*args, log=self._log, **kwargs)
        return self.worker

    def Lock(self) -> Any:  # noqa: N802
        """Return a lock."""
        return LocalSemaphore()

    def Semaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore."""
        return LocalSemaphore(value)

    def BoundedSemaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore without a bound: the worker releases what only the program has acquired."""
        return LocalSemaphore(value)

    def SimpleQueue(self, reducers: Any = None) -> UpQueue:  # noqa: N802
        """Return a queue with one lock on each side."""
        return UpQueue(reducers, ctx=self.get_context())


@contextmanager
def refused_processes() -> Generator[None]:
    """Make multiprocessing and loky refuse to start a process in this block, as they do while a child of
    theirs loads the main module: the process would load that module too, and so on.
    """
    process: Any = multiprocessing.current_process()
    process._inheriting = True
    try:
        yield
    finally:
        del process._inheriting


def variables_of(environ: Any) -> dict[Any, Any]:
    """Return the mapping behind `os.environ`, because a comparison of `os.environ` itself would decode every
    variable.

    Where a program, or a test of it, has replaced `os.environ` by another mapping, such a mapping is made
    from that.
    """
    try:
        return environ._data
    except AttributeError:
        encode = os.fsencode if os.supports_bytes_environ else str
        return {encode(name): encode(value) for name, value in environ.items()}
