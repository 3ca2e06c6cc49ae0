"""The file store and a table of SQLite, asked the same questions about the same jobs."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.heartbeat import heartbeat
from python_mcp_server.model import (
    Job,
    JobProgress,
    JobState,
    ProcessIdentity,
    Usage,
    new_job_id,
    utc_now,
)
from python_mcp_server.store.encoding import encode
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.layout import Layout, tree_of

RUNNING: Final = 20
"""So many of the stored jobs run."""
_LISTED: Final = 50
_OLD: Final = timedelta(days=2)
_AGE: Final = timedelta(days=1)
_SPARSE: Final = 1000
"""The newest jobs lie ten seconds apart, each in a directory of its own; those before 0.1 seconds."""
_ID_CHARS: Final = 34
_STEP: Final = 1000


class Contender(ABC):
    """A store that holds `size` jobs.

    Args:
        place: Where `fill` put them.
        size: How many they are.
        fsync: Whether each write must survive a loss of power.
    """

    name: str

    def __init__(self, place: Path, size: int, *, fsync: bool) -> None:
        self.size = size
        self.name = self.name_with(fsync=fsync)
        self._made: list[str] = []
        self._steps = 0
        self._chance = random.Random(size)  # noqa: S311  both contenders are asked for the same places
        self._place = place
        ids = self._all_ids()
        self._ended = [job_id for job_id, ended in ids if ended]
        self._live = [job_id for job_id, ended in ids if not ended]

    @classmethod
    @abstractmethod
    def name_with(cls, *, fsync: bool) -> str:
        """Return its name in the table."""

    @classmethod
    @abstractmethod
    def fill(cls, place: Path, size: int) -> None:
        """Put jobs there, faster than one by one."""

    @abstractmethod
    def _all_ids(self) -> list[tuple[str, bool]]:
        """Return each id, oldest first, and whether the job has ended."""

    @abstractmethod
    def _create(self, job: Job) -> None: ...

    @abstractmethod
    def _update(self, job_id: str, change: Callable[[Job], Job]) -> None: ...

    @abstractmethod
    def _get(self, job_id: str) -> Job | None: ...

    @abstractmethod
    def list_recent(self) -> object:
        """List the newest 50."""

    @abstractmethod
    def list_running(self) -> object:
        """List those that run."""

    @abstractmethod
    def prune(self) -> None:
        """Remove the cancelled jobs that ended more than a day ago."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def create(self) -> None:
        """Create one more, as two days ago."""
        when = utc_now() - _OLD
        job = Job(new_job_id(when), "created", JobState.PENDING, when, tool="bench")
        self._create(job)
        self._made.append(job.id)

    def update(self) -> None:
        """Write the progress of one that runs."""
        self._steps += 1
        progress = JobProgress(self._steps, None, "on the way")
        self._update(self._live[self._steps % len(self._live)], lambda job: job.evolve(progress=progress))

    def get(self) -> None:
        """Read any that has ended."""
        found = self._get(self._chance.choice(self._ended))
        if found is None:
            raise LookupError(f"a job of {self.name} is gone")

    def cancel_created(self) -> None:
        """Let those that `create` made be cancelled, two days ago."""
        for job_id in self._made:
            self._update(job_id, _cancelled)
        self._made.clear()


def _cancelled(job: Job) -> Job:
    return job.evolve(status=JobState.CANCELLED, completed_at=utc_now() - _OLD)


