"""How a worker process is started: by loky, for programs that lack what loky takes for granted.

loky flushes `sys.stdout`, asks for the working directory, leaves a worker in the session of the program, and
starts it before there is anything for it to read. The classes here are loky's own with these four changed;
nothing of loky is patched. It waits on no pipe for
the exec, so a process that another thread of the program forks meanwhile holds nothing up.

    program                                       worker
    WorkerProcess.start ── pickled process ──┐    (a pipe)
                        ── fork, exec ───────│──▶ loky's main function
                                             └──▶ `_arrive`: a session of its own, signals, priority
                                                  `worker.start`, which loky calls its initializer

Between exec and `_arrive` lie 60 ms in which a signal to the group of the program reaches the worker too. It
has every signal blocked until it arrives, and nothing to lose: no call is sent to a worker that is not ready.


Names of the semaphores that connect a program with its workers, and the removal of those that were left.

A name outlives its processes. The resource tracker removes it when the program is killed, and SIGKILL of the
whole process group ends the tracker too. So a name says which process made it: the next program that starts
workers, and `doctor`, remove the names of processes that are gone.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false, reportPrivateUsage=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false
# (loky has no types, and this is the place for what is private)

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing import resource_tracker, util
from multiprocessing.context import set_spawning_popen
from typing import Any, Final, cast

from loky.backend import reduction, spawn
from loky.backend.context import LokyContext
from loky.backend.process import LokyProcess
from loky.backend.synchronize import SEM_VALUE_MAX, SEMAPHORE, BoundedSemaphore, Lock, Semaphore, SemLock

from python_mcp_server import processes
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import inherited

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
    """A process of loky that leaves the session of the program before it does anything else."""

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
        """Without a flush of the program's streams, which may be closed: exec copies no buffers."""

        __module__ = Popen.__module__  # what the worker runs

        def __init__(self, process: Any) -> None:
            self.returncode = None
            self._fds: list[int] = []
            with _blocked_signals(), _entered_directory():
                self._launch(process)

        def _launch(self, process_obj: Any) -> None:
            data = memoryview(self._pickled(process_obj))
            self.sentinel, alive = os.pipe()
            util.Finalize(self, os.close, (self.sentinel,))
            with os.fdopen(alive, "wb"):
                source, sink = os.pipe()
                with os.fdopen(sink, "wb", buffering=0) as pipe:
                    with os.fdopen(source, "rb"):
                        # there before the worker: else it would complain where this process dies now
                        data = data[_write_what_fits(sink, data) :]
                        self._fds += [source, alive]
                        self.pid = fork_exec(
                            self._command(process_obj.name, source), self._fds, env=process_obj.env
                        )
                    with suppress(BrokenPipeError):  # it has died, which is noticed elsewhere
                        while data:
                            data = data[pipe.write(data) :]

        def _pickled(self, process: Any) -> bytes:
            buffer = BytesIO()
            set_spawning_popen(cast("Any", self))
            try:
                facts = spawn.get_preparation_data(process.name, process.init_main_module)
                self._fds += [facts["tracker_fd"], facts["mp_tracker_fd"]]
                reduction.dump(facts, buffer)
                reduction.dump(process, buffer)
            finally:
                set_spawning_popen(None)
            return buffer.getvalue()

        def _command(self, name: str, source: int) -> list[str]:
            return [sys.executable, "-m", Popen.__module__, "--process-name", name, "--pipe", str(source)]


def _write_what_fits(sink: int, data: memoryview) -> int:
    """Fill a pipe as far as it goes, and return how many bytes that were."""
    os.set_blocking(sink, False)
    try:
        return os.write(sink, data)
    except BlockingIOError:
        return 0
    finally:
        os.set_blocking(sink, True)


@contextmanager
def silent_without(program: int) -> Generator[None]:
    """End this process where the block fails because its program is gone, and the files of it that the start
    needs with it: nobody is left to be told."""
    try:
        yield
    except Exception:
        if os.getppid() != program:
            os._exit(0)
        raise


