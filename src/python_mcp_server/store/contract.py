"""The contract of every store of jobs. `jobs` imports this module, and so do users with a store of their
own.

A further store derives from `JobStore` and is added to `tests/unit/store/test_contract.py`. Jobs outlive
their server only in a store that a worker can open by itself, by its `locator`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.job_result import JobResult, result_of, settled_with
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.journal import Journal
from python_mcp_server.store.keys import DEAD, index_key

SHOWN_RESULT_BYTES: Final = 500_000
"""Of JSON. A larger result is read in pages: no client that we know takes more characters for its model."""

IN_PAGES: Final = 'py_job_output with stream="result" reads it in pages'


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result of a prune: how many jobs it removed, how many are left."""

    removed: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of a look at the records.

    Attributes:
        readable: How many are whole.
        left: The records that cannot be read and stay in place: of a newer version, or forbidden.
        damaged: The files that were set aside, now or before.
        complete: Whether every record was read.
    """

    readable: int
    left: list[str]
    damaged: list[Path]
    complete: bool = True


class PruneRule:
    """The conditions of one prune; the parameters are those of `JobStore.prune`."""

    def __init__(
        self,
        should_go: Callable[[Job], bool] | None,
        principal: str | None,
        among: Collection[JobState] | None,
        ended_before: datetime | None,
    ) -> None:
        self.states: Final = [s for s in JobState if s.terminal and (among is None or s in among)]
        self._should_go = should_go
        self._principal = principal
        self._ended_before = ended_before

    def names(self, job: Job) -> bool:
        """Whether this prune removes the job."""
        return (
            job.status in self.states
            and job.belongs_to(self._principal)
            and (self._ended_before is None or (job.completed_at or job.created_at) <= self._ended_before)
            and (self._should_go is None or self._should_go(job))
        )


def check_change(job: Job, changed: Job) -> None:
    """Refuse the result of a change of a job where it is another job.

    Raises:
        InvalidInput: The ids differ.
    """
    if changed.id != job.id:
        raise InvalidInput(
            f"A change of job {job.id} returned job {changed.id!r}; evolve the one it was given"
        )


def in_order_of_end(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return jobs that have ended, the one that ended first at the front."""
    return tuple(sorted(jobs, key=lambda job: (job.completed_at or job.created_at, job.id)))


