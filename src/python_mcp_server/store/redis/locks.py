"""Locks on a Redis server: taken with a token for some seconds, renewed by a thread, released by their token.

A holder that was killed loses its lock at the end of the lease, and one that was stopped for longer, too. The
latter does not know it: therefore each write names the locks of its thread, and is refused where one is lost.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.store.redis import scripts
from python_mcp_server.store.redis.connection import RedisServer

LEASE_S: Final = 5.0
"""Guessed: a thread of a busy machine comes to run within that time, and waiters notice a death by then."""
_LEASE_MS: Final = int(LEASE_S * 1000)
_RENEW_S: Final = LEASE_S / 4
_FIRST_NAP_S: Final = 0.001
_LONGEST_NAP_S: Final = 0.02
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class HeldLock:
    """A lock that a thread of this process holds.

    Attributes:
        name: Its name.
        token: What its key has as long as it is held.
        released: Whether a write has released it already.
    """

    name: str
    token: bytes
    released: bool = False


class RedisLocks:
    """The locks of one store.

    Args:
        server: The server.
        wait_s: How long to wait for a lock.
    """

    def __init__(self, server: RedisServer, wait_s: float) -> None:
        self._server = server
        self._wait_s = wait_s
        self._of_thread = threading.local()
        self.free_locks()
        _all.add(self)

    def free_locks(self) -> None:
        """Forget the locks of the parent in a forked child, and its thread, which does not exist there."""
        self._changed = threading.Condition()
        self._held: list[HeldLock] = []
        self._thread: threading.Thread | None = None
        self._of_thread = threading.local()

    @property
    def here(self) -> list[HeldLock]:
        """The locks that the present thread holds."""
        return list(getattr(self._of_thread, "held", ()))

    @contextmanager
    def hold(self, name: str, doing: str) -> Generator[HeldLock]:
        """Hold the lock of this name over the block. It must not be taken twice by one thread.

        Raises:
            StoreLocked: Another holder kept it for longer than the wait; the text says which.
            StoreError: The server is away, or refuses.
        """

        def take(token: bytes) -> list[Any]:
            return self._server.run(scripts.LOCK, doing, name, token, _LEASE_MS)

        _, lock = self._wait_for(name, take)
        with self._holding(lock, doing):
            yield lock

    @contextmanager
    def hold_job(self, job_id: str, doing: str) -> Generator[tuple[list[Any], HeldLock]]:
        """Read a job and hold its lock over the block, unless it has ended or is not there.

        Yields:
            Its row, empty where it is not there, and its lock, released where none was taken.
        """

        def take(token: bytes) -> list[Any]:
            return self._server.run(scripts.TAKE, doing, job_id, f"job-{job_id}", token, _LEASE_MS)

        answer, lock = self._wait_for(f"job-{job_id}", take)
        if answer[0] == b"free":
            lock.released = True
            yield answer[1:], lock
            return
        with self._holding(lock, doing):
            yield answer[1:], lock

    def _wait_for(self, name: str, take: Callable[[bytes], list[Any]]) -> tuple[list[Any], HeldLock]:
        token = _new_token()
        deadline, nap_s = time.monotonic() + self._wait_s, _FIRST_NAP_S
        while (answer := take(token))[0] == b"held":
            if time.monotonic() >= deadline:
                pid, holder = _holder(answer[1])
                place = f"{name} at {self._server.address.server}"
                raise StoreLocked(f"The lock {place} was not free within {self._wait_s:g} s: {holder}", pid)
            time.sleep(nap_s)
            nap_s = min(_LONGEST_NAP_S, nap_s * 2)
        return answer, HeldLock(name, token)

    @contextmanager
    def _holding(self, lock: HeldLock, doing: str) -> Generator[None]:
        held = self._of_thread.held = [*self.here, lock]
        self._renew_from_now_on(lock)
        try:
            yield
        finally:
            self._of_thread.held = [each for each in held if each is not lock]
            with self._changed:
                self._held = [each for each in self._held if each is not lock]
            if not lock.released:
                self._release(lock, doing)

    def _release(self, lock: HeldLock, doing: str) -> None:
        try:
            self._server.run(scripts.RELEASE, doing, lock.name, lock.token)
        except StoreError as error:
            _log.info("The lock %s ends with its lease: %s", lock.name, error)

    # ---- leases

    def _renew_from_now_on(self, lock: HeldLock) -> None:
        with self._changed:
            self._held = [*self._held, lock]
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="redis-leases", daemon=True)
                self._thread.start()

    def _renew(self) -> None:
        """Renew the locks that are held for long, until there was none for a while."""
        seen: list[HeldLock] = []
        while True:
            with self._changed:
                self._changed.wait(_RENEW_S)
                if not self._held and not seen:
                    self._thread = None
                    return
                lasting = [lock for lock in seen if lock in self._held]
                seen = self._held
            words = [word for lock in lasting for word in (lock.name, lock.token)]
            if not words:
                continue
            try:
                self._server.run(scripts.RENEW, "renew a lock", _LEASE_MS, *words)
            except StoreError as error:
                _log.info("A lock may be lost: %s", error)

    def close(self) -> None:
        """End the thread, if no lock is held."""
        with self._changed:
            thread = self._thread if not self._held else None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * _RENEW_S)


def _new_token() -> bytes:
    facts = f"{os.urandom(8).hex()} {os.getpid()} {time.time():.3f} {socket.gethostname()}"
    return facts.encode("utf-8", "backslashreplace")


def _holder(token: bytes) -> tuple[int | None, str]:
    """Return the pid of a holder, where it is on this machine, and the holder in words."""
    try:
        _, pid, since_s, host = token.decode().split(" ", 3)
        since = datetime.fromtimestamp(float(since_s), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None, "its holder is not known; try again"
    is_here = host == socket.gethostname()
    where = "" if is_here else f" on {host}"
    words = f"process {pid}{where} holds it since {since}; wait for it, or end it"
    return (int(pid) if is_here else None), words


def _after_fork() -> None:
    for locks in list(_all):
        locks.free_locks()


_all: Final[weakref.WeakSet[RedisLocks]] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
