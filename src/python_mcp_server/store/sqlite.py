"""The store in one SQLite database: a row for each job, in transactions that processes share.

A list, a prune and a look at the queue go by an index of the database. The files of jobs lie beside it, in a
directory of its name and `-files`: output, results that are too large for a listing, locks, the logs of
workers, and rows that were set aside.

An acknowledged write survives SIGKILL of every process (write-ahead log, `synchronous=NORMAL`), and with
`fsync` a loss of power (`FULL`). A prune removes the rows first, then the files; what a killed one leaves is
removed by a later one.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeGuard

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.processes.host import is_shortage
from python_mcp_server.store.contract import (
    IN_PAGES,
    SHOWN_RESULT_BYTES,
    Pruned,
    PruneRule,
    Survey,
    check_change,
    in_order_of_end,
)
from python_mcp_server.store.database import Database, marks, select
from python_mcp_server.store.encoding import Stored, Unreadable, decode_row, encode, with_result
from python_mcp_server.store.home import HomeStore
from python_mcp_server.store.keys import index_key
from python_mcp_server.store.layout import check_before, check_job_id, is_job_id
from python_mcp_server.store.sweep import sweep_output

_log: Final = logging.getLogger(__name__)
_CHUNK: Final = 500
"""Rows that a prune removes in one transaction: others wait for some ms."""

_Row = tuple[str, str, Any]

_CREATE: Final = (
    "INSERT INTO jobs (status, principal, ended, index_name, rank, record, id) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE: Final = (
    "UPDATE jobs SET status = ?, principal = ?, ended = ?, index_name = ?, rank = ?, record = ? WHERE id = ?"
)
_NAMES: Final = """
WITH RECURSIVE names(name) AS (
    SELECT min(index_name) FROM jobs WHERE index_name >= :first
    UNION ALL
    SELECT (SELECT min(index_name) FROM jobs WHERE index_name > name) FROM names WHERE name < :last
)
SELECT name FROM names WHERE name < :last
"""


class SqliteJobStore(HomeStore):
    """Jobs in one SQLite database that any number of processes of this machine may use at once.

    Args:
        path: The database file; made, private, when it is missing. The jobs' files lie beside it, in
            `<path>-files`.
        lock_s: How long to wait while others write, before `StoreLocked`.
        fsync: Whether writes survive a loss of power too, at the price of some ms each.

    Raises:
        StoreError: The database cannot be used, is damaged, or a newer version made it. A full disk is
            logged; the first change tries again.
    """

    def __init__(self, path: str | Path, *, lock_s: float = 10.0, fsync: bool = False) -> None:
        self.path: Final = Path(os.path.abspath(os.path.expanduser(path)))
        super().__init__(f"{self.path}-files", lock_s, fsync=fsync)
        self._database = Database(str(self.path), self._locks, lock_s, fsync=fsync)
        try:
            self._open()
        except StoreError as error:
            if not is_shortage(error):
                raise
            _log.warning("%s; until then no job can be recorded", error)

    def locator(self) -> dict[str, Any]:
        """Return how another process opens this store."""
        given = {"path": str(self.path), "lock_s": self._lock_s, "fsync": self.fsync}
        return {"opens": f"{__name__}:{type(self).__name__}", "given": given, "place": str(self.path)}

    def create(self, job: Job) -> None:
        """Write a new job. When this returns, every process that shares the store can read it.

        Raises:
            InvalidInput: A job with this id exists already, or the id is not from `new_job_id`.
        """
        check_job_id(job.id)
        with ExitStack() as stack, self._database.writing(f"create job {job.id}") as db:
            if db.execute("SELECT 1 FROM jobs WHERE id = ?", (job.id,)).fetchone():
                raise InvalidInput(f"Job {job.id} is there already; take a new id")
            self._write(db, _CREATE, stack.enter_context(self.journal.noting(job)))  # the event comes later

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None. An id of any shape may be passed."""
        stored = self._find(job_id)
        return None if stored is None else with_result(stored, self._layout)

    def peek(self, job_id: str) -> Job | None:
        """Return the job, or None; without a result of more than 500 kB, which is not read."""
        stored = self._find(job_id)
        if stored is None or stored.result_bytes <= SHOWN_RESULT_BYTES:
            return None if stored is None else with_result(stored, self._layout)
        return stored.job.without_result(stored.result_bytes, IN_PAGES)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)` in a transaction, and return the present job.

        `change` must not write to the store itself: it would wait for its own transaction.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or data that is not JSON.
        """
        if not is_job_id(job_id):
            raise JobNotFound(job_id)
        try:
            with ExitStack() as stack, self._database.writing(f"write job {job_id}") as db:
                if (row := self._row(db, job_id)) is None:
                    raise JobNotFound(job_id)
                job = with_result(decode_row(*row), self._layout)
                if job.status.terminal or (changed := change(job)) is job:
                    return job
                check_change(job, changed)
                noted = stack.enter_context(self.journal.noting(changed, job))
                self._write(db, _UPDATE, noted)
                return noted
        except Unreadable as reason:
            self._set_aside(job_id, reason)
            raise JobNotFound(job_id) from reason

    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more."""
        limit = max(0, limit)
        conditions = {"status = ?": status and status.value, "principal = ?": principal, "id < ?": before}
        if before is not None:
            check_before(before)
        with self._database.reading("list jobs") as db:
            found = [s.listed for s in self._rows(db, conditions, "id DESC", min(limit + 1, 2**62))]
        return found[:limit], len(found) > limit

    def live(self, principal: str | None = None) -> tuple[Job, ...]:
        """Return the jobs that are not terminal, oldest first."""
        with self._database.reading("look at the live jobs") as db:
            rows = self._rows(db, {"ended IS NULL": [], "principal = ?": principal}, "id")
            return tuple(stored.job for stored in rows)

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:
        """Return the first jobs of a list of the index, by rank; the others are not read."""
        with self._database.reading("read the queue") as db:
            rows = self._rows(db, {"index_name = ?": name, "rank <= ?": until}, "rank, id", max(0, limit))
            return tuple(stored.job for stored in rows)

    def index_count(self, name: str, most: int) -> int:
        """Return how many jobs a list of the index has; counting stops at `most`."""
        with self._database.reading("read the queue") as db:
            return len(select(db, "1", {"index_name = ?": name}, "rank", max(0, most)).fetchall())

    def index_names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists in the index that begin with this text, and have jobs."""
        with self._database.reading("read the queue") as db:
            bounds = {"first": prefix, "last": f"{prefix}\U0010ffff"}
            return tuple(name for (name,) in db.execute(_NAMES, bounds))

    def prune(
        self,
        should_go: Callable[[Job], bool] | None = None,
        principal: str | None = None,
        among: Collection[JobState] | None = None,
        ended_before: datetime | None = None,
    ) -> Pruned:
        """Remove the terminal jobs that every given condition names, with their files.

        Some hundred are removed in a transaction, so a prune of any size does not block other processes.
        """
        rule, removed = PruneRule(should_go, principal, among, ended_before), 0
        found = self._prunable(rule, principal, ended_before)
        for start in range(0, len(found), _CHUNK):
            chunk = found[start : start + _CHUNK]
            removed += len(self._remove(chunk if should_go is None else self._named(chunk, rule)))
        with translate_os_errors(self._layout.home, "prune jobs"):
            if principal is None:
                sweep_output(self._layout, self._known, lambda _: self._database.writing("prune jobs"))
        with self._database.reading("count the jobs") as db:
            whose = "" if principal is None else " WHERE principal = ?"
            found = db.execute(f"SELECT count(*) FROM jobs{whose}", [principal] if whose else [])  # noqa: S608
            return Pruned(removed, found.fetchone()[0])

    def _prunable(self, rule: PruneRule, principal: str | None, ended_before: datetime | None) -> list[str]:
        conditions = {
            f"status IN ({marks(rule.states)})": [state.value for state in rule.states],
            "principal = ?": principal,
            "ended <= ?": None if ended_before is None else ended_before.timestamp(),
        }
        with self._database.reading("prune jobs") as db:
            return [job_id for (job_id,) in select(db, "id", conditions)]

    def _named(self, job_ids: list[str], rule: PruneRule) -> list[str]:
        with self._database.reading("prune jobs") as db:
            rows = self._rows(db, {f"id IN ({marks(job_ids)})": job_ids})
            return [stored.job.id for stored in rows if rule.names(stored.listed)]

    def oldest_ended(self, limit: int = 100) -> tuple[Job, ...]:
        """Return the terminal jobs that were created first, in the order of their ends; no other is read."""
        with self._database.reading("look for the oldest jobs") as db:
            rows = self._rows(db, {"ended IS NOT NULL": []}, "id", max(0, limit))
            return in_order_of_end(stored.listed for stored in rows)

    def remove(self, job_id: str) -> bool:
        """Remove a job that has ended, with its files, and return whether it was there.

        Raises:
            StoreError: It lies behind a symbolic link, or cannot be removed.
        """
        if not is_job_id(job_id):
            return False
        self._layout.refuse_links(self._layout.folder(job_id))
        return bool(self._remove([job_id]))

    def _remove(self, job_ids: list[str]) -> list[str]:
        """Remove these jobs, where they have ended, and return which were there."""
        going = [(job_id,) for job_id in job_ids if self._may_be_removed(job_id)]
        gone: list[str] = []
        if going:
            with self._database.writing("remove jobs") as db:
                for job_id in going:
                    done = db.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", job_id)
                    gone += job_id * done.rowcount
        self._discard_folders(gone)
        return gone

    def long_locks(self, at_least_s: float) -> list[str]:
        """Return who holds a lock of the home, for at least so long, and whether the database is locked."""
        held = super().long_locks(at_least_s)
        return held if self._database.can_write() else [*held, f"another process keeps {self.path} locked"]

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        self._database.close()

    def survey(self, most: int | None = None) -> Survey:
        """Read the records, and return which ones cannot be read. It costs some 0.05 ms for each job. The
        file itself is checked where all are read.

        Raises:
            StoreError: The database is damaged.
        """
        if most is None:
            self._database.check()
        left, readable, looked = list[str](), 0, 0
        for row in self._all_rows() if most is None else self._rows_at_ends(most):
            looked += 1
            if self._listed(row) is not None:
                readable += 1
            elif self._known(row[0]):  # otherwise it was set aside
                left.append(f"{self.path} ({row[0]})")
        return Survey(readable, left, self.damaged(), complete=most is None or looked < most)

    def _all_rows(self) -> Iterator[_Row]:
        last = ""
        while page := self._page({"id > ?": last}, "id", _CHUNK):
            last = page[-1][0]
            yield from page

    def _rows_at_ends(self, most: int) -> Iterable[_Row]:
        rows = (*self._page({}, "id DESC", most), *self._page({}, "id", most))
        return {row[0]: row for row in rows}.values()

    def _page(self, conditions: dict[str, Any], order: str, most: int) -> list[_Row]:
        with self._database.reading("read the records") as db:
            return select(db, "id, status, record", conditions, order, most).fetchall()

    # ---- rows

    def _find(self, job_id: str) -> Stored | None:
        if not is_job_id(job_id):
            return None
        with self._database.reading(f"read job {job_id}") as db:
            row = self._row(db, job_id)
        try:
            return None if row is None else decode_row(*row)
        except Unreadable as reason:
            self._set_aside(job_id, reason)
            return None

    def _row(self, db: sqlite3.Connection, job_id: str) -> _Row | None:
        return db.execute("SELECT id, status, record FROM jobs WHERE id = ?", (job_id,)).fetchone()

    def _known(self, job_id: str) -> bool:
        with self._database.reading(f"look for job {job_id}") as db:
            return db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone() is not None

    def _rows(
        self, db: sqlite3.Connection, conditions: dict[str, Any], order: str = "id", limit: int = -1
    ) -> Iterator[Stored]:
        """Yield the records that meet these conditions; a condition whose value is None does not count."""
        for row in select(db, "id, status, record", conditions, order, limit).fetchall():
            if (stored := self._listed(row)) is not None:
                yield stored

    def _listed(self, row: _Row) -> Stored | None:
        try:
            return decode_row(*row)
        except Unreadable as reason:
            self._set_aside(row[0], reason)
        except StoreError as error:
            _log.warning("Left %s out of a listing: %s", row[0], error)
        return None

    def _set_aside(self, job_id: str, reason: Unreadable) -> None:
        """Move a row that is no record into a file, so that it costs only itself."""
        target = ""
        try:
            with self._database.writing("set a damaged record aside") as db:
                if not self._is_damaged(row := self._row(db, job_id)):
                    return  # another process has moved or written it by now
                data = row[2] if isinstance(row[2], bytes) else str(row[2]).encode()
                target = self._put_damaged(str(job_id), data)
                db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        except StoreError as error:
            _log.warning("Left the damaged record %s where it is: %s", job_id, error)
        else:
            _log.warning("Set aside the record %s as %s: %s", job_id, target, reason)

    def _is_damaged(self, row: _Row | None) -> TypeGuard[_Row]:
        try:
            if row is not None:
                decode_row(*row)
        except Unreadable:
            return True
        return False

    def _write(self, db: sqlite3.Connection, statement: str, job: Job) -> None:
        record, result = encode(job)
        if result is not None:
            with translate_os_errors(self._layout.home, f"write job {job.id}"):
                self._put(self._layout.result(job.id), result)
        key = index_key(job)
        ended = (job.completed_at or job.created_at).timestamp() if job.status.terminal else None
        place = (None, None) if key is None else (key.name, key.rank)
        db.execute(statement, (job.status.value, job.principal, ended, *place, record, job.id))

    def _open(self) -> None:
        with self._database.reading("open the store"):
            self._open_folders()  # not beside a file that is no database
        self._clean_folders()
