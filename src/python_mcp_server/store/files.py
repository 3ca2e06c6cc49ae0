"""The store that processes share: one JSON file per job, replaced whole under a lock.

`jobs` imports this module in servers and workers, so it stays light. `layout.py` defines the place of every
file. The store's promises: an acknowledged write survives SIGKILL of every process, and with `fsync` a loss
of power; no cost grows with the number of finished jobs, except that of a prune and of a listing that asks
for more.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.processes.host import is_shortage
from python_mcp_server.regular import LinkInHome
from python_mcp_server.store.contract import (
    IN_PAGES,
    SHOWN_RESULT_BYTES,
    Pruned,
    PruneRule,
    Survey,
    check_change,
    in_order_of_end,
)
from python_mcp_server.store.encoding import Stored
from python_mcp_server.store.home import HomeStore
from python_mcp_server.store.layout import (
    LIVE,
    TERMINAL,
    check_job_id,
    created_before,
    is_job_id,
    older_than,
    tree_of,
)
from python_mcp_server.store.listing import PublicList
from python_mcp_server.store.maintenance import complete_index, open_home
from python_mcp_server.store.records import Records
from python_mcp_server.store.sweep import sweep_output

_log: Final = logging.getLogger(__name__)


class FileJobStore(HomeStore):
    """Jobs in a directory that any number of processes may use at once.

    Args:
        home: The directory; made, private, when it is missing. It must lie on one file system.
        lock_s: How long to wait for a lock before `StoreLocked` names who holds it.
        fsync: Whether writes survive a loss of power too, at the price of some ms each.

    Raises:
        StoreError: The directory cannot be used, or a newer version made it. A full disk is logged;
            the first change tries again.
    """

    def __init__(self, home: str | Path, *, lock_s: float = 10.0, fsync: bool = False) -> None:
        super().__init__(os.path.abspath(os.path.expanduser(home)), lock_s, fsync=fsync)
        self._records = Records(self._layout, self._locks, fsync=fsync)
        self._open = False
        self._is_indexed = False
        try:
            self._open_home()
        except StoreError as error:
            if not is_shortage(error):
                raise
            _log.warning("%s; until then no job can be recorded", error)
        self._public = PublicList(self._layout, self._records)
        weakref.finalize(self, self._public.close)

    def locator(self) -> dict[str, Any]:
        """Return how another process opens this store."""
        given = {"home": self._layout.home, "lock_s": self._lock_s, "fsync": self.fsync}
        return {"opens": f"{__name__}:{FileJobStore.__name__}", "given": given, "place": self._layout.jobs}

    def create(self, job: Job) -> None:
        """Write a new job. When this returns, every process that shares the store can read it.

        Raises:
            InvalidInput: A job with this id exists already, or the id is not from `new_job_id`.
        """
        check_job_id(job.id)
        doing = f"create job {job.id}"
        with self._hold(job.id), translate_os_errors(self._layout.home, doing):
            if self._find(job.id, locked=True) is not None:
                raise InvalidInput(f"Job {job.id} is there already; take a new id")
            with self.journal.noting(job) as noted:
                try:
                    self._records.write(noted)
                except BaseException:  # the caller is told that it failed: it must not stay in the queue
                    self._records.retract(job)
                    raise
        self._public.touch()

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None. An id of any shape may be passed."""
        with translate_os_errors(self._layout.home, f"read job {job_id!r}"):
            stored = self._find(job_id)
            return None if stored is None else self._records.whole(stored)

    def peek(self, job_id: str) -> Job | None:
        """Return the job, or None; without a result of more than 500 kB, which is not read."""
        with translate_os_errors(self._layout.home, f"read job {job_id!r}"):
            stored = self._find(job_id)
            if stored is None or stored.result_bytes <= SHOWN_RESULT_BYTES:
                return None if stored is None else self._records.whole(stored)
            return stored.job.without_result(stored.result_bytes, IN_PAGES)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)` under its lock, and return the present job.

        `change` must not write to the store itself: it would wait for its own lock.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or data that is not JSON.
        """
        with self._hold(job_id):
            with translate_os_errors(self._layout.home, f"read job {job_id}"):
                stored = self._find(job_id, locked=True)
                if stored is None:
                    raise JobNotFound(job_id)
                if stored.job.status.terminal:
                    self._records.drop_live(job_id)
                job = self._records.whole(stored)
            if job.status.terminal or (changed := change(job)) is job:
                return job
            check_change(job, changed)
            with (
                translate_os_errors(self._layout.home, f"write job {job_id}"),
                self.journal.noting(changed, job) as noted,
            ):
                self._records.write(noted, job)
                if noted.status.terminal:
                    self._records.drop_live(job_id)
        self._public.touch()
        return noted

    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more."""
        trees = (LIVE, *TERMINAL) if status is None else (tree_of(status),)
        wanted = None if before is None else older_than(before)
        own = self._in_index(principal)
        jobs: list[Job] = []
        with translate_os_errors(self._layout.home, "list jobs"):
            for stored in self._records.newest_first(*trees, wanted=wanted, principal=own):
                if status not in (None, stored.job.status) or not stored.job.belongs_to(principal):
                    continue
                if len(jobs) >= limit:
                    return jobs, True
                jobs.append(stored.listed)
        return jobs, False

    def live(self, principal: str | None = None) -> tuple[Job, ...]:
        """Return the jobs that are not terminal, oldest first."""
        own = self._in_index(principal)
        with translate_os_errors(self._layout.home, "look at the live jobs"):
            stored = self._records.live() if own is None else self._records.newest_first(LIVE, principal=own)
            found = [each.job for each in stored if each.job.belongs_to(principal)]
        return tuple(job for job in reversed(found) if not job.status.terminal)

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:
        """Return the first jobs of a list of the index, by rank; the others are not read."""
        with translate_os_errors(self._layout.home, "read the queue"):
            return tuple(self._records.queue.first(name, limit, until))

    def index_count(self, name: str, most: int) -> int:
        """Return how many jobs a list of the index has, leftovers of killed processes included."""
        with translate_os_errors(self._layout.home, "read the queue"):
            return self._records.queue.count(name, most)

    def index_names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists in the index that begin with this text, and may have jobs."""
        with translate_os_errors(self._layout.home, "read the queue"):
            return self._records.queue.names(prefix)

    def prune(
        self,
        should_go: Callable[[Job], bool] | None = None,
        principal: str | None = None,
        among: Collection[JobState] | None = None,
        ended_before: datetime | None = None,
    ) -> Pruned:
        """Remove the terminal jobs that every given condition names, with their files.

        A lock is held for each removal alone, so a prune of any size does not block other processes.
        """
        rule = PruneRule(should_go, principal, among, ended_before)
        wanted = None if ended_before is None else created_before(ended_before)
        own = self._in_index(principal)
        trees = [tree_of(state) for state in rule.states]
        removed = 0
        with translate_os_errors(self._layout.home, "prune jobs"):
            for stored in self._records.newest_first(*trees, wanted=wanted, principal=own):
                job = stored.listed
                if rule.names(job):
                    removed += self._remove(job)
            if principal is None:
                sweep_output(self._layout, self._records.known, self._hold_now)
                remaining = self._records.counts.total()
            elif own is not None:
                remaining = self._records.index.count(own)
            else:
                left = self._records.newest_first(LIVE, *TERMINAL)
                remaining = sum(stored.job.belongs_to(principal) for stored in left)
        if removed:
            self._public.touch()
        return Pruned(removed, remaining)

    def oldest_ended(self, limit: int = 100) -> tuple[Job, ...]:
        """Return the terminal jobs that were created first, in the order of their ends; no other is read."""
        with translate_os_errors(self._layout.home, "look for the oldest jobs"):
            found = islice(self._records.oldest_first(), max(0, limit))
            return in_order_of_end(stored.listed for stored in found)

    def remove(self, job_id: str) -> bool:
        """Remove a job that has ended, with its files, and return whether it was there.

        Raises:
            StoreError: It lies behind a symbolic link, or cannot be removed.
        """
        with translate_os_errors(self._layout.home, f"remove job {job_id!r}"):
            stored = self._find(job_id)
            if stored is None or not stored.job.status.terminal:
                return False
            with self._hold(job_id):
                removed = self._records.remove(stored.job)
        self._public.touch()
        return removed

    def _remove(self, job: Job) -> bool:
        try:
            with self._hold(job.id):
                return self._records.remove(job)
        except LinkInHome as error:
            _log.warning("Job %s stays: %s", job.id, error)
            return False

    def flush(self) -> None:
        """Bring the list for people up to date, and end the thread that writes it."""
        self._public.close()

    def close(self) -> None:
        """Do as `flush` does; a file store holds nothing else."""
        self.flush()

    def survey(self, most: int | None = None) -> Survey:
        """Read the records, and return which ones cannot be read. It costs some 0.1 ms for each job."""
        with translate_os_errors(self._layout.home, "read the records"):
            if most is not None:
                readable, left, complete = self._records.survey_ends(most)
                return Survey(readable, left, self.damaged(), complete)
            return Survey(*self._records.survey(), self.damaged())

    def _find(self, job_id: str, *, locked: bool = False) -> Stored | None:
        return self._records.find(job_id, locked=locked) if is_job_id(job_id) else None

    def _in_index(self, principal: str | None) -> str | None:
        """Return the principal where the index has all its jobs, otherwise None: then all records are read.

        The first look of this store brings the index up to date with what older versions have written.
        """
        if principal is None or (self._is_indexed and os.path.exists(self._layout.complete)):
            return principal
        try:
            if os.path.isdir(self._layout.jobs):  # otherwise the home is gone, and a look makes none
                complete_index(self._layout, self._locks, self._records)
        except (OSError, StoreError) as error:
            _log.warning("The jobs of a client are looked for among all: %s", error)
            return None
        self._is_indexed = True
        return principal

    def _open_home(self) -> None:
        open_home(self._layout, self._locks, self._records, fsync=self.fsync)
        self._open = True

    def _hold_now(self, job_id: str) -> AbstractContextManager[None]:
        return self._locks.hold(self._layout.stripe(job_id), wait_s=0)

    def _hold(self, job_id: str) -> AbstractContextManager[None]:
        if not self._open:
            self._open_home()
        return self._locks.hold(self._layout.stripe(job_id))
