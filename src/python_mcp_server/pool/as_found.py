"""The state of a worker's process as it was before its first call, to which every body leaves it.

What is looked at after each call costs 10 us in all, while the front is busy with the outcome: no more is
worth it. Modules and their state stay as a body leaves them; that is what authors of tools count on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from python_mcp_server.pool.cancellation import RAW, SIGNAL

_log: Final = logging.getLogger(__name__)
_SIGNALS: Final = ("CHLD", "ALRM", "VTALRM", "PROF", "INT", "HUP", "QUIT", "PIPE", "USR1", "USR2", "XCPU")
_LIMITS: Final = ("NOFILE", "AS", "CPU", "FSIZE")
_TIMERS: Final = ("REAL", "VIRTUAL", "PROF")
_PRIVATE_MASK: Final = 0o077
"""For the instant in which the mask is read, for it can only be read by setting it."""


class _Fact(NamedTuple):
    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


class AsFound:
    """What a process was like, and the way back to it."""

    def __init__(self) -> None:
        self._facts = list(_facts())
        self._reads = [fact.read for fact in self._facts]
        self._before = self._present()
        self._environ: Any = os.environ
        self._variables: dict[Any, Any] = {}
        self.note_variables()

    def note_variables(self) -> None:
        """Take the environment for what it is to be: a module was loaded, which may set variables once."""
        self._variables = dict(_variables(self._environ))

    def expect(self, name: str) -> None:
        """Let this variable be what it is now."""
        key = self._environ.encodekey(name)
        self._variables[key] = _variables(self._environ)[key]

    def restore(self) -> bool:
        """Put back what a body has changed; return whether all is as it was."""
        try:
            if os.environ is self._environ and _variables(os.environ) == self._variables:
                if self._present() == self._before:
                    return True
            else:
                self._restore_variables()
            return self._restore_facts()
        except Exception:  # noqa: BLE001  whatever was done to this process, it must not serve on
            _log.exception("what a body has changed in its process cannot be put back")
            return False

    def _present(self) -> list[Any]:
        return [read() for read in self._reads]

    def _restore_variables(self) -> None:
        os.environ = self._environ  # noqa: B003  a body may have put another mapping in its place
        now, wanted = _variables(self._environ), self._variables
        for key in now.keys() - wanted.keys():
            del self._environ[self._environ.decodekey(key)]
        for key, value in wanted.items():
            if now.get(key) != value:
                self._environ[self._environ.decodekey(key)] = self._environ.decodevalue(value)

    def _restore_facts(self) -> bool:
        whole = True
        for fact, before in zip(self._facts, self._before, strict=True):
            if fact.read() != before:
                try:
                    fact.write(before)
                except (OSError, ValueError, TypeError) as error:
                    _log.info("%s cannot be put back: %s", fact.name, error)
                    whole = False
        return whole and self._present() == self._before


def _variables(environ: Any) -> dict[Any, Any]:
    """The mapping behind `os.environ`: to compare the outer one would decode every variable."""
    return environ._data  # noqa: SLF001


def _facts() -> list[_Fact]:
    """What this system has of it; timers first, for they end the process."""
    facts = [_timer(name) for name in _TIMERS] if hasattr(signal, "getitimer") else []
    facts.append(_Fact("a signal's handler", _handlers, _set_handlers))
    facts += [_Fact("the working directory", _directory, os.chdir), _Fact("the umask", _umask, os.umask)]
    if hasattr(signal, "pthread_sigmask"):
        mask = partial(RAW.pthread_sigmask, signal.SIG_BLOCK, ())
        facts.append(_Fact("the blocked signals", mask, partial(signal.pthread_sigmask, signal.SIG_SETMASK)))
    if hasattr(os, "getpriority"):
        own = (os.PRIO_PROCESS, 0)
        facts.append(_Fact("the priority", partial(os.getpriority, *own), partial(os.setpriority, *own)))
    if hasattr(os, "sched_getaffinity"):
        facts.append(_Fact("the cores", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)))
    return facts + _limits()


def _timer(name: str) -> _Fact:
    kind = getattr(signal, f"ITIMER_{name}")

    def stop(_: object) -> None:
        signal.setitimer(kind, 0)

    return _Fact("a timer", partial(signal.getitimer, kind), stop)


def _numbers() -> list[int]:
    """The signals that bodies may make their own; a cancel looks after its own one."""
    known = (getattr(signal, f"SIG{name}", SIGNAL) for name in _SIGNALS)
    return [int(number) for number in known if number != SIGNAL]


_NUMBERS: Final = _numbers()


def _handlers() -> list[Any]:
    return list(map(RAW.getsignal, _NUMBERS))


def _set_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(_NUMBERS, handlers, strict=True):
        if RAW.getsignal(number) is not handler:
            signal.signal(number, handler)


def _limits() -> list[_Fact]:
    if sys.platform == "win32":
        return []
    import resource

    kinds = [getattr(resource, f"RLIMIT_{name}") for name in _LIMITS if hasattr(resource, f"RLIMIT_{name}")]
    return [
        _Fact("a limit", partial(resource.getrlimit, kind), partial(resource.setrlimit, kind))
        for kind in kinds
    ]


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None  # it was removed


def _umask() -> int:
    mask = os.umask(_PRIVATE_MASK)
    os.umask(mask)
    return mask
