"""The store of one process, for tests and for programs that keep nothing.

Jobs are in memory; their files lie in a private directory that is removed with the store. Imported by
`jobs` and by users.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.contract import (
    IN_PAGES,
    SHOWN_RESULT_BYTES,
    JobStore,
    Pruned,
    PruneRule,
    check_change,
)
from python_mcp_server.store.encoding import Stored, encode
from python_mcp_server.store.keys import IndexKey, index_key
from python_mcp_server.store.layout import Layout, check_job_id, check_name, older_than


class InMemoryJobStore(JobStore):
    """Jobs in this process only; they end with the process.

    Its directory is removed at `close`, when the store is collected, and when the process exits.
    """

    def __init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="python-mcp-")
        self._layout = Layout(self._home)
        self._jobs: dict[str, Stored] = {}
        self._lists: dict[str, list[tuple[str, str]]] = {}
        self._guard = threading.RLock()
        self._named: dict[str, threading.Lock] = {}
        self._remove_home = weakref.finalize(self, _remove, self._home, os.getpid())
        _stores.add(self)

    def free_locks(self) -> None:
        """Replace the locks in a forked child, because threads of the parent that may hold them do not exist
        there.
        """
        self._guard, self._named = threading.RLock(), {}

    @property
    def home(self) -> Path:
        """Return the directory of the jobs' files."""
        return Path(self._home)

    def create(self, job: Job) -> None:
        """Keep a new job.

        Raises:
            InvalidInput: A job with this id exists already, or the id is not from `new_job_id`.
        """
        check_job_id(job.id)
        stored = _stored(job)
        with self._guard:
            if job.id in self._jobs:
                raise InvalidInput(f"Job {job.id} is there already; take a new id")
            with self.journal.noting(job) as noted:
                self._jobs[job.id] = replace(stored, job=noted)
            self._move(job.id, None, index_key(job))

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        stored = self._jobs.get(job_id)
        return None if stored is None else stored.job

    def peek(self, job_id: str) -> Job | None:
        """Return the job, or None; without a result of more than 500 kB."""
        stored = self._jobs.get(job_id)
        if stored is None or stored.result_bytes <= SHOWN_RESULT_BYTES:
            return None if stored is None else stored.job
        return stored.job.without_result(stored.result_bytes, IN_PAGES)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)`, and return the present job; a terminal job stays.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or data that is not JSON.
        """
        with self._guard:
            job = self.get(job_id)
            if job is None:
                raise JobNotFound(job_id)
            if job.status.terminal or (changed := change(job)) is job:
                return job
            check_change(job, changed)
            with self.journal.noting(changed, job) as noted:
                self._jobs[job_id] = _stored(noted)
            self._move(job_id, index_key(job), index_key(changed))
            return noted

    def _move(self, job_id: str, former: IndexKey | None, key: IndexKey | None) -> None:
        """Move a job from its former list of the index to another one."""
        if former == key:
            return
        if former is not None:
            entries = self._lists[former.name]
            del entries[bisect_left(entries, (former.rank, job_id))]
            if not entries:
                del self._lists[former.name]
        if key is not None:
            insort(self._lists.setdefault(key.name, []), (key.rank, job_id))

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:
        """Return the first jobs of a list of the index, by rank."""
        with self._guard:
            first = self._lists.get(name, [])[: max(0, limit)]
            return tuple(self._jobs[job_id].job for rank, job_id in first if until is None or rank <= until)

    def index_names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists in the index that begin with this text."""
        with self._guard:
            return tuple(sorted(name for name in self._lists if name.startswith(prefix)))

    def index_count(self, name: str, most: int) -> int:
        """Return how many jobs a list of the index has; counting stops at `most`."""
        with self._guard:
            return min(len(self._lists.get(name, ())), max(0, most))

    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more."""
        wanted = None if before is None else older_than(before)
        with self._guard:
            fitting = [s for s in self._of(principal) if status in (None, s.job.status)]
        fitting = [stored for stored in fitting if wanted is None or wanted(stored.job.id)]
        fitting.sort(key=lambda stored: stored.job.id, reverse=True)
        shown = fitting[: max(0, limit)]
        return [stored.listed for stored in shown], len(fitting) > len(shown)

    def _of(self, principal: str | None) -> list[Stored]:
        return [stored for stored in self._jobs.values() if stored.job.belongs_to(principal)]

    def prune(
        self,
        should_go: Callable[[Job], bool] | None = None,
        principal: str | None = None,
        among: Collection[JobState] | None = None,
        ended_before: datetime | None = None,
    ) -> Pruned:
        """Remove the terminal jobs that every given condition names, with their files."""
        rule = PruneRule(should_go, principal, among, ended_before)
        with self._guard:
            own = self._of(principal)
            going = [stored.job.id for stored in own if rule.names(stored.listed)]
            for job_id in going:
                self._move(job_id, index_key(self._jobs.pop(job_id).job), None)
        for job_id in going:
            self.discard_folder(job_id)
        return Pruned(len(going), len(own) - len(going))

    def folder(self, job_id: str) -> Path:
        """Return the folder of the job's files (`stdout`, `stderr`, ...); it may not exist yet."""
        return Path(self._layout.folder(job_id))

    def discard_folder(self, job_id: str) -> None:
        """Remove the files of a job. A missing folder is no error."""
        folder = self._layout.folder(job_id)
        self._layout.refuse_links(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def worker_folder(self, name: str) -> Path:
        """Return the folder of the logs of the worker with this name; it may not exist yet."""
        check_name(name)
        return Path(self._layout.worker_logs, name)

    @contextmanager
    def exclusive(self, name: str) -> Generator[None]:
        """Hold a lock of this name over the block. Not reentrant."""
        with self._guard:
            lock = self._named.setdefault(name, threading.Lock())
        with lock:
            yield

    def close(self) -> None:
        """Forget the jobs and remove their files."""
        with self._guard:
            self._jobs.clear()
            self._lists.clear()
        self._remove_home()


def _free_all_locks() -> None:
    for store in list(_stores):
        store.free_locks()


_stores: Final[weakref.WeakSet[InMemoryJobStore]] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all_locks)


def _stored(job: Job) -> Stored:
    """Note the size of a large result, so that listings leave it out, as those of the file store do."""
    result = encode(job)[1]
    return Stored(job, len(result) if result else 0)


def _remove(home: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child that exits must not remove its parent's files
        shutil.rmtree(home, ignore_errors=True)