class JobStore(ABC):
    """Keeps jobs. Every method blocks and may be called from any thread of any process.

    Raises, from every method:
        StoreError: The state cannot be read or written (disk full, no permission, ...).
        StoreLocked: Another process held the lock for longer than the wait allows.

    Attributes:
        fsync: Whether acknowledged writes survive a loss of power.
    """

    fsync: bool = False

    def locator(self) -> dict[str, Any] | None:
        """Return how another process of this machine opens the store, as JSON; None where none can, so that
        jobs end with this process.

        Returns:
            `{"opens": "module:Class", "given": {...}, "place": "/path"}`: the class and its arguments, and a
            path that is there as long as the store is.
        """
        return None

    @property
    @abstractmethod
    def home(self) -> Path:
        """The directory that holds the files of the jobs."""

    @cached_property
    def journal(self) -> Journal:
        """The events of this store's jobs. `create` and `update` write each record inside `journal.noting`,
        under the lock of the job.
        """
        return Journal(str(self.home), self.exclusive)

    @abstractmethod
    def create(self, job: Job) -> None:
        """Write a new job. When this returns, every process that shares the store can read it.

        Raises:
            InvalidInput: A job with this id exists already, or the id is not from `new_job_id`.
        """

    @abstractmethod
    def get(self, job_id: str) -> Job | None:
        """Return the job, or None. An id of any shape may be passed."""

    def peek(self, job_id: str) -> Job | None:
        """Return the job, or None. A result of more than 500 kB may be None here, and then `result_note` says
        how large it is: a store that has it in a file of its own does not read the file."""
        return self.get(job_id)

    @abstractmethod
    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)` under its lock, and return the present job.

        A terminal job is returned as it is and `change` is not called: the first writer of a
        terminal state wins. `change` may return its argument itself, then nothing is written; it
        runs under the lock, so it must be short, and it must not write to the store itself.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or data that is not JSON.
        """

    @abstractmethod
    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more.

        A result of more than 64 KiB is None here, and `result_note` says how large it is.

        Args:
            status: Only jobs in this state.
            limit: How many at most.
            principal: With one, the jobs of others are left out.
            before: Only jobs older than the one with this id, which need not exist; newer ones cost next to
                nothing.

        Raises:
            InvalidInput: `before` is not the id of a job.
        """

    def live(self, principal: str | None = None) -> tuple[Job, ...]:
        """Return the jobs that are not terminal, oldest first. Others are seen as they were at some
        instant of this call; a job that ends meanwhile may be missing. With a principal, the jobs of others
        are left out."""
        states = [state for state in JobState if not state.terminal]
        whose = {} if principal is None else {"principal": principal}  # a store may not know of principals
        found = [job for state in states for job in self.list(state, sys.maxsize, **whose)[0]]
        return tuple(sorted(found, key=lambda job: (job.created_at, job.id)))

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:
        """Return the first jobs of a list of the index, by rank; see `store.keys`.

        A store that derives this from its live records has no index, so each start reads all of them.

        Args:
            name: The name of the list.
            limit: How many jobs at most.
            until: With one, only jobs of this rank or a lower one.
        """
        keys = [(index_key(job), job) for job in self._with_keys(name)]
        found = [(key.rank, job.id, job) for key, job in keys if key is not None and key.name == name]
        found = [entry for entry in found if until is None or entry[0] <= until]
        return tuple(job for _, _, job in sorted(found, key=itemgetter(0, 1))[: max(0, limit)])

    def index_count(self, name: str, most: int) -> int:
        """Return how many jobs a list of the index has; counting stops at `most`."""
        return len(self.indexed(name, most))

    def index_names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists in the index that begin with this text, and may have jobs."""
        keys = map(index_key, self._with_keys(prefix))
        return tuple(sorted({key.name for key in keys if key is not None and key.name.startswith(prefix)}))

    def _with_keys(self, prefix: str) -> tuple[Job, ...]:
        """Return the jobs that may be in the lists of the index that begin with this text."""
        dead = prefix.startswith(DEAD) or DEAD.startswith(prefix)
        return (*self.live(), *(self.list(JobState.FAILED, sys.maxsize)[0] if dead else ()))

    @abstractmethod
    def prune(
        self,
        should_go: Callable[[Job], bool] | None = None,
        principal: str | None = None,
        among: Collection[JobState] | None = None,
        ended_before: datetime | None = None,
    ) -> Pruned:
        """Remove the terminal jobs that every given condition names, with their files.

        Args:
            should_go: Called with each job that the other conditions name.
            principal: With one, the jobs of others are neither removed nor counted.
            among: The states to look at; all where None. Those left out cost next to nothing.
            ended_before: Only jobs that ended by this time. Jobs that were created later cost next to
                nothing.
        """

    def oldest_ended(self, limit: int = 100) -> tuple[Job, ...]:
        """Return the terminal jobs that were created first, at most so many, in the order of their ends.

        A store that derives this from its lists reads all records.
        """
        states = [state for state in JobState if state.terminal]
        found = [job for state in states for job in self.list(state, sys.maxsize)[0]]
        found.sort(key=lambda job: job.id)
        return in_order_of_end(found[: max(0, limit)])

    def store(self, token: str, result: JobResult) -> Job:
        """Settle a job with this result, and return the job in its state afterwards: one that has ended is
        left as it is.

        Raises:
            JobNotFound: There is no such job.
        """
        plain = result.portable()  # before the lock is taken, because the code of the data may run
        return self.update(token, lambda job: settled_with(job, plain))

    def retrieve(self, token: str) -> JobResult | None:
        """Return the result of a job; None where the job has not ended, or there is no such job."""
        job = self.get(token)
        return result_of(job) if job is not None and job.status.terminal else None

    def cleanup(self, token: str) -> bool:
        """Remove a job that has ended, with its result and its files.

        Returns:
            Whether it was removed; False where it has not ended, or there is no such job.
        """
        job = self.peek(token)
        return job is not None and job.status.terminal and self.remove(token)

    def remove(self, job_id: str) -> bool:
        """Remove a job that has ended, with its files, and return whether it was there."""
        return self.prune(lambda job: job.id == job_id).removed > 0

    @abstractmethod
    def folder(self, job_id: str) -> Path:
        """Return the folder of the job's files (`stdout`, `stderr`, ...); it may not exist yet."""

    def folder_text(self, job_id: str) -> str:
        """Return `folder` as text. Every call needs it, so a store may have a faster way to it."""
        return str(self.folder(job_id))

    @abstractmethod
    def discard_folder(self, job_id: str) -> None:
        """Remove the files of a job that has no record. A missing folder is no error."""

    @abstractmethod
    def worker_folder(self, name: str) -> Path:
        """Return the folder of the logs of the worker with this name. It is on the same file system as
        `folder`, so that files can be linked from it into a job's folder, and may not exist yet.

        Raises:
            InvalidInput: The name may not name a directory.
        """

    @abstractmethod
    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all who share the store. The lock is not
        reentrant. It is independent of the locks of jobs: while it is held every other method may be called.
        """

    def survey(self, most: int | None = None) -> Survey:
        """Read the records, and return which ones cannot be read.

        A store that derives this finds no damage.

        Args:
            most: How many of the newest records are read, and how many of the oldest; all where None.
        """
        jobs, more = self.list(limit=sys.maxsize if most is None else most)
        return Survey(len(jobs), [], [], complete=not more)

    def damaged(self) -> Sequence[Path]:
        """Return the records that were set aside, as files, because they could not be read; none where a
        store sets none aside.
        """
        return ()

    def long_locks(self, at_least_s: float) -> Sequence[str]:  # noqa: ARG002  for stores that have some
        """Return who holds a lock of the store, for at least so long, in words; none where a store cannot
        tell.
        """
        return ()

    def flush(self) -> None:  # noqa: B027  most stores show nothing beside their jobs
        """Bring the list for people up to date, and end the threads that do so. The store can still be
        used.
        """

    @abstractmethod
    def close(self) -> None:
        """Release threads, temporary files and other resources. May be called twice."""
