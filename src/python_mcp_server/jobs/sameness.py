"""Submissions that are the same: a repeated one gets the job that is there already, over all servers.

An author asks for it by `JobOptions.idempotency_key`, or by `cache_seconds` for equal arguments. An entry is
a file with the id of the job. It is written before the record, under a lock of its own. So two submissions at
one instant make one job, and an entry without a job, as a killed process or a prune leaves it, counts as
none. The names of entries are digests with a key of the home: they tell neither keys nor arguments.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs.arguments import encoded
from python_mcp_server.jobs.comparing import call_text
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.jobs.recovery import recovered
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.store.principals import PrincipalNames

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_DIRECTORY: Final = "same"
_SHARD_CHARS: Final = 2
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
"""The directories of entries, by the first characters of their names."""

_LOCKS: Final = 64
_KIND_CHARS: Final = 16


def same_or_new(store: JobStore, job: Job, request: Request, create: Callable[[], None]) -> Job:
    """Return the job that this submission repeats; create the new one if it repeats no job. Blocks.

    Args:
        store: Where the jobs are stored.
        job: The record of the new job.
        request: The submission.
        create: Writes the record of the new job.

    Raises:
        InvalidInput: Another call was submitted with this idempotency key.
        StoreError: An entry cannot be read or written.
    """
    if is_shared(job):
        return _Match(store, job, request).settle(create)
    create()
    return job


def let_share(store: JobStore, job: Job, request: Request) -> None:
    """Let equal submissions get a job that is about to start, unless they have another one: it was not
    submitted itself, but made of a dead letter or by a schedule. What fails is logged, because it costs
    others a start only. Blocks.
    """
    if job.options is None or job.options.cache_seconds is None or job.call is None:
        return
    try:
        _Match(store, job, request).share()
    except (StoreError, TypeError) as error:  # the arguments do not fit the body, which will say so
        _log.warning("no other submission gets job %s: %s", job.id, error)


def is_shared(job: Job) -> bool:
    """Whether further submissions may get this job."""
    options = job.options
    return options is not None and (options.idempotency_key is not None or options.cache_seconds is not None)


def move_key(store: JobStore, job: Job, new_id: str) -> None:
    """Let further submissions of a job's idempotency key get another job, which takes its place. Blocks.

    Raises:
        StoreError: An entry cannot be read or written.
    """
    if job.options is None or job.options.idempotency_key is None:
        return
    entries = Entries(store)
    name = entries.digest("key", job.principal, job.options.idempotency_key)
    with store.exclusive(_lock("key", name)):
        job_id, call = entries.read(name)
        if job_id == job.id:
            entries.write(name, new_id, call)


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of an entry, and which job it may lead to.

    Attributes:
        name: The name of its file.
        lock: The name of its lock.
        fits: Whether the submission gets this job; it may raise.
    """

    name: str
    lock: str
    fits: Callable[[Job, str], bool]


class _Match:
    def __init__(self, store: JobStore, job: Job, request: Request) -> None:
        self._store = store
        self._job = job
        self._entries = Entries(store)
        plain = _call(job, request)
        self._kind = job.tool or _body_name(job, request)
        keyed = job.options is not None and job.options.idempotency_key is not None
        text = call_text(request) if plain is None and keyed else plain
        self._call = self._entries.digest("call", self._kind, text)
        self._is_cached = plain is not None

    def settle(self, create: Callable[[], None]) -> Job:
        passed: list[str] = []
        with ExitStack() as locks:
            for entry in self._places():
                locks.enter_context(self._store.exclusive(entry.lock))
                found = self._found(entry)
                if found is not None:
                    self._point(passed, found.id)
                    return found
                passed.append(entry.name)
            self._point(passed, self._job.id)
            create()
        return self._job

    def share(self) -> None:
        """Let the entry for equal arguments lead to the job, unless it leads to one that is as good."""
        for entry in self._cache_places():
            if self._entries.read(entry.name)[0] == self._job.id:
                continue
            with self._store.exclusive(entry.lock):
                if self._found(entry) is None:
                    self._point([entry.name], self._job.id)

    def _places(self) -> Iterator[_Place]:
        """Yield the entries to look at. All processes take the locks in this order."""
        options = self._job.options
        if options is not None and options.idempotency_key is not None:
            name = self._entries.digest("key", self._job.principal, options.idempotency_key)
            yield _Place(name, _lock("key", name), self._is_repeated)
        yield from self._cache_places()

    def _cache_places(self) -> Iterator[_Place]:
        options, owner, digest = self._job.options, self._job.principal, self._entries.digest
        if options is None:
            return
        if options.cache_seconds is not None and self._is_cached:
            name = digest("cache", owner, self._call)
            front = self._entries.kind(self._kind)
            yield _Place(f"{front}.{name}", _lock("cache", name), self._is_fresh)

    def _found(self, entry: _Place) -> Job | None:
        job_id, call = self._entries.read(entry.name)
        job = self._store.peek(job_id) if job_id else None
        if job is None or not job.belongs_to(self._job.principal):
            return None
        return job if entry.fits(job, call) else None

    def _is_repeated(self, job: Job, call: str) -> bool:
        if call == self._call:
            return True
        key = self._job.options.idempotency_key if self._job.options else ""
        raise InvalidInput(
            f"idempotency_key is {key!r:.160}, with which job {job.id} was submitted for another call; "
            "take a new key for other arguments"
        )

    def _is_fresh(self, job: Job, _: str) -> bool:
        if not job.status.terminal:
            job = recovered(self._store, job)
        if not job.status.terminal:
            return not job.ending
        options, ended = self._job.options, job.completed_at
        if job.status is not JobState.COMPLETED or options is None or ended is None:
            return False
        return ended <= utc_now() < ended + timedelta(seconds=options.cache_seconds or 0)

    def _point(self, names: list[str], job_id: str) -> None:
        for name in names:
            self._entries.write(name, job_id, self._call)


