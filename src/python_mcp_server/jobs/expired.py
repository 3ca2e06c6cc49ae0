"""Jobs that were removed a short time ago: their ids are told apart from those that never were, for a day.

A removed job leaves a line in a file of the day and of a part of its id, so that a look costs two short
files. The files have a bound; ids beyond it are unknown at once. Files of earlier days are removed.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import JobExpired, JobNotFound, StoreError
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.model import utc_now
from python_mcp_server.store.layout import is_job_id, shard

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_DIRECTORY: Final = "expired"
_DAY: Final = timedelta(days=1)
_SHARD_CHARS: Final = 2
_MOST_BYTES: Final = 64 * 1024
"""Of one file. There are 256 in a day, which hold some 140,000 ids."""


class Tombstones:
    """The jobs of a home that were removed today and yesterday. Every method blocks for a moment."""

    def __init__(self, store: JobStore, now: Callable[[], datetime] = utc_now) -> None:
        self._files = HomeFiles(store, _DIRECTORY)
        self._now = now

    def add(self, job: Job, again: str | None = None) -> None:
        """Note that a job is being removed; `again` is the job that a retry made of it. A disk that is full
        keeps no job from being removed.
        """
        now = self._now()
        ended = job.completed_at or job.created_at
        told = {"id": job.id, "ended": ended.timestamp(), "removed": now.timestamp()}
        if job.principal is not None:
            told["principal"] = job.principal
        if again is not None:
            told["again"] = again
        line = json.dumps(told, separators=(",", ":")).encode() + b"\n"
        try:
            self._files.append(_day(now), _part(job.id), data=line, most_bytes=_MOST_BYTES)
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FORBIDDEN:
                raise  # the job cannot be removed either
            _log.warning("job %s will be unknown instead of expired: %s", job.id, error)

    def find(self, job_id: str) -> JobExpired | None:
        """Return the error for the id of a job that was removed; None for an id that is unknown.

        Raises:
            StoreError: The files cannot be read.
        """
        if not is_job_id(job_id):
            return None
        now = self._now()
        for day in (now, now - _DAY):
            data = self._files.read(_day(day), _part(job_id)) or b""
            lines = [line for line in data.split(b"\n") if job_id.encode() in line]
            if lines and (found := _read(lines[-1], job_id)) is not None:
                return found
        return None

    def sweep(self) -> None:
        """Remove the files of the days before yesterday."""
        first = _day(self._now() - _DAY)
        for name in self._files.names():
            if name < first:
                self._files.remove_all(name)


def not_found(store: JobStore, job_id: str) -> JobNotFound:
    """Return the error for an id without a record: that it has expired, or that it is unknown. Blocks.

    Raises:
        StoreError: The home cannot be read.
    """
    return Tombstones(store).find(job_id) or JobNotFound(job_id)


def remove_job(store: JobStore, job: Job, now: Callable[[], datetime] = utc_now) -> bool:
    """Remove a job that has ended, with its files; return whether it was there. Its id counts as expired
    then. Blocks.

    Raises:
        StoreError: It cannot be removed.
    """
    Tombstones(store, now).add(job)
    return store.remove(job.id)


def _day(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d")


def _part(job_id: str) -> str:
    return shard(job_id)[-_SHARD_CHARS:]


def _read(line: bytes, job_id: str) -> JobExpired | None:
    try:
        told: Any = json.loads(line)
        ended, removed = (datetime.fromtimestamp(told[name], UTC) for name in ("ended", "removed"))
        if told["id"] != job_id:
            return None
        return JobExpired(job_id, ended, removed, told.get("principal"), told.get("again"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return None  # a line that was cut by a kill
