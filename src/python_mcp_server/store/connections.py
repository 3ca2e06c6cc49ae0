"""The connections of one process to one SQLite database. Only `sqlite` uses this module.

A connection is used by one thread at a time. None is open while the process forks: SQLite keeps in memory
which locks the process holds, and a child that inherits this would write without them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from python_mcp_server.errors import StoreError

_FORK_WAIT_S: Final = 1.0
"""Guessed: a transaction lasts some ms, and a fork must not hang."""

Place = tuple[int, int]
"""The device and the inode of a database file."""

Lent = tuple[Place, sqlite3.Connection]
"""A connection, with the file that it was opened on."""


class ConnectionPool:
    """Lends the connections to one database, and makes further ones.

    Args:
        path: The database file.
        connect: Makes a connection; the file is made where it is missing.
    """

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._guard = threading.Condition()
        self._idle: list[Lent] = []
        self._lent = 0
        self._forking = False
        _all.add(self)
        weakref.finalize(self, _close, self._idle)

    def take(self) -> Lent:
        """Return a connection for the use of one thread, which gives it back.

        Raises:
            StoreError: This process was forked while its parent used the database.
            sqlite3.Error: The database cannot be opened.
        """
        with self._guard:
            while self._forking:
                self._guard.wait()
            if self._path in _inherited:
                raise StoreError(
                    f"This process was forked while its parent used {self._path}, so it cannot use it: "
                    "fork at another time, or start a program"
                )
            idle = self._idle.pop() if self._idle else None
            self._lent += 1
        try:
            return self._fresh(idle)
        except BaseException:
            self._count_back(None)
            raise

    def _fresh(self, idle: Lent | None) -> Lent:
        """Return a connection to the file that has the name now; the former one may have been replaced."""
        if idle is not None:
            if idle[0] == self._place():
                return idle
            idle[1].close()
        connection = self._connect()
        return self._place() or (0, 0), connection

    def _place(self) -> Place | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def give_back(self, lent: Lent) -> None:
        """Take a connection back; a transaction that was left open is rolled back."""
        try:
            if lent[1].in_transaction:
                with suppress(sqlite3.Error):  # a failed one is rolled back already
                    lent[1].rollback()
        finally:
            self._count_back(lent)

    def _count_back(self, lent: Lent | None) -> None:
        with self._guard:
            self._lent -= 1
            if lent is not None:
                self._idle.append(lent)
            if self._forking:
                self._guard.notify_all()

    def close(self) -> None:
        """Close the connections that no thread uses now."""
        with self._guard:
            _close(self._idle)

    def before_fork(self) -> None:
        """Close all connections, and lend none until the fork is done. A transaction that lasts for longer
        than a fork may wait keeps its connection.
        """
        self._guard.acquire()
        self._forking = True
        self._guard.wait_for(lambda: not self._lent, _FORK_WAIT_S)
        _close(self._idle)

    def after_fork(self, *, in_child: bool) -> None:
        """Lend connections again; in a child only if its parent had none open."""
        self._forking = False
        if not in_child:
            self._guard.notify_all()
            self._guard.release()
            return
        self._guard = threading.Condition()  # a thread of the parent may wait for the former one
        if self._lent:
            _inherited.add(self._path)


def _close(idle: list[Lent]) -> None:
    while idle:
        idle.pop()[1].close()


def _before_fork() -> None:
    _forking[:] = list(_all)
    for pool in _forking:
        pool.before_fork()


def _after_fork(*, in_child: bool) -> None:
    while _forking:
        _forking.pop().after_fork(in_child=in_child)


_inherited: Final[set[str]] = set()
"""The databases that the parent of this forked process had open at the fork."""

_all: Final[weakref.WeakSet[ConnectionPool]] = weakref.WeakSet()
_forking: Final[list[ConnectionPool]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=lambda: _after_fork(in_child=True),
    )
