"""One SQLite database of jobs: its tables, its transactions, and its errors as sentences. Only `sqlite` uses
this module.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Collection, Generator
from contextlib import contextmanager
from sqlite3 import connect
from typing import Any, Final, NoReturn

from python_mcp_server.atomic import make_directory, translate_os_errors
from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.store.connections import ConnectionPool
from python_mcp_server.store.locks import Locks

_APPLICATION: Final = 0x504D4350  # "PMCP", so that the database of another program is told from ours
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    principal TEXT,
    ended REAL,
    index_name TEXT,
    rank TEXT,
    record BLOB NOT NULL
);
CREATE INDEX jobs_status ON jobs (status, id);
CREATE INDEX jobs_principal ON jobs (principal, id) WHERE principal IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (status, ended) WHERE ended IS NOT NULL;
CREATE INDEX jobs_live ON jobs (id) WHERE ended IS NULL;
CREATE INDEX jobs_queue ON jobs (index_name, rank, id) WHERE index_name IS NOT NULL;
"""
_WRITABLE: Final = "make it, and the directory it is in, writable for this user"
_RECOVER: Final = (
    "end the servers that use it, keep a copy, and have `sqlite3` write what is left into a new one "
    "(.recover), or remove it to begin anew"
)
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "free space on its disk, or set PYTHON_MCP_STORE to one with room"),
    sqlite3.SQLITE_READONLY: (errno.EACCES, _WRITABLE),
    sqlite3.SQLITE_PERM: (errno.EACCES, _WRITABLE),
    sqlite3.SQLITE_CANTOPEN: (errno.ENOENT, "make sure that it is in a directory that this user may use"),
    sqlite3.SQLITE_CORRUPT: (errno.EIO, _RECOVER),
    sqlite3.SQLITE_NOTADB: (errno.EIO, "move it away, or set PYTHON_MCP_STORE to another"),
    sqlite3.SQLITE_PROTOCOL: (errno.ENOLCK, "set PYTHON_MCP_STORE to one on a local file system"),
}
"""What to do, and the error of the system that is like it, by SQLite's code."""


class Database:
    """The database of one store.

    Args:
        path: Its file; made, private, when it is missing.
        locks: The locks of the store.
        lock_s: How long to wait while others write.
        fsync: Whether a transaction survives a loss of power.
    """

    def __init__(self, path: str, locks: Locks, lock_s: float, *, fsync: bool) -> None:
        self._path = path
        self._locks = locks
        self._lock_s = lock_s
        self._fsync = fsync
        self._connections = ConnectionPool(path, self._connect)

    def close(self) -> None:
        """Close the connections; the next use opens one again."""
        self._connections.close()

    def check(self) -> None:
        """Look at the whole file.

        Raises:
            StoreError: It is damaged.
        """
        with self.reading("check the database") as db:
            found: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"The database {self._path} is damaged ({found:.200}); {_RECOVER}")

    def can_write(self, wait_s: float = 1.0) -> bool:
        """Whether a transaction could write now, or in so many seconds.

        Raises:
            StoreError: The database cannot be used.
        """
        with self.reading("look whether it is locked") as db:
            db.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return False
            finally:
                db.execute(f"PRAGMA busy_timeout = {int(self._lock_s * 1000)}")
        return True

    @contextmanager
    def reading(self, doing: str) -> Generator[sqlite3.Connection]:
        """Lend a connection for reading over the block.

        Args:
            doing: What is done, for the text of an error: "read job 1ab".

        Raises:
            StoreError: The database cannot be used.
        """
        try:
            lent = self._connections.take()
            try:
                yield lent[1]
            finally:
                self._connections.give_back(lent)
        except sqlite3.Error as error:
            self._raise_as_sentence(error, doing)

    @contextmanager
    def writing(self, doing: str) -> Generator[sqlite3.Connection]:
        """Lend a connection for one transaction over the block; where the block raises, nothing was written.

        Raises:
            StoreLocked: Another process writes for too long.
            StoreError: The database cannot be used.
        """
        with self.reading(doing) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def _raise_as_sentence(self, error: sqlite3.Error, doing: str) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreLocked(
                f"Could not {doing}: another process kept {self._path} locked for {self._lock_s:g} s; "
                "wait for it, or end it"
            ) from error
        number, advice = _ADVICE.get(code, (errno.EIO, "check the disk it is on"))
        cause = OSError(number, str(error), str(self._path))
        raise StoreError(f"Could not {doing}: {error} at {self._path}; {advice}") from cause

    def _connect(self) -> sqlite3.Connection:
        self._make_file()
        db = connect(self._path, timeout=self._lock_s, isolation_level=None, check_same_thread=False)
        try:
            if self._is_new(db):
                self._begin(db)
            db.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
        except BaseException:
            db.close()
            raise
        return db

    def _make_file(self) -> None:
        """Make the file where it is missing, private; SQLite gives its own files the same mode.

        It is never opened here where it is there: closing it would release the locks of SQLite.

        Raises:
            StoreError: It is not a file of this account alone.
        """
        with translate_os_errors(str(self._path), "open the database"):
            try:
                found = os.lstat(self._path)
            except FileNotFoundError:
                make_directory(os.path.dirname(self._path))
                try:
                    os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                except FileExistsError:
                    found = os.lstat(self._path)
                else:
                    return
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{self._path} is not a regular file; set PYTHON_MCP_STORE to another")
        if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
            raise StoreError(
                f"Other accounts may write into {self._path}; run chmod 600 on it, "
                "or set PYTHON_MCP_STORE to a file of your own"
            )

    def _is_new(self, db: sqlite3.Connection) -> bool:
        """Whether the database is empty.

        Raises:
            StoreError: It is that of another program, or of a newer version.
        """
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if application == _APPLICATION and version > _FORMAT:
            raise StoreError(
                f"The database {self._path} has format {version}, and this version reads up to {_FORMAT}: "
                "upgrade python-mcp-server, or set PYTHON_MCP_STORE to another"
            )
        if application == _APPLICATION:
            return False
        if application or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreError(
                f"The database {self._path} belongs to another program; set PYTHON_MCP_STORE to a new one"
            )
        return True

    def _begin(self, db: sqlite3.Connection) -> None:
        """Make the tables, once."""
        with self._locks.hold("open"):
            if not self._is_new(db):
                return
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    f"The file system of {self._path} cannot share memory between processes (the mode is "
                    f"{mode!r}); set PYTHON_MCP_STORE to a local one"
                )
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_FORMAT};"
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")


def marks(values: Collection[object]) -> str:
    """Return the marks of as many values, for `IN (...)`."""
    return ", ".join("?" * len(values))


def select(
    db: sqlite3.Connection, columns: str, conditions: dict[str, Any], order: str = "id", limit: int = -1
) -> sqlite3.Cursor:
    """Select from the jobs. A condition has a value for its mark, or a list of values; None leaves it out."""
    given = {text: value for text, value in conditions.items() if value is not None}
    values = list[Any]()
    for value in given.values():
        values += value if isinstance(value, list) else [value]
    where = " AND ".join(given) or "1"
    query = f"SELECT {columns} FROM jobs WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608  our own words
    return db.execute(query, [*values, limit])
