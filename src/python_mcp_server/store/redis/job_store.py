"""The store on a Redis server, which any number of processes share.

One rule says where what lies: what a record has is in Redis, what is a file is on the machine that ran the
job. So state, progress, errors, results up to 64 KiB, the index and the events are in Redis; output, items,
larger results and the logs of workers lie in a directory of the home, and a record notes the machine.

Each transition is one Lua script (`scripts`), so a crash between two commands leaves nothing half done. How
much of what was acknowledged survives the server's own end is up to its configuration; see `docs/redis.md`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError, StoreLocked
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.contract import (
    IN_PAGES,
    SHOWN_RESULT_BYTES,
    Pruned,
    PruneRule,
    Survey,
    check_change,
    in_order_of_end,
)
from python_mcp_server.store.encoding import Stored, Unreadable, encode, with_result
from python_mcp_server.store.folders import FolderStore
from python_mcp_server.store.journal import Journal
from python_mcp_server.store.keys import index_key
from python_mcp_server.store.layout import check_before, check_job_id, check_name, is_job_id
from python_mcp_server.store.redis import scripts, user
from python_mcp_server.store.redis.address import RedisAddress, files_of
from python_mcp_server.store.redis.connection import RedisAway, RedisServer
from python_mcp_server.store.redis.event_stream import MOST_EVENTS, EventStream, entry
from python_mcp_server.store.redis.keys import Row, principal_key, set_of, text_of
from python_mcp_server.store.redis.locks import HeldLock, RedisLocks
from python_mcp_server.store.sweep import sweep_output

_log: Final = logging.getLogger(__name__)
_FORMAT: Final = 1
_CHUNK: Final = 500
"""Rows of one script: others wait for some ms."""
_FIRST_PAGE: Final = 51
"""As many as a list has where its caller names no limit, and one more."""
_UP: Final = "ZRANGEBYLEX"
_DOWN: Final = "ZREVRANGEBYLEX"
_AFTER_ALL: Final = b"\xff"
"""Sorts after any text."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A job under its lock, and the write that its record has."""

    job: Job
    write: bytes
    lock: HeldLock


