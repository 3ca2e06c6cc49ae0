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
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeGuard

from python_mcp_server.atomic import make_directory, remove_tree, translate_os_errors, write_file
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.processes.host import is_shortage
from python_mcp_server.regular import IN_HOME, LinkInHome, refuse_links
from python_mcp_server.store.contract import (
    IN_PAGES,
    SHOWN_RESULT_BYTES,
    JobStore,
    Pruned,
    PruneRule,
    Survey,
    check_change,
    in_order_of_end,
)
from python_mcp_server.store.database import Database, marks, select
from python_mcp_server.store.encoding import Stored, Unreadable, decode, encode, with_result
from python_mcp_server.store.keys import index_key
from python_mcp_server.store.layout import Layout, check_before, check_job_id, check_name, is_job_id, tree_of
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.sweep import clean_temporary, clean_worker_logs, close_to_others, sweep_output

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


class SqliteJobStore(JobStore):
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
        self.fsync = fsync
        self._lock_s = lock_s
        self._home = Path(f"{self.path}-files")
        self._layout = Layout(str(self._home))
        self._locks = Locks(self._layout.locks, self._layout.home, lock_s)
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

    @property
    def home(self) -> Path:
        """The directory of the jobs' files, beside the database."""
        return self._home

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
                job = with_result(self._decoded(row), self._layout)
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
        going = [(job_id,) for job_id in job_ids if self._is_ours(job_id)]
        gone: list[str] = []
        if going:
            with self._database.writing("remove jobs") as db:
                for job_id in going:
                    done = db.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", job_id)
                    gone += job_id * done.rowcount
        for job_id in gone:
            try:
                self.discard_folder(job_id)
            except StoreError as error:  # such as files of another account
                _log.warning("The files of job %s stay, and are removed another time: %s", job_id, error)
        return gone

    def _is_ours(self, job_id: str) -> bool:
        try:
            self._layout.refuse_links(self._layout.folder(job_id))
        except LinkInHome as error:
            _log.warning("Job %s stays: %s", job_id, error)
            return False
        return True

    def folder(self, job_id: str) -> Path:
        """Return the folder of the job's files (`stdout`, `stderr`, ...); it may not exist yet.

        Raises:
            StoreError: It lies behind a symbolic link.
        """
        folder = self._layout.folder(job_id)
        refuse_links(folder, IN_HOME)
        return Path(folder)

    def folder_text(self, job_id: str) -> str:
        """Return `folder` as text, without the cost of a `Path`."""
        return self._layout.folder(job_id)

    def discard_folder(self, job_id: str) -> None:
        """Remove the files of a job that has no record. A missing folder is no error."""
        with translate_os_errors(self._layout.home, f"remove the files of job {job_id!r}"):
            folder = self._layout.folder(job_id)
            self._layout.refuse_links(folder)
            remove_tree(folder)

    def worker_folder(self, name: str) -> Path:
        """Return the folder of the logs of the worker with this name; it may not exist yet."""
        check_name(name)
        return Path(self._layout.worker_logs, name)

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all processes of this store. Not reentrant."""
        check_name(name)
        return self._locks.hold(f"own-{name}")

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        self._database.close()

    def damaged(self) -> list[Path]:
        """Return the rows that were set aside, as files, because they were not records."""
        with translate_os_errors(self._layout.home, "look for damaged files"):
            directory = self._layout.damaged
            return sorted(Path(directory).iterdir()) if os.path.isdir(directory) else []

    def survey(self) -> Survey:
        """Read every record, and return which ones cannot be read. It costs some 0.05 ms for each job.

        Raises:
            StoreError: The database is damaged.
        """
        self._database.check()
        left, readable, last = list[str](), 0, ""
        while page := self._page_after(last):
            last = page[-1][0]
            for row in page:
                if self._listed(row) is not None:
                    readable += 1
                elif self._known(row[0]):  # otherwise it was set aside
                    left.append(f"{self.path} ({row[0]})")
        return Survey(readable, left, self.damaged())

    def _page_after(self, job_id: str) -> list[_Row]:
        with self._database.reading("read all records") as db:
            return select(db, "id, status, record", {"id > ?": job_id}, "id", _CHUNK).fetchall()

    # ---- rows

    def _find(self, job_id: str) -> Stored | None:
        if not is_job_id(job_id):
            return None
        with self._database.reading(f"read job {job_id}") as db:
            row = self._row(db, job_id)
        try:
            return None if row is None else self._decoded(row)
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
            return self._decoded(row)
        except Unreadable as reason:
            self._set_aside(row[0], reason)
        except StoreError as error:
            _log.warning("Left %s out of a listing: %s", row[0], error)
        return None

    def _decoded(self, row: _Row) -> Stored:
        job_id, status, record = row
        try:
            tree = tree_of(JobState(status))
        except ValueError as error:
            raise Unreadable(f"its state is {status!r:.40}") from error
        if not isinstance(record, bytes):
            raise Unreadable("it is not JSON")
        return decode(record, job_id, tree)

    def _set_aside(self, job_id: str, reason: Unreadable) -> None:
        """Move a row that is no record into a file, so that it costs only itself."""
        target = f"{self._layout.damaged}/{os.path.basename(str(job_id))[:100]}.{os.urandom(4).hex()}"
        try:
            with self._database.writing("set a damaged record aside") as db:
                if not self._is_damaged(row := self._row(db, job_id)):
                    return  # another process has moved or written it by now
                with translate_os_errors(self._layout.home, "set a damaged record aside"):
                    self._put(target, row[2] if isinstance(row[2], bytes) else str(row[2]).encode())
                db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        except StoreError as error:
            _log.warning("Left the damaged record %s where it is: %s", job_id, error)
        else:
            _log.warning("Set aside the record %s as %s: %s", job_id, target, reason)

    def _is_damaged(self, row: _Row | None) -> TypeGuard[_Row]:
        try:
            if row is not None:
                self._decoded(row)
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

    def _put(self, path: str, data: bytes) -> None:
        self._layout.refuse_links(path)
        write_file(path, data, temporary_in=self._layout.tmp, fsync=self.fsync)

    def _open(self) -> None:
        with translate_os_errors(self._layout.home, "open the store"):
            close_to_others(self._layout.home)
            for directory in self._layout.file_directories():
                self._layout.refuse_links(f"{directory}/")
                make_directory(directory, fsync=self.fsync)
        with self._database.reading("open the store"):
            pass
        try:
            clean_temporary(self._layout.tmp)
            clean_worker_logs(self._layout.worker_logs)
        except OSError as error:
            _log.warning("Cleaning up %s goes on another time: %s", self._layout.home, error)
