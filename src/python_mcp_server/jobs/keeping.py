"""What a home keeps: jobs go at the end of their own time, and the oldest where a bound of the home is met.

One server at a time looks, and none for some minutes afterwards. A look reads no job that stays, except a few
of the oldest. Only where the disk space has a bound, the files of all jobs are measured, for one hundredth of
the time at the most. A job that has not ended is never removed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.expired import Tombstones, remove_job
from python_mcp_server.jobs.expiry import Expiry
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.jobs.quotas import sweep_ledgers
from python_mcp_server.jobs.sameness import SHARDS, Entries
from python_mcp_server.limits import number_words
from python_mcp_server.model import MB, Job, utc_now
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.settings import variable
from python_mcp_server.store.files import FileJobStore

if TYPE_CHECKING:
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_LOCK: Final = "keeping"
_STATE: Final = "state.json"
_ROUND_S: Final = 180.0
_SOON_S: Final = 5.0
"""Until the next round where one has left something to do."""

_MOST_REMOVED: Final = 1_000
"""In one round, by each rule: it takes a second or two."""

_FRESH: Final = timedelta(minutes=1)
"""How long after its end no bound removes a job: its caller may be about to read it."""

_BATCH: Final = 100
"""So many of the oldest jobs are removed at a time. A store finds those that were created first, and twice as
many are looked at, because one of them may have run for long, and then it is not among the first to go."""

_MEASURE_SHARE: Final = 100.0
_RECORD_BYTES: Final = 4096
"""The disk space of a record, roughly."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a home; 0 for none.

    Attributes:
        days: How long a job is kept after its end.
        jobs: How many jobs that have ended are kept.
        mb: The disk space of the jobs.
    """

    days: float = 0.0
    jobs: int = 0
    mb: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the bounds that the settings have."""
        return cls(settings.keep_days, settings.keep_jobs, settings.keep_mb)