class Entries:
    """The entries of one home. Every method blocks."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._files = HomeFiles(store, _DIRECTORY)
        self._names = PrincipalNames(str(store.home))

    def digest(self, *texts: str | None) -> str:
        """Return a digest with the key of the home."""
        return self._names.digest(*texts)

    def kind(self, kind: str) -> str:
        """Return what the names of the entries of cached jobs of a kind begin with."""
        return self.digest("kind", kind)[:_KIND_CHARS]

    def read(self, name: str) -> tuple[str, str]:
        """Return the id of the job in an entry, and the digest of its call; empty texts for no entry."""
        data = self._files.read(_shard(name), name)
        try:
            found: Any = json.loads(data or b"{}")
            return str(found["job"]), str(found["call"])
        except (ValueError, KeyError, TypeError):  # none, or a damaged one, which only costs a start
            return "", ""

    def write(self, name: str, job_id: str, call: str) -> None:
        """Write an entry. The caller holds its lock."""
        data = json.dumps({"job": job_id, "call": call}).encode()
        self._files.write(_shard(name), name, data=data)

    def drop_cached(self, kind: str | None) -> int:
        """Remove the entries of cached jobs, of this kind where one is given; return how many."""
        front = "" if kind is None else self.kind(kind)
        names = [name for shard in SHARDS for name in self._files.names(shard) if "." in name]
        return sum(self._files.remove(_shard(name), name) for name in names if name.startswith(front))

    def sweep(self, shard: str) -> None:
        """Remove the entries of one directory whose jobs are gone."""
        for name in self._files.names(shard):
            if _shard(name) != shard:
                continue  # no entry of ours
            with self._store.exclusive(_lock_of(name)):
                job_id, _ = self.read(name)
                if not job_id or self._store.peek(job_id) is None:
                    self._files.remove(shard, name)


class ResultCache:
    """The results that equal submissions share, by `JobOptions.cache_seconds`."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def drop(self, kind: str | None = None) -> int:
        """Let no later submission have a result that is there now, or that a running job will have. Blocks.

        Args:
            kind: Only jobs of this kind: the name of the job's class, function or tool; all where None.

        Returns:
            How many jobs lose their place. Their records stay.

        Raises:
            StoreError: An entry cannot be removed.
        """
        return Entries(self._store).drop_cached(kind)


def _call(job: Job, request: Request) -> str | None:
    """Return the call as one text for equal calls; None where its arguments are not plain JSON."""
    if (spec := job.call) is None:
        return None
    args, kwargs = encoded(request.args), encoded(request.kwargs)
    named = inspect.signature(request.body).bind(*args, **kwargs).arguments
    return json.dumps([spec["body"], spec["file"], spec["cwd"], named], sort_keys=True)


def _body_name(job: Job, request: Request) -> str:
    if job.call is not None:
        return str(job.call["body"])
    body = request.body
    return f"{getattr(body, '__module__', '')}:{getattr(body, '__qualname__', '')}"


def _shard(name: str) -> str:
    return name.rpartition(".")[2][:_SHARD_CHARS]


def _lock(family: str, name: str) -> str:
    return f"{family}-{int(_shard(name), 16) % _LOCKS:02d}"


def _lock_of(name: str) -> str:
    return _lock("cache" if "." in name else "key", name)