class Files(Contender):
    """The store of this project."""

    _names: ClassVar = {False: "file store", True: "file store, fsync"}

    def __init__(self, place: Path, size: int, *, fsync: bool) -> None:
        self._store = FileJobStore(place, fsync=fsync)
        super().__init__(place, size, fsync=fsync)

    @classmethod
    def name_with(cls, *, fsync: bool) -> str:
        """Return its name in the table."""
        return cls._names[fsync]

    @classmethod
    def fill(cls, place: Path, size: int) -> None:
        """Write the records where the store would, without its locks and temporary files."""
        FileJobStore(place).close()
        layout, made = Layout(str(place)), set[str]()
        for job, template in _jobs(size):
            path = layout.record(tree_of(job.status), job.id)
            directory = os.path.dirname(path)
            if directory not in made:
                os.makedirs(directory, 0o700, exist_ok=True)
                made.add(directory)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, template.replace(b"?" * _ID_CHARS, job.id.encode()))
            os.close(descriptor)
            when = job.created_at.timestamp()
            os.utime(os.path.dirname(directory), (when, when))  # as it would be by now

    def _all_ids(self) -> list[tuple[str, bool]]:
        jobs = self._place / "jobs"
        live = {path.stem for path in (jobs / "live").glob("*.json")}
        names = (name for _, _, names in os.walk(jobs) for name in names if len(name) == _ID_CHARS + 5)
        return sorted((name[:_ID_CHARS], name[:_ID_CHARS] not in live) for name in names)

    def _create(self, job: Job) -> None:
        self._store.create(job)

    def _update(self, job_id: str, change: Callable[[Job], Job]) -> None:
        self._store.update(job_id, change)

    def _get(self, job_id: str) -> Job | None:
        return self._store.get(job_id)

    def list_recent(self) -> object:
        """List the newest 50."""
        return self._store.list(limit=_LISTED)

    def list_running(self) -> object:
        """List those that run."""
        return self._store.list(JobState.RUNNING)

    def prune(self) -> None:
        """Remove the cancelled jobs that ended more than a day ago, as the manager does."""
        self._store.prune(among=[JobState.CANCELLED], ended_before=utc_now() - _AGE)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class Database(Contender):
    """One table in write-ahead mode: the record as text, and what is asked for in columns."""

    _names: ClassVar = {False: "SQLite, WAL, NORMAL", True: "SQLite, WAL, FULL"}
    _schema: ClassVar = """
        PRAGMA journal_mode=WAL;
        CREATE TABLE jobs (id TEXT PRIMARY KEY, status TEXT, created TEXT, completed TEXT, record TEXT);
        CREATE INDEX by_time ON jobs (created);
        CREATE INDEX by_status ON jobs (status, created);
    """

    def __init__(self, place: Path, size: int, *, fsync: bool) -> None:
        self._connection = sqlite3.connect(place, isolation_level=None)
        self._connection.execute(f"PRAGMA synchronous={'FULL' if fsync else 'NORMAL'}")
        super().__init__(place, size, fsync=fsync)

    @classmethod
    def name_with(cls, *, fsync: bool) -> str:
        """Return its name in the table."""
        return cls._names[fsync]

    @classmethod
    def fill(cls, place: Path, size: int) -> None:
        """Insert all in one transaction."""
        connection = sqlite3.connect(place)
        connection.executescript(cls._schema)
        marked = ((job, template.replace(b"?" * _ID_CHARS, job.id.encode())) for job, template in _jobs(size))
        rows = ((*_row(job)[:-1], record.decode()) for job, record in marked)
        connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()

    def _all_ids(self) -> list[tuple[str, bool]]:
        found = self._connection.execute("SELECT id, status FROM jobs ORDER BY id")
        return [(job_id, JobState(status).terminal) for job_id, status in found]

    def _create(self, job: Job) -> None:
        self._connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", _row(job))

    def _update(self, job_id: str, change: Callable[[Job], Job]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        job = self._get(job_id)
        if job is None:
            raise LookupError(job_id)
        values = (*_row(change(job))[1:], job_id)
        self._connection.execute(
            "UPDATE jobs SET status=?, created=?, completed=?, record=? WHERE id=?", values
        )
        self._connection.execute("COMMIT")

    def _get(self, job_id: str) -> Job | None:
        found = self._connection.execute("SELECT record FROM jobs WHERE id=?", (job_id,)).fetchone()
        return Job.from_record(json.loads(found[0])) if found else None

    def list_recent(self) -> object:
        """List the newest 50."""
        return self._listed("ORDER BY created DESC LIMIT ?", _LISTED)

    def list_running(self) -> object:
        """List those that run."""
        return self._listed("WHERE status=? ORDER BY created DESC", JobState.RUNNING.value)

    def _listed(self, which: str, value: object) -> list[Job]:
        found = self._connection.execute(f"SELECT record FROM jobs {which}", (value,))  # noqa: S608  ours
        return [Job.from_record(json.loads(record)) for (record,) in found]

    def prune(self) -> None:
        """Remove the cancelled jobs that ended more than a day ago, and count what is left."""
        oldest = (utc_now() - _AGE).isoformat()
        self._connection.execute("DELETE FROM jobs WHERE status='cancelled' AND completed <= ?", (oldest,))
        self._connection.execute("SELECT count(*) FROM jobs").fetchone()

    def close(self) -> None:
        """Close the connection."""
        with suppress(sqlite3.Error):
            self._connection.close()


def _row(job: Job) -> tuple[str, str, str, str | None, str]:
    completed = job.completed_at.isoformat() if job.completed_at else None
    return job.id, job.status.value, job.created_at.isoformat(), completed, json.dumps(job.to_record())


def _jobs(size: int) -> Iterator[tuple[Job, bytes]]:
    """Yield jobs, oldest first, each with its record, in which the id is still to be put."""
    ended = size - RUNNING
    now = datetime.now(UTC)
    templates = {state: encode(_job("?" * _ID_CHARS, state, now))[0] for state in JobState}
    for number in range(size):
        if number % _STEP == 0:
            heartbeat()
        left = size - number
        apart_s = 10 * left if left <= _SPARSE else 10 * _SPARSE + (left - _SPARSE) / 10
        when = now - timedelta(seconds=apart_s)
        state = _state(number) if number < ended else JobState.RUNNING
        yield _job(new_job_id(when), state, when), templates[state]


def _state(number: int) -> JobState:
    """Of a hundred that ended, 90 were completed, 8 failed, 2 cancelled."""
    rest = number % 100
    return JobState.CANCELLED if rest < 2 else JobState.FAILED if rest < 10 else JobState.COMPLETED  # noqa: PLR2004


def _job(job_id: str, state: JobState, when: datetime) -> Job:
    process = ProcessIdentity(4711, 123456, "00000000-0000-0000-0000-000000000000", "pid:[4026531836]")
    job = Job(job_id, "a label", state, when, tool="bench", started_at=when, owner=process, worker=process)
    if not state.terminal:
        return job
    result = {"stdout": "a line of text\n" * 8, "exit_code": 0}
    return job.evolve(completed_at=when, result=result, usage=Usage(30_000_000, 40_000_000, 1.5))