@dataclass(frozen=True, slots=True)
class State:
    """The state of the rounds of a home, as its file has it; times are those of the clock, in seconds.

    Attributes:
        next_at: When the next round is due.
        shard: The number of the directory of `jobs.sameness` that is swept next.
        taken_mb: The disk space of the jobs at the last measurement, less what was removed since.
        measure_at: When it is measured again.
    """

    next_at: float = 0.0
    shard: int = 0
    taken_mb: float = 0.0
    measure_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bound removes next.

    Attributes:
        text: The bound, and how far it is met, in words.
        jobs: The next jobs that go; more may follow.
    """

    text: str
    jobs: tuple[Job, ...] = ()


class Keeper:
    """Removes what a home is not to keep. Every method blocks."""

    def __init__(self, store: JobStore, bounds: Bounds, now: Callable[[], datetime] = utc_now) -> None:
        """Make a keeper.

        Args:
            store: Where the jobs are stored.
            bounds: The bounds of the home.
            now: The clock.
        """
        self._store = store
        self._bounds = bounds
        self._now = now
        self._files = HomeFiles(store, _LOCK)
        self._stopped = False

    def stop(self) -> None:
        """Let a round that runs end soon. Any thread may call this."""
        self._stopped = True

    def round(self) -> float:
        """Remove what is due, unless another process of the home does, or did a short time ago; return in how
        many seconds the next round is due.

        Raises:
            StoreError: The store cannot be read or written; the next round goes on.
        """
        if not os.path.isdir(self._store.home):
            return _ROUND_S
        if (left_s := self._left_s()) > 0:
            return left_s
        with self._store.exclusive(_LOCK):
            if (left_s := self._left_s()) > 0:
                return left_s
            state = self._state()
            state = replace(state, next_at=self._clock() + _ROUND_S, shard=(state.shard + 1) % len(SHARDS))
            self._write(state)  # first: a round that fails is not tried again at once
            more, state = self._sweep(state)
            if more and not self._stopped:
                state = replace(state, next_at=self._clock() + _SOON_S)
            self._write(state)
        return _SOON_S if more else _ROUND_S

    def _sweep(self, state: State) -> tuple[bool, State]:
        """Do one round; return whether it has left something to do."""
        looked = Expiry(self._store, self._now).remove_due(_MOST_REMOVED, lambda: self._stopped)
        old, surplus = self._remove_old(), self._remove_surplus()
        large, state = self._remove_large(state)
        Tombstones(self._store, self._now).sweep()
        Entries(self._store).sweep(SHARDS[state.shard])
        sweep_ledgers(self._store)
        if removed := old + surplus + large:
            _log.info("removed %d of the oldest jobs, by the bounds of the home", removed)
        return max(looked, old, surplus, large) >= _MOST_REMOVED, state

    # ---- the bounds

    def _remove_old(self) -> int:
        """Remove the jobs that ended too long ago."""
        if not self._bounds.days:
            return 0
        last = self._last_day()
        return self._remove_oldest(lambda job: _ended(job) <= last)

    def _last_day(self) -> datetime:
        return self._now() - timedelta(days=min(self._bounds.days, 36_500))

    def _remove_surplus(self) -> int:
        """Remove the oldest jobs above the number that is kept."""
        surplus = self._surplus()

        def goes(_: Job) -> bool:
            nonlocal surplus
            surplus -= 1
            return surplus >= 0

        return self._remove_oldest(goes) if surplus else 0

    def _surplus(self) -> int:
        if not self._bounds.jobs:
            return 0
        total = self._store.prune(among=()).remaining
        live = sum(self._store.index_count(name, total) for name in self._store.index_names(""))
        return max(0, total - live - self._bounds.jobs)

    def _remove_large(self, state: State) -> tuple[int, State]:
        """Remove the oldest jobs until the others take no more than the disk space of the home."""
        if not self._bounds.mb:
            return 0, state
        state = self._measured(state)
        taken_mb = state.taken_mb

        def goes(job: Job) -> bool:
            nonlocal taken_mb
            if taken_mb <= self._bounds.mb:
                return False
            taken_mb -= self._mb_of(job)
            return True

        return self._remove_oldest(goes), replace(state, taken_mb=taken_mb)

    def _measured(self, state: State) -> State:
        if 0 < state.measure_at - self._clock() <= _MEASURE_SHARE * _ROUND_S:
            return state
        began = time.monotonic()
        taken_mb = DiskMeter(self._paths()).measure() / MB
        took_s = min(time.monotonic() - began, _ROUND_S)
        return replace(state, taken_mb=taken_mb, measure_at=self._clock() + _MEASURE_SHARE * took_s)

    def _paths(self) -> tuple[str, ...]:
        home = str(self._store.home)
        records = (f"{home}/jobs",) if isinstance(self._store, FileJobStore) else ()
        return (f"{home}/output", *records)  # a removal frees nothing of a database

    def _mb_of(self, job: Job) -> float:
        return (DiskMeter((self._store.folder_text(job.id),)).measure() + _RECORD_BYTES) / MB

    # ---- removing

    def _remove_oldest(self, goes: Callable[[Job], bool]) -> int:
        """Remove the oldest jobs up to the first that is to stay, and not too many; return how many."""
        removed = 0
        while removed < _MOST_REMOVED:
            before = removed
            for job in self._oldest():
                if self._stopped or not goes(job):
                    return removed
                removed += self._remove(job)
            if removed == before:
                break
        return removed

    def _oldest(self) -> list[Job]:
        """Return the next jobs that may go, those that ended first in front."""
        found = self._store.oldest_ended(2 * _BATCH)
        return [job for job in found if _ended(job) <= self._now() - _FRESH][:_BATCH]

    def _remove(self, job: Job) -> bool:
        try:
            return remove_job(self._store, job, self._now)
        except StoreError as error:
            _log.warning("job %s stays: %s", job.id, error)
            return False

    # ---- the state of the rounds

    def _clock(self) -> float:
        return self._now().timestamp()

    def _left_s(self) -> float:
        left_s = self._state().next_at - self._clock()
        return left_s if left_s <= _ROUND_S else 0.0  # the clock was set back

    def _state(self) -> State:
        try:
            found: Any = json.loads(self._files.read(_STATE) or b"{}")
            state = State(**found)
            return state if all(map(math.isfinite, asdict(state).values())) else State()
        except (ValueError, TypeError):  # written by another version, or damaged: a round is due
            return State()

    def _write(self, state: State) -> None:
        self._files.write(_STATE, data=json.dumps(asdict(state)).encode())

    # ---- what goes next

    def blocked(self) -> str | None:
        """Return in words that the jobs take more than the disk space of the home, and none of them may go;
        None otherwise.

        Raises:
            StoreError: The store cannot be read.
        """
        most_mb, taken_mb = self._bounds.mb, self._state().taken_mb
        if not most_mb or taken_mb <= most_mb or self._oldest():
            return None
        return f"{variable('keep_mb')} is {number_words(most_mb)}, and the jobs take {taken_mb:.0f} MB"

    def plans(self, taken_mb: float) -> Iterator[Plan]:
        """Yield what each bound of the home removes next.

        Args:
            taken_mb: The disk space of the jobs.

        Raises:
            StoreError: The store cannot be read.
        """
        bounds = self._bounds
        oldest = tuple(self._oldest()) if any(asdict(bounds).values()) else ()
        if bounds.days:
            going = tuple(job for job in oldest if _ended(job) <= self._last_day())
            yield Plan(f"{variable('keep_days')} is {number_words(bounds.days)}", going)
        if bounds.jobs:
            surplus = self._surplus()
            words = f"{variable('keep_jobs')} is {bounds.jobs}, exceeded by {surplus}"
            yield Plan(words, oldest[:surplus])
        if bounds.mb:
            words = f"{variable('keep_mb')} is {number_words(bounds.mb)}, and the jobs take {taken_mb:.0f} MB"
            yield Plan(words, oldest if taken_mb > bounds.mb else ())


def _ended(job: Job) -> datetime:
    return job.completed_at or job.created_at