class RedisJobStore(FolderStore):
    """Jobs on a Redis server.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` with TLS, or `unix:///path?db=0`. With
            `?prefix=name` several stores share a server. The password is in no log, error or `repr`.
        home: The directory of the jobs' files on this machine; made, private, when it is missing. Default:
            `redis/<prefix>` in the home of the settings.
        lock_s: How long to wait while others write, before `StoreLocked`.
        fsync: Whether files survive a loss of power; for records the server's `appendfsync` decides.

    Raises:
        InvalidInput: The URL is not that of a Redis server.
        StoreError: The server refuses, a newer version or another home uses the store, or the package `redis`
            is missing. A server that is away is logged; the first change tries again.
    """

    def __init__(
        self, url: str, *, home: str | Path | None = None, lock_s: float = 10.0, fsync: bool = False
    ) -> None:
        address = RedisAddress.parse(url, "url")
        super().__init__(os.path.abspath(os.path.expanduser(home or files_of(address))), fsync=fsync)
        self.address: Final = address
        self._url = url
        self._lock_s = lock_s
        self._server = RedisServer(address, lock_s)
        self._locks = RedisLocks(self._server, lock_s)
        self._is_open = False
        self._open_folders()
        with suppress(RedisAway):  # which is logged; the first change tries again
            self._open()
        self._clean_folders()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address.shown!r})"

    def locator(self) -> dict[str, Any]:
        """Return how another process of this machine opens this store."""
        given = {"url": self._url, "home": self._layout.home, "lock_s": self._lock_s, "fsync": self.fsync}
        return {"opens": f"{__name__}:{type(self).__name__}", "given": given, "place": self._layout.home}

    @cached_property
    def journal(self) -> Journal:
        """The events of this store's jobs, in a stream of the server."""
        return EventStream(self._server)

    # ---- one job

    def create(self, job: Job) -> None:
        """Write a new job. When this returns, every process that shares the store can read it.

        Raises:
            InvalidInput: A job with this id exists already, or the id is not from `new_job_id`.
        """
        check_job_id(job.id)
        write = os.urandom(8).hex()
        with self.journal.noting(job) as noted:
            try:
                answer = self._write(noted, None, write, f"create job {job.id}")
            except StoreError as error:
                if error.in_doubt:  # the caller is told that it failed: it must not stay in the queue
                    self._server.run_first(scripts.REMOVE, *self._user, 0, write, job.id)
                raise
            if answer == b"there":
                raise InvalidInput(f"Job {job.id} is there already; take a new id")

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None. An id of any shape may be passed."""
        found = self._find(job_id)
        return None if found is None else self._whole(*found)

    def peek(self, job_id: str) -> Job | None:
        """Return the job, or None; without a result of more than 500 kB, which is not read."""
        found = self._find(job_id)
        if found is None or found[1].result_bytes <= SHOWN_RESULT_BYTES:
            return None if found is None else self._whole(*found)
        return found[1].job.without_result(found[1].result_bytes, IN_PAGES)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)` under its lock, and return the present job.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: `change` returned another job, or data that is not JSON.
            StoreLocked: Another process kept the lock, or this one stood still for so long that it lost it.
        """
        if not is_job_id(job_id):
            raise JobNotFound(job_id)
        doing = f"write job {job_id}"
        try:
            with self._locks.hold_job(job_id, doing) as (values, lock):
                if not values:
                    raise JobNotFound(job_id)
                row = Row.of([job_id.encode(), *values])
                job = self._whole(row, row.decoded())
                if job.status.terminal or (changed := change(job)) is job:
                    return job
                check_change(job, changed)
                with self.journal.noting(changed, job) as noted:
                    self._replace(noted, _Taken(job, row.write, lock), doing)
                return noted
        except Unreadable as reason:
            self._set_aside(job_id, reason)
            raise JobNotFound(job_id) from reason

    def _replace(self, job: Job, taken: _Taken, doing: str) -> None:
        answer = self._write(job, taken, os.urandom(8).hex(), doing)
        if answer == b"gone":
            raise JobNotFound(job.id)
        if answer == b"there":
            lost = StoreLocked(
                f"Could not {doing}: the connection to Redis broke meanwhile, and another process has "
                "changed the job since; look at it, and try again"
            )
            lost.in_doubt = True
            raise lost
        taken.lock.released = True

    def _write(self, job: Job, taken: _Taken | None, write: str, doing: str) -> bytes:
        """Write a record with all that goes with it, and return the word of the script."""
        record, result = encode(job)
        if result is not None:
            with translate_os_errors(self._layout.home, doing):
                self._put(self._layout.result(job.id), result)
        key = index_key(job)
        ended = f"{(job.completed_at or job.created_at).timestamp():.6f}" if job.status.terminal else ""
        place = ("", "") if key is None else (key.name, key.rank)
        former = None if taken is None else taken.job
        starts = job.status is JobState.RUNNING and (former is None or former.status is JobState.PENDING)
        replaces, lock = (b"", "") if taken is None else (taken.write, taken.lock.name)
        return self._change(
            scripts.WRITE,
            doing,
            *(job.id, replaces, write, lock),
            *(job.status.value, principal_key(job.principal), ended, *place, record),
            *(user.host() if starts else "", entry(job, former), MOST_EVENTS),
        )[0]

    def _change(self, script: str, doing: str, *arguments: bytes | str | float) -> list[bytes]:
        """Run a script that writes, under the terms of this process and thread.

        Raises:
            StoreError: Another machine or home uses the store.
            StoreLocked: A lock of this thread is lost.
        """
        if not self._is_open:
            self._open()
        held = [word for lock in self._locks.here for word in (lock.name, lock.token)]
        terms = (*self._user, len(held) // 2, *held)
        return self._checked(self._server.run(script, doing, *terms, *arguments), doing)

    def _checked(self, answer: list[bytes], doing: str) -> list[bytes]:
        if answer[0] == b"used":
            raise StoreError(
                f"Could not {doing}: {text_of(answer[1])} uses the store {self.address.shown}; take another "
                "one with ?prefix=name, because a store serves one home of one machine at a time"
            )
        if answer[0] == b"newer":
            raise StoreError(
                f"The store {self.address.shown} has format {text_of(answer[1])}, and this version reads up "
                f"to {_FORMAT}: upgrade python-mcp-server, or take another one with ?prefix=name"
            )
        if answer[0] == b"lost":
            raise StoreLocked(
                f"Could not {doing}: the lock {text_of(answer[1])} was lost, because this process stood "
                "still for some seconds; try again"
            )
        return answer

    @cached_property
    def _user(self) -> tuple[str | bytes | int, ...]:
        return user.terms_of(self._layout.home)

    def _open(self) -> None:
        """Make the store, or refuse it. A look from another machine is refused, too.

        Raises:
            RedisAway: The server is away.
            StoreError: Another home or machine uses the store, or a newer version made it.
        """
        doing = f"open the store {self.address.shown}"
        self._checked(self._server.run(scripts.OPEN, doing, *self._user, _FORMAT), doing)
        self._is_open = True

    # ---- several jobs

    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more."""
        limit = max(0, limit)
        if before is not None:
            check_before(before)
        rows = self._pages("list jobs", set_of(status.value if status else "", principal), _DOWN, before)
        found = list(islice(self._readable(rows), limit + 1))
        return [stored.listed for stored in found[:limit]], len(found) > limit

    def live(self, principal: str | None = None) -> tuple[Job, ...]:
        """Return the jobs that are not terminal, oldest first."""
        rows = self._pages("look at the live jobs", set_of("live", principal))
        return tuple(stored.job for stored in self._readable(rows))

    def oldest_ended(self, limit: int = 100) -> tuple[Job, ...]:
        """Return the terminal jobs that were created first, in the order of their ends; no other is read."""
        rows = self._pages("look for the oldest jobs", set_of("ended", None))
        found = islice(self._readable(rows), max(0, limit))
        return in_order_of_end(stored.listed for stored in found)

    def _pages(self, doing: str, name: str, order: str = _UP, after: str | None = None) -> Iterator[Row]:
        """Yield the jobs of a set of ids in the order of time, or newest first; they are read as they are
        asked for, the first few alone.
        """
        first, last = ("-", "+") if order == _UP else ("+", "-")
        count = _FIRST_PAGE
        while True:
            first = first if after is None else f"({after}"
            rows = self._rows(scripts.PAGE, doing, order, name, first, last, count)
            yield from rows
            if len(rows) < count:
                return
            after, count = rows[-1].job_id, _CHUNK

    def _rows(self, script: str, doing: str, *arguments: bytes | str | float) -> list[Row]:
        return [Row.of(values) for values in self._server.run(script, doing, *arguments)]

    def _readable(self, rows: Iterator[Row] | list[Row]) -> Iterator[Stored]:
        for row in rows:
            try:
                yield row.decoded()
            except Unreadable as reason:
                self._set_aside(row.job_id, reason)
            except StoreError as error:
                _log.warning("Left %s out of a listing: %s", row.job_id, error)

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:
        """Return the first jobs of a list of the index, by rank; the others are not read."""
        last = b"+" if until is None else b"[" + until.encode() + b"." + _AFTER_ALL
        rows = self._rows(scripts.QUEUE, "read the queue", name, last, min(max(0, limit), sys.maxsize))
        return tuple(stored.job for stored in self._readable(rows))

    def index_count(self, name: str, most: int) -> int:
        """Return how many jobs a list of the index has; counting stops at `most`."""
        return min(max(0, most), self._count(f"queue:{name}", "read the queue"))

    def index_names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists in the index that begin with this text, and have jobs."""
        bounds = (b"[" + prefix.encode(), b"[" + prefix.encode() + _AFTER_ALL)
        key = f"{self.address.key_prefix}queues"
        return tuple(map(text_of, self._server.command("read the queue", _UP, key, *bounds)))

    def _count(self, name: str, doing: str) -> int:
        return int(self._server.command(doing, "ZCARD", f"{self.address.key_prefix}{name}"))

    # ---- removal

    def prune(
        self,
        should_go: Callable[[Job], bool] | None = None,
        principal: str | None = None,
        among: Collection[JobState] | None = None,
        ended_before: datetime | None = None,
    ) -> Pruned:
        """Remove the terminal jobs that every given condition names, with their files.

        Some hundred are removed at a time, so a prune of any size does not block other processes.
        """
        rule, removed = PruneRule(should_go, principal, among, ended_before), 0
        for chunk in self._prunable(rule, ended_before):
            by_record = should_go is not None or principal is not None
            removed += len(self._remove(self._named(chunk, rule) if by_record else chunk))
        with translate_os_errors(self._layout.home, "prune jobs"):
            if principal is None:
                sweep_output(self._layout, self._known, lambda _: nullcontext())
        return Pruned(removed, self._count(set_of("", principal), "count the jobs"))

    def _prunable(self, rule: PruneRule, ended_before: datetime | None) -> Iterator[list[str]]:
        until = "+inf" if ended_before is None else f"{ended_before.timestamp():.6f}"
        for state in rule.states:
            key = f"{self.address.key_prefix}ended:{state.value}"
            ids = list(map(text_of, self._server.command("prune jobs", "ZRANGEBYSCORE", key, "-inf", until)))
            for start in range(0, len(ids), _CHUNK):
                yield ids[start : start + _CHUNK]

    def _named(self, job_ids: list[str], rule: PruneRule) -> list[str]:
        rows = self._rows(scripts.ROWS, "prune jobs", *job_ids)
        return [stored.job.id for stored in self._readable(rows) if rule.names(stored.listed)]

    def remove(self, job_id: str) -> bool:
        """Remove a job that has ended, with its files, and return whether it was there.

        Raises:
            StoreError: It lies behind a symbolic link, or cannot be removed.
        """
        if not is_job_id(job_id):
            return False
        self._layout.refuse_links(self._layout.folder(job_id))
        return bool(self._remove([job_id]))

    def _remove(self, job_ids: list[str]) -> list[str]:
        """Remove these jobs, where they have ended, and return which were there."""
        going = [job_id for job_id in job_ids if self._may_be_removed(job_id)]
        gone = (
            list(map(text_of, self._change(scripts.REMOVE, "remove jobs", "", *going)[1:])) if going else []
        )
        self._discard_folders(gone)
        return gone

    # ---- the store itself

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all processes of this store. Not reentrant.

        A holder that stands still for some seconds loses it; what it writes into the store then is refused.
        """
        check_name(name)
        return self._exclusive(name)

    @contextmanager
    def _exclusive(self, name: str) -> Generator[None]:
        with self._locks.hold(f"own-{name}", f"take the lock {name}"):
            yield

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        self._locks.close()
        self._server.close()

    def survey(self, most: int | None = None) -> Survey:
        """Read the records, twice `most` of the oldest where that is given; return which cannot be read."""
        readable, left, looked = 0, list[str](), 0
        rows = self._pages("read all records", set_of("", None))
        for looked, row in enumerate(islice(rows, most and 2 * most), 1):  # noqa: B007  counts
            if any(self._readable([row])):
                readable += 1
            elif self._known(row.job_id):  # otherwise it was set aside
                left.append(f"{self.address.shown} ({row.job_id})")
        return Survey(readable, left, self.damaged(), complete=most is None or looked < 2 * most)

    # ---- rows

    def _find(self, job_id: str) -> tuple[Row, Stored] | None:
        if not is_job_id(job_id):
            return None
        for row in self._rows(scripts.ROWS, f"read job {job_id}", job_id):
            try:
                return row, row.decoded()
            except Unreadable as reason:
                self._set_aside(job_id, reason)
        return None

    def _whole(self, row: Row, stored: Stored) -> Job:
        """Return the job with its result; where that is a file of another machine, the note says which."""
        job = with_result(stored, self._layout)
        elsewhere = row.host and row.host != user.host()
        if elsewhere and job.result is None and job.result_note and stored.result_bytes:
            return job.evolve(
                result_note=f"result of {stored.result_bytes} bytes is on the machine {row.host}"
            )
        return job

    def _known(self, job_id: str) -> bool:
        key = f"{self.address.key_prefix}job:{job_id}"
        return bool(self._server.command(f"look for job {job_id}", "EXISTS", key))

    def _set_aside(self, job_id: str, reason: Unreadable) -> None:
        """Move what is no record into a file, so that it costs only itself."""
        target = ""
        try:
            for row in self._rows(scripts.ROWS, "set a damaged record aside", job_id):
                if not row.is_damaged():
                    return  # another process has moved or written it by now
                target = self._put_damaged(job_id, row.record)
                self._change(scripts.REMOVE, "set a damaged record aside", row.write, job_id)
        except StoreError as error:
            _log.warning("Left the damaged record %s where it is: %s", job_id, error)
        else:
            _log.warning("Set aside the record %s as %s: %s", job_id, target, reason)
