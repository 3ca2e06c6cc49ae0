"""The schedules of a home in files, and the round that creates the jobs whose time has come.

Every engine runs the round with each look at the queue. One lock guards all schedules: its holder reads
the schedule again, writes which jobs it is about to create, creates them, and clears that note. The next
round of any server carries out a note that was left: a job of it that is gone by then has left its events in
the journal, and is not made again. A look while nothing has changed costs one `stat`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from python_mcp_server.atomic import make_directory, read_file, remove_file, translate_os_errors, write_file
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.jobs.home_bound import HomeBound
from python_mcp_server.jobs.schedule import Firing, Schedule
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.model import utc_now
from python_mcp_server.regular import refuse_links
from python_mcp_server.store.journal import JournalReader
from python_mcp_server.store.layout import Layout

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_LOCK: Final = "schedules"
_SUFFIX: Final = ".json"
_DAMAGED: Final = ".damaged"
_RACY_S: Final = 2.5
"""A directory that changed less than this ago is read again: its time may not tell a further change. Guessed:
file systems count in steps of up to 10 ms, some in 2 s."""

_BROKEN_S: Final = 600.0
_AGAIN_S: Final = 1.0
"""Before the next try of a schedule that could not be fired."""

_STEP_S: Final = 3600.0
"""By how much the clock may have been set since a journal was written; guessed."""

Stamp = tuple[int, int, int]


class ScheduleFiles:
    """The schedules of a home, a file each. The methods block; what they return is never changed in place."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._directory = os.path.join(store.home, "schedules")
        self._known: dict[str, tuple[Stamp, Schedule]] = {}
        self._seen_ns: int | None = None

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of all schedules; a schedule is changed under it only."""
        return self._store.exclusive(_LOCK)

    def all(self) -> list[Schedule]:
        """Return all schedules; those that have not changed are not read again.

        Raises:
            StoreError: They cannot be read.
        """
        with self._translated("read the schedules"):
            try:
                found_ns = os.stat(self._directory).st_mtime_ns
            except FileNotFoundError:
                return []
            if found_ns != self._seen_ns:
                self._known = dict(self._read_all())
                racy = abs(time.time() - found_ns / 1e9) < _RACY_S
                self._seen_ns = None if racy else found_ns
        return [schedule for _, schedule in self._known.values()]

    def _read_all(self) -> Iterator[tuple[str, tuple[Stamp, Schedule]]]:
        for name in sorted(os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            try:
                status = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it was removed meanwhile
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            known = self._known.get(name)
            if known is not None and known[0] == stamp:
                yield name, known
            elif name.endswith(_SUFFIX) and (read := self._read(path)) is not None:
                yield name, (stamp, read)

    def read(self, schedule_id: str) -> Schedule | None:
        """Return the present state of a schedule, or None.

        Raises:
            StoreError: It cannot be read.
        """
        with self._translated("read a schedule"):
            return self._read(self._path(schedule_id))

    def _read(self, path: str) -> Schedule | None:
        if (data := read_file(path)) is None:
            return None
        try:
            read = Schedule.from_record(json.loads(data))
            read.to_job(Firing("", read.made_at), read.made_at)
            return read
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            _log.warning("%s is no schedule (%s); it is set aside as %s", path, error, _DAMAGED)
            os.replace(path, path + _DAMAGED)
            return None

    def write(self, schedule: Schedule) -> None:
        """Write a schedule.

        Raises:
            StoreError: It cannot be written.
        """
        data = json.dumps(schedule.to_record(), indent=1).encode()
        with self._translated("write a schedule"):
            make_directory(self._directory, fsync=self._store.fsync)
            path, tmp = self._path(schedule.id), Layout(str(self._store.home)).tmp
            write_file(path, data, temporary_in=tmp, fsync=self._store.fsync)

    def remove(self, schedule_id: str) -> None:
        """Remove a schedule.

        Raises:
            StoreError: It cannot be removed.
        """
        with self._translated("remove a schedule"):
            remove_file(self._path(schedule_id))

    @contextmanager
    def _translated(self, doing: str) -> Generator[None]:
        with translate_os_errors(str(self._store.home), doing):
            refuse_links(self._directory, 1)
            yield

    def _path(self, schedule_id: str) -> str:
        return os.path.join(self._directory, schedule_id + _SUFFIX)


class ScheduledWork:
    """Creates the jobs of the schedules of a home when their time has come. The methods block."""

    def __init__(
        self, store: JobStore, now: Callable[[], datetime] = utc_now, max_disk_mb: float = 0
    ) -> None:
        """Make the part of one engine.

        Args:
            store: Where the jobs lie.
            now: The clock.
            max_disk_mb: The bound of the home on its disk space; 0 for none.
        """
        self._bound = HomeBound(store.home, max_disk_mb)
        self._store = store
        self._files = ScheduleFiles(store)
        self._now = now
        self._next: dict[str, tuple[Schedule, datetime | None]] = {}
        self._looked_at: datetime | None = None
        self._again: dict[str, float] = {}
        self._declared: Sequence[Callable[[JobStore], None]] = ()
        self._made = 0
        self._trouble = ""

    def declare(self, declared: Sequence[Callable[[JobStore], None]]) -> None:
        """Call each of these once, with the next round that can write; more may come to them later."""
        self._declared = declared

    def fire(self) -> float | None:
        """Create the jobs that are due; return in how many seconds the next one is, or None. What fails is
        logged and tried again, because the queue does not wait for the schedules.
        """
        try:
            return self._round()
        except StoreError as error:
            if str(error) != self._trouble:
                _log.warning("the schedules wait on: %s", error)
            self._trouble = str(error)
            return _AGAIN_S

    def _round(self) -> float | None:
        while self._made < len(self._declared):
            self._declare(self._declared[self._made])
            self._made += 1
        now = self._now()
        if self._looked_at is not None and now < self._looked_at:
            self._next.clear()  # the clock was set back
        self._looked_at = now
        schedules, self._trouble = self._files.all(), ""
        for schedule in schedules:
            if self._may_try(schedule.id):
                self._look_at(schedule, now)
        self._next = {each.id: self._next[each.id] for each in schedules if each.id in self._next}
        return self._next_s()

    def _declare(self, make: Callable[[JobStore], None]) -> None:
        try:
            make(self._store)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  the queue goes on without this schedule
            _log.exception("a declared schedule was not made")

    def _look_at(self, schedule: Schedule, now: datetime) -> None:
        try:
            due = self._due(schedule, now)
            if schedule.intent or schedule.is_ahead(now) or (due is not None and due <= now):
                self._try(schedule.id)
        except Exception:  # noqa: BLE001  the queue and the other schedules go on
            _log.exception("schedule %s starts no job now", schedule.id)
            self._again[schedule.id] = time.monotonic() + _BROKEN_S

    def _due(self, schedule: Schedule, now: datetime) -> datetime | None:
        known = self._next.get(schedule.id)
        if known is None or known[0] is not schedule:
            known = self._next[schedule.id] = schedule, schedule.next_time(now)
        return known[1]

    def _may_try(self, schedule_id: str) -> bool:
        return self._again.get(schedule_id, 0.0) <= time.monotonic()

    def _try(self, schedule_id: str) -> None:
        try:
            fired = self._fire(schedule_id)
        except StoreError as error:
            _log.warning("schedule %s waits on: %s", schedule_id, error)
            self._again[schedule_id] = time.monotonic() + _AGAIN_S
        else:
            self._again.pop(schedule_id, None)
            self._next.pop(schedule_id, None)
            if fired is not None:
                self._next[schedule_id] = fired, fired.next_time(self._now())

    def _fire(self, schedule_id: str) -> Schedule | None:
        with self._files.locked():
            schedule = self._files.read(schedule_id)
            if schedule is None:
                return None
            schedule = self._carry_out(schedule, is_left=True)
            due = schedule.due(self._now(), self._is_live)
            if due is not schedule:
                self._files.write(due)
            return self._carry_out(due)

    def _carry_out(self, schedule: Schedule, *, is_left: bool = False) -> Schedule:
        """Create the jobs of the intent that are not there yet, and clear it; `is_left` says that a process
        which was killed may have created them.
        """
        if not schedule.intent:
            return schedule
        refused: dict[str, str] = {}
        for firing in schedule.intent:
            if is_left and _has_been(self._store, firing):
                continue
            try:
                create_once(self._store, self._bound, schedule, firing, self._now())
            except (InvalidInput, JobNotFound) as error:
                refused[firing.job_id] = str(error)
        done = schedule.fired(refused)
        self._files.write(done)
        return done

    def _is_live(self, job_id: str) -> bool:
        job = self._store.peek(job_id)
        return job is not None and not job.status.terminal

    def _next_s(self) -> float | None:
        now, clock_s = self._now(), time.monotonic()
        waits = [
            max((due - now).total_seconds(), self._again.get(schedule_id, clock_s) - clock_s)
            for schedule_id, (_, due) in self._next.items()
            if due is not None
        ]
        return max(min(waits), 0.0) if waits else None


def _has_been(store: JobStore, firing: Firing) -> bool:
    """Whether the job of a firing was created, and has been removed since, by the journal.

    Raises:
        StoreError: The journal cannot be read.
    """
    if store.peek(firing.job_id) is not None:
        return False
    with translate_os_errors(str(store.home), "read the journal"):
        position, _ = store.journal.start_of(firing.time - timedelta(seconds=_STEP_S))
        reader = JournalReader(store.journal, position)
        while (events := reader.read()) is not None:
            if any(event.job_id == firing.job_id for event in events):
                return True
    return False


def create_once(
    store: JobStore,
    bound: HomeBound,
    schedule: Schedule,
    firing: Firing,
    now: datetime,
    *,
    by_time: bool = True,
) -> None:
    """Create the job of a firing, unless it is there. Blocks. `by_time` says that a time of the schedule
    starts it.

    Raises:
        InvalidInput, JobNotFound: Its queue or its home takes no more jobs, or an option cannot be kept.
        StoreError: The record cannot be written.
    """
    if store.peek(firing.job_id) is not None:
        return
    if firing.after is not None and store.peek(firing.after) is None:
        firing = replace(firing, after=None)  # it was removed, so it has ended
    write_queued(store, bound.admit(schedule.to_job(firing, now, by_time=by_time)))
