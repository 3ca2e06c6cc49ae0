"""The control thread of a worker: receives detach and cancel, notices that the parent is gone, and handles
SIGTERM.

The parent's end shows in two ways: the control pipe closes, and the parent's pidfd becomes readable. Both are
watched, because a process that the server forked can hold the pipe open. For the same reason, a parent that
lives on and detaches from the worker sends a frame.

SIGTERM from outside ends a worker, even while its main thread is busy. A cancel of the server uses the same
signal, and raises in the body. Python runs such a handler only between two steps of the main thread, which a
loop of C code never takes. So the kernel's own handler also writes a byte here, and a thread does the rest:
it asks the body to end, and when the grace is over, it ends the process with all that the body has started.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from python_mcp_server.pool.protocol import WINDOWS, FrameParser, Kind
from python_mcp_server.pool.start import RAW
from python_mcp_server.pool.worker.cancel import SIGNAL, CancelGate

_log: Final = logging.getLogger(__name__)
_AGAIN_MS: Final = 20
"""Between two signals of one cancel, while the signals land in code that must not be interrupted."""

_PARENT_MS: Final = 1000
"""Between two checks of the parent where there is no pidfd."""


@dataclass(frozen=True, slots=True)
class ControlHandlers:
    """What the control thread calls, in its own thread; `orphaned` is the last, and never returns."""

    detach: Callable[[bytes], None]
    record: Callable[[str, str], None]
    cancel: Callable[[str], bool]
    answer: Callable[[bytes], None]
    orphaned: Callable[[], None]


class ControlThread:
    """Watches the control pipe and the parent in a daemon thread."""

    def __init__(self, connection: Any, parent_pid: int, handlers: ControlHandlers) -> None:
        self._connection = connection
        self._parent_pid = parent_pid
        self._handlers = handlers
        self._parser = FrameParser()
        self._cancelling: str | None = None
        self._free = False

    def start(self) -> None:
        """Start watching."""
        run = self._run_windows if WINDOWS else self._run
        threading.Thread(target=run, name="control thread", daemon=True).start()

    def _run(self) -> None:
        poll, control = select.poll(), self._connection.fileno()
        poll.register(control, select.POLLIN)
        pidfd = _open_pidfd(self._parent_pid)
        if pidfd >= 0:
            poll.register(pidfd, select.POLLIN)
        while not self._free and os.getppid() == self._parent_pid:
            ready = {fd for fd, _ in poll.poll(self._timeout_ms(pidfd))}
            if pidfd in ready:
                break
            if control in ready and not self._read(control):
                break
            self._cancel_again()
        self._read_rest(control)
        self._handlers.orphaned()

    def _read_rest(self, control: int) -> None:
        """Read the frames that the parent sent before its end: `detach` may be the last."""
        poll = select.poll()
        poll.register(control, select.POLLIN)
        while any(event & select.POLLIN for _, event in poll.poll(0)) and self._read(control):
            continue

    def _timeout_ms(self, pidfd: int) -> int | None:
        if self._cancelling:
            return _AGAIN_MS
        return None if pidfd >= 0 else _PARENT_MS

    def _read(self, control: int) -> bool:
        data = os.read(control, 65536)
        for kind, payload in self._parser.feed(data):
            self._take(kind, payload)
        return bool(data)

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == Kind.DETACH:
            self._handlers.detach(payload)
        elif kind == Kind.RECORD:
            job_id, _, folder = os.fsdecode(payload).partition("\0")
            self._handlers.record(job_id, folder)
        elif kind == Kind.CANCEL:
            self._cancelling = payload.decode()
        elif kind == Kind.ANSWER:
            self._handlers.answer(payload)
        elif kind == Kind.FREE:
            self._free = True

    def _cancel_again(self) -> None:
        if self._cancelling and not self._handlers.cancel(self._cancelling):
            self._cancelling = None

    def _run_windows(self) -> None:
        try:
            while not self._free:
                frame = self._connection.recv_bytes()
                self._take(frame[:1], frame[1:])
                while self._cancelling:
                    self._cancel_again()
                    threading.Event().wait(_AGAIN_MS / 1000)
        except (EOFError, OSError) as end:
            _log.debug("the parent is gone: %r", end)
        self._handlers.orphaned()


def _open_pidfd(pid: int) -> int:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1  # gone already (getppid shows it), or a kernel without pidfds: then getppid is polled


GRACE_S: Final = 5.0
"""How long a body and the end of a detached job may take after SIGTERM; guessed, more than the usual grace of
a cancel, and less than what service managers wait before they kill."""

_AGAIN_S: Final = 0.02


class Termination:
    """Waits for SIGTERM in a thread of its own.

    Args:
        gate: Carries a cancel to the body.
        grace_s: Returns how long the end may take.

    Attributes:
        wanted: Set once this process was told to end.
    """

    def __init__(self, gate: CancelGate, grace_s: Callable[[], float]) -> None:
        self.wanted = threading.Event()
        self._gate = gate
        self._grace_s = grace_s
        if WINDOWS:
            return
        self._heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._forking = threading.local()
        os.register_at_fork(
            before=self._hold_signal, after_in_parent=self._let_signal, after_in_child=self._hear_nothing
        )
        threading.Thread(target=self._run, name="termination", daemon=True).start()

    def _hold_signal(self) -> None:
        """Block SIGTERM in the thread that forks: until `_hear_nothing`, one that a child gets would be told
        here, and not to the child, because it has a copy of the descriptor."""
        self._forking.was_blocked = SIGNAL in RAW.pthread_sigmask(signal.SIG_BLOCK, (SIGNAL,))

    def _let_signal(self) -> None:
        if not getattr(self._forking, "was_blocked", True):
            RAW.pthread_sigmask(signal.SIG_UNBLOCK, (SIGNAL,))

    def _hear_nothing(self) -> None:
        """In a forked child: its signals are not this process's. `CancelGate` has made it die of SIGTERM."""
        signal.set_wakeup_fd(-1)
        self._let_signal()

    def _run(self) -> None:
        try:
            while SIGNAL not in os.read(self._heard, 512) or self._gate.cancelling:
                continue
        except OSError as error:
            _log.debug("a body has closed the descriptors of its worker: %s", error)
            return
        self.wanted.set()
        deadline = time.monotonic() + self._grace_s()
        while time.monotonic() < deadline:
            self._gate.request_present()
            time.sleep(_AGAIN_S)
        self._gate.go()