def _arrive(program: int, state: bytes) -> WorkerSession:
    """Begin a worker: what it has inherited from the program, its session too, is left behind."""
    if hasattr(os, "setsid"):
        if os.getppid() != program:
            os._exit(0)  # it has ended already: spare the machine the rest
        os.setsid()
        # what was sent to the program's group; but SIGTERM always ends a worker
        inherited.reset_signals(discard=signal.sigpending() - {signal.SIGTERM})
        processes.keep_priority()
        inherited.allow_owner()
    process = WorkerSession.__new__(WorkerSession)
    with silent_without(program):
        process.__dict__.update(pickle.loads(state))
    return process


@contextmanager
def _blocked_signals() -> Generator[None]:
    """Block all signals in this thread: what it starts inherits that, and is not ended halfway."""
    resource_tracker.ensure_running()  # its start would unblock SIGINT and SIGTERM here
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


@contextmanager
def _entered_directory() -> Generator[None]:
    """Stand at the root where the working directory was removed, or may not be entered.

    loky tells a worker to go where the program stands. A path relative to such a directory leads nowhere, so
    other threads of the program lose nothing meanwhile.
    """
    if _can_be_entered():
        yield
        return
    gone = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(os.sep)
        yield
        if os.getcwd() == os.sep:  # else another thread has chosen a directory meanwhile
            os.fchdir(gone)
    finally:
        os.close(gone)


def _can_be_entered() -> bool:
    try:
        return os.access(os.getcwd(), os.X_OK)
    except OSError:
        return False


class WorkerContext(LokyContext):
    """loky's context, whose semaphores have names that say who made them; it remembers the names.

    Attributes:
        names: Of the semaphores.
    """

    Process = WorkerSession

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._prefix = prefix(processes.identify(os.getpid()))

    def Lock(self) -> Any:  # noqa: N802  multiprocessing's name
        """Return a lock."""
        return self._named(Lock, 1, 1)

    def Semaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore without a bound."""
        return self._named(Semaphore, value, SEM_VALUE_MAX)

    def BoundedSemaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore that never exceeds its first value."""
        return self._named(BoundedSemaphore, value, value)

    def _named(self, kind: Any, value: int, most: int) -> Any:
        made = kind.__new__(kind)
        name = self._prefix and f"{self._prefix}-{os.urandom(8).hex()}"
        SemLock.__init__(made, SEMAPHORE, value, most, name=name)
        self.names.append(made._semlock.name)
        return made


_log: Final = logging.getLogger(__name__)
_FOLDER: Final = "/dev/shm"  # noqa: S108  where Linux keeps semaphores; nothing is written there
_FILE: Final = re.compile(
    r"sem\.(?P<name>python-mcp-(?P<pid>\d+)-(?P<ticks>\d+)-(?P<namespace>\d+)-[0-9a-f]+)"
)
_NAMESPACE: Final = re.compile(r"pid:\[(\d+)\]")


def prefix(maker: ProcessIdentity | None) -> str | None:
    """Return how the names of this process begin; None where a name cannot say it, as loky's own do not.

    Elsewhere than on Linux a name has 30 characters at most, and nothing lists those that are left.
    """
    known = maker and _NAMESPACE.fullmatch(maker.pid_namespace or "")
    if maker is None or not known or not processes.LINUX:
        return None
    return f"/python-mcp-{maker.pid}-{maker.start_ticks}-{known[1]}"


def sweep() -> int:
    """Remove the semaphores of processes that are gone, and return how many there were. Blocks.

    Those of another PID namespace stay: nobody here can tell whether their process lives.
    """
    if not processes.LINUX or not os.path.isdir(_FOLDER):
        return 0
    from _multiprocessing import sem_unlink  # pyright: ignore[reportUnknownVariableType]

    removed = 0
    for file in os.listdir(_FOLDER):
        found = _FILE.fullmatch(file)
        if found is None or not processes.is_gone(_maker(found)):
            continue
        try:
            sem_unlink("/" + found["name"])
            removed += 1
        except OSError as error:  # another process was quicker, or it belongs to another user
            _log.debug("semaphore %s stays: %s", file, error)
    return removed


def _maker(found: re.Match[str]) -> ProcessIdentity:
    pid, ticks = int(found["pid"]), int(found["ticks"])
    return ProcessIdentity(pid, ticks, processes.boot_id(), f"pid:[{found['namespace']}]")
