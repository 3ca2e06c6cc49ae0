"""Restores the state that a worker's process had before its first call, after every body.

Modules and their own state stay as a body leaves them; authors of tools rely on that.

A look at all facts takes 15 system calls, which made the shortest calls slower by a fifth. So a fact that
needs a system call is checked only after a body that ran long enough for that not to matter, or that called a
function of Python's that changes the fact: these functions note that they were called.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from python_mcp_server.pool.server_state import StateChange, present_directory
from python_mcp_server.pool.start import RAW, variables_of
from python_mcp_server.pool.worker.cancel import SIGNAL

_log: Final = logging.getLogger(__name__)
_LONG_S: Final = 0.001
_SIGNALS: Final = ("CHLD", "ALRM", "VTALRM", "PROF", "INT", "HUP", "QUIT", "PIPE", "USR1", "USR2", "XCPU")
_LIMITS: Final = ("NOFILE", "AS", "DATA", "STACK", "CORE", "CPU", "FSIZE", "NPROC")
_TIMERS: Final = ("REAL", "VIRTUAL", "PROF")
_SETTERS: Final = {
    "os": ("chdir", "fchdir", "umask", "nice", "setpriority", "sched_setaffinity"),
    "signal": ("alarm", "setitimer", "pthread_sigmask", "set_wakeup_fd"),
    "resource": ("setrlimit", "prlimit"),
}
_ZONE: Final = "TZ" if hasattr(time, "tzset") else ""
"""The variable that the C library reads only at the start of a process."""

_PRIVATE_MASK: Final = 0o077
"""The umask during the instant of its read, because it can only be read by setting it."""


class _Fact(NamedTuple):
    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


class _Entry:
    """One variable in the C library's environment, in memory of our own.

    glibc keeps every value that `setenv` ever got. Each call has another job id, so a worker would grow by
    some hundred bytes a call for ever.
    """

    def __init__(self, libc: Any) -> None:
        self._libc = libc
        self._text = self._former = ctypes.create_string_buffer(0)

    def set(self, key: bytes, value: bytes) -> None:
        """Set the variable to this value."""
        text = b"%b=%b" % (key, value)
        if len(text) < len(self._text):
            self._text.value = text
        else:
            self._former = self._text  # the environment points there until `putenv` is done
            self._text = ctypes.create_string_buffer(text)
        self._libc.putenv(self._text)  # again each time: a body may have set the variable itself


class ProcessState:
    """The original state of this process, and the way back to it.

    Args:
        libc: The C library; None where it cannot be reached, or keeps no old values.
    """

    def __init__(self, libc: Any = None) -> None:
        self._entry = None if libc is None else _Entry(libc)
        self._facts = list(_facts())
        self._before = self._present()
        self._handlers = _handlers()
        self._environ: Any = os.environ
        self._variables = dict(variables_of(self._environ))
        self._directory = present_directory()
        self._wakeup_fd = _wakeup_fd()
        self._began_at = 0.0
        self._touched = False
        for module, name in _setters():
            setattr(module, name, _Noted(module.__name__, name, getattr(module, name), self._touch))

    def note_variables(self) -> None:
        """Keep new variables, because a loaded module may have set some once. Variables that the server has
        too keep the server's values: the server had loaded that module before it set them.
        """
        self._variables = {**variables_of(self._environ), **self._variables}
        self._restore_variables()

    def follow(self, change: StateChange) -> None:
        """Take over the changes in the server, between two calls."""
        self._environ.update(change.set)
        for name in change.removed:
            self._environ.pop(name, None)
        self._variables = dict(variables_of(self._environ))
        if _ZONE in change.set or _ZONE in change.removed:
            time.tzset()
        if change.directory is not None:
            self._enter(change.directory)
            self._directory = present_directory()
            self._note_facts()

    def note_all(self) -> None:
        """Take the present state as the original, because the main module was loaded; but the server's values
        stay, and SIGTERM is still handled.
        """
        self.note_variables()
        if self._directory is not None and present_directory() != self._directory:
            self._enter(self._directory)
        _set_wakeup_fd(self._wakeup_fd)
        self._note_facts()

    def _note_facts(self) -> None:
        self._before, self._handlers = self._present(), _handlers()
        self._touched = False

    def begin(self, name: str, value: str) -> None:
        """Begin a call: set this variable, which stays."""
        key, encoded = self._environ.encodekey(name), self._environ.encodevalue(value)
        if self._entry is None:
            self._environ[name] = value
        else:
            self._entry.set(key, encoded)
            variables_of(self._environ)[key] = encoded
        self._variables[key] = encoded
        self._began_at = time.monotonic()

    def restore(self) -> bool:
        """Undo the changes of a body; return whether the whole state is restored."""
        look = self._touched or time.monotonic() - self._began_at > _LONG_S
        self._touched = False
        try:
            self._restore_variables()
            self._restore_handlers()
            return not look or self._present() == self._before or self._restore_facts()
        except Exception:  # noqa: BLE001  whatever was done to this process, it must not serve on
            _log.exception("what a body has changed in its process cannot be put back")
            return False

    def _touch(self) -> None:
        self._touched = True

    @staticmethod
    def _enter(directory: str) -> None:
        try:
            os.chdir(directory)
        except OSError as error:
            _log.warning("the server's directory %s cannot be entered: %s", directory, error)

    def _present(self) -> list[Any]:
        return [fact.read() for fact in self._facts]

    def _restore_variables(self) -> None:
        if os.environ is not self._environ:  # a body may have replaced the mapping
            os.environ = self._environ  # noqa: B003
        now, wanted = variables_of(self._environ), self._variables
        if now == wanted:
            return
        for key in now.keys() - wanted.keys():
            del self._environ[self._environ.decodekey(key)]
        for key, value in wanted.items():
            if now.get(key) != value:
                self._environ[self._environ.decodekey(key)] = self._environ.decodevalue(value)

    def _restore_handlers(self) -> None:
        now = _handlers()
        if now != self._handlers:
            for number, handler, before in zip(_NUMBERS, now, self._handlers, strict=True):
                if handler is not before:
                    signal.signal(number, before)

    def _restore_facts(self) -> bool:
        for fact, before in zip(self._facts, self._before, strict=True):
            if fact.read() != before:
                try:
                    fact.write(before)
                except (OSError, ValueError, TypeError) as error:
                    _log.info("%s cannot be put back: %s", fact.name, error)
                    return False
        self._touched = False
        return self._present() == self._before


class _Noted:
    """A callable that notes its calls; no function, which would be a method where a class keeps it."""

    def __init__(self, module: str, name: str, function: Any, note: Callable[[], None]) -> None:
        self._name = module, name
        self._function = function
        self._note = note

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._note()
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __reduce__(self) -> Any:
        return _named, self._name


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _setters() -> Iterator[tuple[Any, str]]:
    """Return the functions of this system that change a fact, each with its module."""
    for module_name, names in _SETTERS.items():
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue  # Windows has no limits
        yield from ((module, name) for name in names if hasattr(module, name))


def _numbers() -> list[int]:
    """Return the signals that bodies may handle; the cancel gate restores its own signal."""
    known = (getattr(signal, f"SIG{name}", SIGNAL) for name in _SIGNALS)
    return [int(number) for number in known if number != SIGNAL]


_NUMBERS: Final = _numbers()


def _handlers() -> list[Any]:
    return list(map(RAW.getsignal, _NUMBERS))


def _facts() -> Iterator[_Fact]:
    """Return the facts that this system has; timers first, because they end the process."""
    if hasattr(signal, "getitimer"):
        yield from map(_timer, _TIMERS)
    yield _Fact("the working directory", present_directory, os.chdir)
    yield _Fact("the umask", _umask, os.umask)
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask
        yield _Fact(
            "the blocked signals", partial(mask, signal.SIG_BLOCK, ()), partial(mask, signal.SIG_SETMASK)
        )
    yield _Fact("where the arrival of signals is told", _wakeup_fd, _set_wakeup_fd)
    if hasattr(os, "getpriority"):
        own = (os.PRIO_PROCESS, 0)
        yield _Fact("the priority", partial(os.getpriority, *own), partial(os.setpriority, *own))
    if hasattr(os, "sched_getaffinity"):
        yield _Fact("the cores", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0))
    yield from _limits()


def _timer(name: str) -> _Fact:
    kind = getattr(signal, f"ITIMER_{name}")

    def stop(_: object) -> None:
        signal.setitimer(kind, 0)

    return _Fact("a timer", partial(signal.getitimer, kind), stop)


def _limits() -> Iterator[_Fact]:
    try:
        import resource
    except ImportError:
        return  # Windows
    for kind in (getattr(resource, f"RLIMIT_{name}", None) for name in _LIMITS):
        if kind is not None:
            yield _Fact("a limit", partial(resource.getrlimit, kind), partial(resource.setrlimit, kind))


def _umask(umask: Callable[[int], int] = os.umask) -> int:
    mask = umask(_PRIVATE_MASK)
    umask(mask)
    return mask


def _wakeup_fd() -> int:
    """Return the descriptor that the kernel's handlers write to; it can only be read by setting it."""
    fd: int = RAW.set_wakeup_fd(-1)
    _set_wakeup_fd(fd)
    return fd


def _set_wakeup_fd(fd: int) -> None:
    RAW.set_wakeup_fd(fd, warn_on_full_buffer=False)
