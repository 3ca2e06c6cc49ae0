"""Jobs with a key that wait behind others of their key, each key apart from the ready jobs.

Among the ready jobs of a group at most a few have the same key, so the cost of the next start grows neither
with the number of keys nor with that of the jobs of one. A job goes behind its key when it is created, or
when a look at the queue finds that the key is taken. The process that ends an attempt of a job lets the first
one of each list of its key move up: then as many are ready or run as may run, or all of them. Who puts a job
behind its key looks again afterwards, because the last one may have ended meanwhile; and each server looks
for the lists that were missed, because a process was killed in between.

    created or due -> ready -> running -> ended, or waits again
                       |  ^                  |
                       v  |                  |
                  behind its key <- moves up +
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.keys import KEY, name_behind_key, names_behind_key, start_rank

if TYPE_CHECKING:
    from python_mcp_server.jobs.capacity import Capacity
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_REMEMBERED: Final = 4096
_SWEPT_AT_ONCE: Final = 100
_TRIES: Final = 10
"""How many jobs of a list are looked at for one that can move up; others are being cancelled just then."""


class KeyedSubmissions:
    """Writes the records of new jobs, each behind its key where others of it go first. The methods block, and
    any thread may call them.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._leaders: OrderedDict[str, deque[str]] = OrderedDict()

    def create(self, job: Job) -> None:
        """Write the record of a new job that waits in the background.

        Raises:
            InvalidInput, StoreError: As the store's `create`.
        """
        options = job.options
        if options is None or options.key is None or job.waits_for or job.not_before is not None:
            self._store.create(job)
            return
        name, most = name_behind_key(job), options.key_concurrency
        waiting = self._store.indexed(name, 1)
        goes_first = (
            start_rank(waiting[0]) <= start_rank(job) if waiting else self._are_ahead(name, job, most)
        )
        if not goes_first:
            self._store.create(job)
            self._remember(name, job.id, most)
            return
        self._store.create(job.evolve(behind_key=True))
        first = self._store.indexed(name, 1)
        if first and first[0].id == job.id and not self._are_ahead(name, job, most):
            _move_up(self._store, name)  # those before it may all have ended by now

    def _are_ahead(self, name: str, job: Job, most: int) -> bool:
        """Whether as many jobs of its key as may run are ready or run, which this process has created."""
        leaders = [*self._leaders.get(name, ())]
        return len(leaders) == most and all(self._is_ahead(leader_id, job) for leader_id in leaders)

    def _is_ahead(self, leader_id: str, job: Job) -> bool:
        leader = self._store.peek(leader_id)
        if leader is None or leader.status.terminal or leader.waits_for or leader.not_before is not None:
            return False
        return leader.status is not JobState.PENDING or start_rank(leader) <= start_rank(job)

    def _remember(self, name: str, job_id: str, most: int) -> None:
        self._leaders.setdefault(name, deque(maxlen=most)).append(job_id)
        self._leaders.move_to_end(name)
        while len(self._leaders) > _REMEMBERED:
            self._leaders.popitem(last=False)


def put_behind_key(store: JobStore, job: Job) -> bool:
    """Put a ready job behind its key, because that is taken; return False where that cannot be written. The
    caller looks at the key once more afterwards. Blocks.
    """

    def put(found: Job) -> Job:
        ready = found.status is JobState.PENDING and not found.waits_for and found.not_before is None
        return found.evolve(behind_key=True) if ready and not found.ending else found

    return _changed(store, job.id, put) is not None


def release_key(store: JobStore, key: str) -> None:
    """Let the first job of each list behind a key move up, because one of the key has ended or waits again.
    Blocks.

    Raises:
        StoreError: The store cannot be read.
    """
    for name in store.index_names(names_behind_key(key)):
        _move_up(store, name)


def sweep_keys(store: JobStore, capacity: Callable[[], Capacity], swept: str) -> str:
    """Let jobs move up whose key was left free while no process saw it, in some lists at a time. Blocks.

    Args:
        store: Where the jobs lie.
        capacity: Returns what the background jobs of the home take.
        swept: The list that the last round ended with.

    Returns:
        The list that this round ended with.

    Raises:
        StoreError: The store cannot be read.
    """
    if not (names := store.index_names(KEY)):
        return ""
    present = capacity()
    if present.full() is not None:
        return swept
    taken = tuple(names_behind_key(key) for what, key in present.taken if what == "key")
    free = [name for name in names if not name.startswith(taken)]
    following = ([name for name in free if name > swept] or free)[:_SWEPT_AT_ONCE]
    for name in following:
        for job in store.indexed(name, 1):
            if present.held_back(job) is None:
                _move_up(store, name)
    return following[-1] if following else ""


def _move_up(store: JobStore, name: str) -> None:
    """Make the first job of a list ready."""
    for _ in range(_TRIES):
        first = store.indexed(name, 1)
        moved = [_changed(store, job.id, _made_ready) for job in first]
        if not _has_ended(moved):
            return


def _made_ready(job: Job) -> Job:
    return job.evolve(behind_key=False) if job.behind_key else job


def _has_ended(moved: Iterable[Job | None]) -> bool:
    return any(job is not None and (job.status.terminal or job.ending is not None) for job in moved)


def _changed(store: JobStore, job_id: str, change: Callable[[Job], Job]) -> Job | None:
    try:
        return store.update(job_id, change)
    except (StoreError, JobNotFound) as error:
        _log.warning("job %s stays where it is in the queue: %s", job_id, error)
        return None
