"""What every store of jobs promises. Knows no processes and no MCP; imported by `jobs` and by users
who bring a store of their own."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from python_mcp_server.model import JobState

if TYPE_CHECKING:
    from python_mcp_server.model import Job


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did: how many jobs it removed, how many are left."""

    removed: int
    remaining: int


class JobStore(ABC):
    """Where jobs lie. Every method blocks and may be called from any thread of any process.

    Raises, from every method:
        StoreError: The state cannot be read or written (disk full, no permission, ...).
        StoreLocked: Another process held the lock for longer than the wait allows.
    """

    @property
    @abstractmethod
    def home(self) -> Path:
        """The directory that holds everything of this store."""

    @abstractmethod
    def create(self, job: Job) -> None:
        """Write a new job. When this returns, every process that shares the store can read it.

        Raises:
            InvalidInput: A job with this id is there already, or the id cannot name a file: it is
                not 1 to 100 of `A-Z a-z 0-9 . _ -`, or has a dot at an end.
        """

    @abstractmethod
    def get(self, job_id: str) -> Job | None:
        """Return the job, or None. An id of any shape is safe to ask for."""

    @abstractmethod
    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)` under its lock, and return what now stands.

        A terminal job is returned as it is and `change` is not called: the first writer of a
        terminal state wins. `change` may return its argument itself, then nothing is written; it
        runs under the lock, so it must be short, and it must not write to the store itself.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or something that is no JSON.
        """

    @abstractmethod
    def list(
        self, status: JobState | None = None, limit: int = 50, principal: str | None = None
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more.

        A result of more than 64 KiB is None here, and `result_note` says how large it is. With a
        principal, the jobs of others are not there.
        """

    def live(self) -> tuple[Job, ...]:
        """Return the jobs that are not terminal, oldest first. Others are seen as they were at some
        instant of this call; a job that ends meanwhile may be missing."""
        states = [state for state in JobState if not state.terminal]
        found = [job for state in states for job in self.list(state, sys.maxsize)[0]]
        return tuple(sorted(found, key=lambda job: (job.created_at, job.id)))

    @abstractmethod
    def prune(
        self,
        should_go: Callable[[Job], bool],
        principal: str | None = None,
        among: Collection[JobState] | None = None,
    ) -> Pruned:
        """Remove the terminal jobs for which `should_go` says so, with their files.

        Args:
            should_go: Asked about each job. Where the wall clock was set since a job ended, it gets
                `completed_at` as the clock of now would have told it, never one in the future.
            principal: With one, the jobs of others are neither removed nor counted.
            among: The states to look at; all where None. Those left out cost next to nothing.
        """

    @abstractmethod
    def folder(self, job_id: str) -> Path:
        """Return where the job's files (`stdout`, `stderr`, ...) lie; it may not exist yet."""

    def folder_text(self, job_id: str) -> str:
        """Return `folder` as text; on the way of every call, so a store may have a faster way to it."""
        return str(self.folder(job_id))

    @abstractmethod
    def discard_folder(self, job_id: str) -> None:
        """Remove the files of a job that has no record. A folder that is not there is no error."""

    @abstractmethod
    def lane_folder(self, name: str) -> Path:
        """Return where a lane keeps its logs: on the same file system as `folder`, so that files
        can be linked from here into a job's folder. It may not exist yet.

        Raises:
            InvalidInput: The name may not name a directory.
        """

    @abstractmethod
    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all who share the store. It is not
        reentrant, and apart from the locks of jobs: under it every other method may be called."""

    def flush(self) -> None:  # noqa: B027  most stores show nothing beside their jobs
        """Bring what is shown beside the jobs up to date, and end the threads that do so. The store goes
        on to work."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is beside the jobs, such as threads and temporary files. May be called twice."""
