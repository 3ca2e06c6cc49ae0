"""When jobs with `JobOptions.keep_seconds` are to be looked at: an empty file for each, named by its time.

A job is filed when it is submitted, for the earliest time at which it could go: as if it ended at once. A
look that finds it unended files it anew. So an end costs nothing, whatever process writes it, and a look
costs what is due, not what is kept. A dead letter stays, because its failure would go unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from python_mcp_server.jobs.expired import remove_job
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.model import Job, utc_now
from python_mcp_server.store.keys import is_dead_letter, rank_of

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_DIRECTORY: Final = "keeping"
_DUE: Final = "due"
_FRONT_CHARS: Final = 5
"""Of a rank: 17 minutes."""

_LEAST: Final = timedelta(minutes=1)
"""Until the first look at a job: its record is written after its file, and must be there by then."""


class Expiry:
    """The times of one home. Every method blocks."""

    def __init__(self, store: JobStore, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._files = HomeFiles(store, _DIRECTORY)
        self._now = now

    def add(self, job: Job) -> None:
        """File a job that is about to be created, if it is not kept for ever.

        Raises:
            StoreError: The file cannot be written.
        """
        if (kept := _kept(job)) is not None:
            self._file(self._now() + max(kept, _LEAST), job.id)

    def remove_due(self, most: int, stopped: Callable[[], bool]) -> int:
        """Remove the jobs whose time is over, after a look at the first that may be; return how many were
        looked at.

        Args:
            most: How many to look at.
            stopped: Whether to leave the rest to another time.

        Raises:
            StoreError: The files cannot be read, or a job cannot be removed.
        """
        looked = 0
        for front, name in islice(self._due(), most):
            if stopped():
                break
            self._look(front, name)
            looked += 1
        return looked

    def _due(self) -> Iterator[tuple[str, str]]:
        now = rank_of(self._now())
        for front in self._files.names(_DUE):
            if front > now[:_FRONT_CHARS]:
                return
            names = self._files.names(_DUE, front)
            if not names and front < now[:_FRONT_CHARS]:
                self._files.remove_all(_DUE, front)
            yield from ((front, name) for name in names if name.partition(".")[0] <= now)

    def _look(self, front: str, name: str) -> None:
        job = self._store.peek(name.partition(".")[2])
        if job is not None and not is_dead_letter(job) and (kept := _kept(job)) is not None:
            due = self._now() + max(kept, _LEAST) if job.completed_at is None else job.completed_at + kept
            if due > self._now():
                self._file(due, job.id)
            else:
                remove_job(self._store, job, self._now)
        self._files.remove(_DUE, front, name)

    def _file(self, due: datetime, job_id: str) -> None:
        rank = rank_of(due)
        self._files.write(_DUE, rank[:_FRONT_CHARS], f"{rank}.{job_id}")


def _kept(job: Job) -> timedelta | None:
    seconds = None if job.options is None else job.options.keep_seconds
    return None if seconds is None else timedelta(seconds=seconds)
