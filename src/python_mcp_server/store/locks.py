"""Locks between processes that the kernel releases when their holder dies.

Only the file store uses this module. The files stay: removing one would separate the present waiters from
later ones. A lock is taken anew for each use, on a descriptor of its own, so threads exclude each other as
processes do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from python_mcp_server.atomic import make_directory, translate_os_errors
from python_mcp_server.errors import StoreLocked
from python_mcp_server.regular import open_own, own_file

_FLAGS: Final = os.O_RDWR | os.O_CREAT
_FIRST_NAP_S: Final = 0.0002
_LONGEST_NAP_S: Final = 0.005
"""Guessed: a user does not notice this wait, and a lock is usually held for 0.5 ms."""
_NOTE_AT: Final = 1
"""Where the holder's note starts: Windows lets no process read byte 0, the locked one."""
_NOTE_CHARS: Final = 48


_held: Final[set[int]] = set()
"""The descriptors of the locks that this process holds now."""


def _close_copies() -> None:
    """Close the copies of a child that was just forked, which would keep a lock taken after its holder died.
    Closing a copy does not release the lock.
    """
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)


class Locks:
    """The locks of one directory, by name.

    Args:
        directory: Where the lock files lie; made when it is missing.
        home: The directory that the errors name to the user.
        wait_s: How long to wait for a lock.
    """

    def __init__(self, directory: str, home: str, wait_s: float) -> None:
        self._directory = directory
        self._home = home
        self._wait_s = wait_s

    @contextmanager
    def hold(self, name: str, wait_s: float | None = None) -> Generator[None]:
        """Hold the lock of this name over the block. It must not be taken twice by one thread.

        Raises:
            StoreLocked: Another holder kept it for longer than the wait; the text says which.
            StoreError: The lock file cannot be opened or written.
        """
        with translate_os_errors(self._home, "take a lock"):
            descriptor = self._acquire(
                f"{self._directory}/{name}", self._wait_s if wait_s is None else wait_s
            )
        _held.add(descriptor)
        try:
            yield
        finally:
            _release(descriptor)

    def held_for(self, at_least_s: float) -> list[str]:
        """Return who holds a lock, for at least so long, in words; a lock that is free is taken for an
        instant.

        Raises:
            OSError: A lock file cannot be opened.
        """
        found = list[str]()
        for name in sorted(os.listdir(self._directory) if os.path.isdir(self._directory) else ()):
            path = f"{self._directory}/{name}"
            note = _read_note(path)
            old = note is not None and time.time() - note[1] >= at_least_s
            if old and not _is_free(path) and _read_note(path) == note:
                found.append(f"the lock {name}: {_holder(note)}")
        return found

    def _acquire(self, path: str, wait_s: float) -> int:
        deadline = time.monotonic() + wait_s
        nap_s = _FIRST_NAP_S
        while True:
            descriptor = self._try_once(path)
            if descriptor is not None:
                return descriptor
            if time.monotonic() >= deadline:
                note = _read_note(path)
                sentence = f"The lock {path} was not free within {wait_s:g} s: {_holder(note)}"
                raise StoreLocked(sentence, note and note[0])
            time.sleep(nap_s)
            nap_s = min(_LONGEST_NAP_S, nap_s * 2)

    def _try_once(self, path: str) -> int | None:
        from filelock import lock_descriptor  # costs 20 to 50 ms, and a worker may never need it

        descriptor = self._open(path)
        taken = False
        try:
            if lock_descriptor(descriptor, blocking=False) and os.fstat(descriptor).st_nlink > 0:
                _write_note(descriptor)
                taken = True
        finally:
            if not taken:  # also the lock of a file that was removed, home and all: it excludes no process
                os.close(descriptor)
        return descriptor if taken else None

    def _open(self, path: str) -> int:
        try:
            return open_own(path, _FLAGS)
        except FileNotFoundError:
            make_directory(self._directory)
            return open_own(path, _FLAGS)


def _is_free(path: str) -> bool:
    from filelock import lock_descriptor

    descriptor = open_own(path, os.O_RDWR)
    if lock_descriptor(descriptor, blocking=False):
        _held.add(descriptor)
        _release(descriptor)
        return True
    os.close(descriptor)
    return False


def _release(descriptor: int) -> None:
    from filelock import unlock_descriptor

    if descriptor in _held:  # not in a child that was forked meanwhile
        _held.remove(descriptor)
        try:
            unlock_descriptor(descriptor)
        finally:
            os.close(descriptor)


def _write_note(descriptor: int) -> None:
    os.lseek(descriptor, _NOTE_AT, os.SEEK_SET)
    os.write(descriptor, f"{os.getpid()} {time.time():.3f}".ljust(_NOTE_CHARS).encode())


def _read_note(path: str) -> tuple[int, float] | None:
    """Return the process that took the lock last, and when, if its note has that."""
    with open(path, "rb", buffering=0, opener=own_file) as file:
        file.seek(_NOTE_AT)
        words = file.read(_NOTE_CHARS).split()
    try:
        return int(words[0]), float(words[1])
    except (ValueError, IndexError):
        return None  # not taken yet, or the file was damaged, which harms no lock


def _holder(note: tuple[int, float] | None) -> str:
    if note is None:
        return "its holder is not known; try again"
    pid, since_s = note
    since = datetime.fromtimestamp(since_s, UTC).isoformat(timespec="seconds")
    return f"{_describe(pid, since_s)} holds it since {since}; wait for it, or end it"


def _describe(pid: int, since_s: float) -> str:
    import psutil  # costs 20 ms, and is needed for this text only

    if pid == os.getpid():
        return f"this process ({pid})"
    try:
        process = psutil.Process(pid)
        ended = process.create_time() > since_s + 1  # this pid was given to another process since
        command = " ".join(process.cmdline()) or process.name()
    except psutil.AccessDenied:
        return f"process {pid}"
    except psutil.NoSuchProcess:
        ended, command = True, ""
    return f"a child of process {pid}, which has ended," if ended else f"process {pid} ({command[:200]})"
