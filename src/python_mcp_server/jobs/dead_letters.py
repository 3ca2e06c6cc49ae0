"""Dead letters: the jobs that failed for good, and whose record has the spec by which they can be run again.

A retry makes a new job and removes the dead letter, because a terminal record never changes. The id of the
new job is noted in the folder of the dead letter first, so a retry that was killed is finished by the next
one, and starts nothing twice. Of dead letters that are run again together, each waits for those that it
waited for, and gets their results; so none is removed before those that name it are written.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.atomic import make_directory, read_file, translate_os_errors, write_file
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.jobs.arguments import spec_renamed
from python_mcp_server.jobs.asked import check_keywords
from python_mcp_server.jobs.expired import Tombstones, not_found, remove_job
from python_mcp_server.jobs.record import WAITS_FOR_A_SERVER
from python_mcp_server.jobs.relatives import after_of
from python_mcp_server.jobs.sameness import move_key
from python_mcp_server.jobs.settle import attempt_of
from python_mcp_server.jobs.spec import with_arguments
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.model import JOB_RESULT, Job, JobState, new_job_id, utc_now
from python_mcp_server.store.keys import DEAD, dead_name, is_dead_letter
from python_mcp_server.store.layout import is_job_id, older_than

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.store.contract import JobStore

_LOCK: Final = "dead-letters"
_NOTE: Final = "retried"
_FIRST_READ: Final = 64
_GROWTH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which dead letters are meant: those that fit everything that is given.

    Attributes:
        kind: The name of their tool or function.
        queue: Their queue.
        error_kind: Why they failed.
        principal: Whose they are; None for all.
    """

    kind: str | None = None
    queue: str | None = None
    error_kind: str | None = None
    principal: str | None = None

    def fits(self, job: Job) -> bool:
        """Whether this job is meant."""
        queue = None if job.options is None else job.options.queue
        given = ((self.kind, job.tool), (self.queue, queue), (self.error_kind, job.error_kind))
        return job.belongs_to(self.principal) and all(want in (None, found) for want, found in given)


class DeadLetters:
    """The dead letters of one home. All methods block, and raise `StoreError` where the store cannot be read
    or written.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def list(
        self,
        kind: str | None = None,
        queue: str | None = None,
        limit: int = 50,
        before: str | None = None,
        *,
        error_kind: str | None = None,
        principal: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` dead letters, newest first, and whether there are more.

        Args:
            kind: Only those of this tool or function.
            queue: Only those of this queue.
            limit: How many at most.
            before: Only those older than the job with this id, which need not exist any more.
            error_kind: Only those that failed for this reason.
            principal: Only those of this principal; None for all.

        Raises:
            InvalidInput: The limit is not positive, or `before` is not the id of a job.
        """
        whole = isinstance(cast("object", limit), int) and not isinstance(limit, bool)
        if not whole or limit < 1:
            raise InvalidInput(f"limit is {limit!r:.100}; it must be a whole number, 1 or more")
        which = Which(kind=kind, queue=queue, error_kind=error_kind, principal=principal)
        found = list[Job]()
        for job in self._letters(which, before):
            if len(found) == limit:
                return found, True
            found.append(job)
        return found, False

    def _letters(self, which: Which, before: str | None = None) -> Iterator[Job]:
        is_older = None if before is None else older_than(before)
        names = sorted(self._store.index_names(DEAD), reverse=True)
        for name in names:
            if before is None or name <= dead_name(before):
                for job in self._in_list(name):
                    if which.fits(job) and (is_older is None or is_older(job.id)):
                        yield job

    def _in_list(self, name: str) -> Iterator[Job]:
        """Yield the jobs of one list of the index; those that are removed meanwhile do not matter."""
        seen, limit = set[str](), _FIRST_READ
        while True:
            page = self._store.indexed(name, limit)
            yield from (job for job in page if job.id not in seen)
            if len(page) < limit:
                return
            seen.update(job.id for job in page)
            limit *= _GROWTH

    def get(self, job_id: str) -> Job:
        """Return a dead letter.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The job cannot be run again; the text says why.
        """
        job = self._store.get(job_id)
        if job is None:
            raise not_found(self._store, job_id)
        if is_dead_letter(job):
            return job
        if job.status is not JobState.FAILED:
            raise InvalidInput(f"job {job_id} is {job.status}; only a job that failed for good is run again")
        why = "its spec could not be kept" if job.call_note is None else job.call_note
        why = "it was submitted without options" if job.options is None else why
        raise InvalidInput(f"job {job_id} cannot be run again, because {why}; submit a new job")

    def retry(
        self, job_id: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> Job:
        """Run a dead letter again as a new job, and remove the dead letter; return the new job.

        The new job has the same options, but waits for no other job; its attempts are counted anew, and its
        `attempts` begin with those that have failed. A repeated submission of its idempotency key gets it.

        Args:
            job_id: The dead letter.
            args: Positional arguments in the place of the former ones.
            kwargs: Keyword arguments in the place of those with the same names; the others stay.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The job cannot be run again, an argument cannot be kept in a record, or the queue
                takes no more jobs. The dead letter stays.
        """
        with self._store.exclusive(_LOCK):
            dead = self.get(job_id)
            again = self._noted(dead) or self._store_again(dead, _again(dead, args, kwargs))
            self._remove_retried(dead, again)
        return again

    def _remove_retried(self, dead: Job, again: Job) -> None:
        move_key(self._store, dead, again.id)
        Tombstones(self._store).add(dead, again.id)
        self._store.remove(dead.id)

    def _store_again(self, dead: Job, again: Job) -> Job:
        path = self._note(dead)
        with translate_os_errors(str(self._store.home), f"note that job {dead.id} is run again"):
            make_directory(os.path.dirname(path))
            write_file(path, again.id.encode(), fsync=self._store.fsync)
        write_queued(self._store, again)
        return again

    def _noted(self, dead: Job) -> Job | None:
        """Return the job that a retry has made which was killed before it removed the dead letter."""
        with translate_os_errors(str(self._store.home), f"read the note of job {dead.id}"):
            noted = (read_file(self._note(dead)) or b"").decode("ascii", "replace")
        return self._store.get(noted) if is_job_id(noted) else None

    def _note(self, dead: Job) -> str:
        return os.path.join(self._store.folder(dead.id), _NOTE)

    def retry_all(
        self,
        kind: str | None = None,
        queue: str | None = None,
        error_kind: str | None = None,
        principal: str | None = None,
    ) -> dict[str, Job]:
        """Run all dead letters again that fit; return the mapping of each one's id to the new job. Those that
        waited for each other, as in a graph, do so again.

        Raises:
            InvalidInput: A queue takes no more jobs; those that were run again before are in it.
        """
        which = Which(kind=kind, queue=queue, error_kind=error_kind, principal=principal)
        after = {job.id: after_of(job) for job in self._found(which)}
        made, retried = dict[str, Job](), list[Job]()
        try:
            for job_id in _in_order(after):
                with self._store.exclusive(_LOCK), suppress(JobNotFound):  # another process was faster
                    dead = self.get(job_id)
                    made[job_id] = self._noted(dead) or self._store_again(dead, _again_after(dead, made))
                    retried.append(dead)
        finally:
            named = {other for job_id in after.keys() - made.keys() for other in after[job_id]}
            for dead in retried:
                if dead.id not in named:  # else the next retry needs its note
                    with self._store.exclusive(_LOCK):
                        self._remove_retried(dead, made[dead.id])
        return made

    def drop(self, job_id: str) -> None:
        """Remove a dead letter, with its output.

        Raises:
            JobNotFound, InvalidInput: As `get`.
        """
        remove_job(self._store, self.get(job_id))

    def drop_all(
        self,
        kind: str | None = None,
        queue: str | None = None,
        error_kind: str | None = None,
        principal: str | None = None,
    ) -> int:
        """Remove all dead letters that fit, with their output, and return how many there were."""
        which = Which(kind=kind, queue=queue, error_kind=error_kind, principal=principal)
        return sum(remove_job(self._store, job) for job in self._found(which))

    def _found(self, which: Which) -> Sequence[Job]:
        """Return those that fit, oldest first: none of a job that fails again meanwhile."""
        return [*self._letters(which)][::-1]


def as_arguments(given: object) -> dict[str, Any]:
    """Return changed arguments as parameters of `DeadLetters.retry`: an object holds keyword arguments, an
    array all positional ones, and None changes none.

    Raises:
        InvalidInput: It is something else.
    """
    if given is None:
        return {}
    if isinstance(given, dict):
        return {"kwargs": cast("dict[str, Any]", given)}
    if isinstance(given, list):
        return {"args": cast("list[Any]", given)}
    raise InvalidInput(f"arguments is {given!r:.160}; it must be an object or an array")


def _in_order(after: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Return ids of jobs, those that a job waited for before it."""
    known = {job_id: [other for other in others if other in after] for job_id, others in after.items()}
    return TopologicalSorter(known).static_order()


def _again_after(dead: Job, made: Mapping[str, Job]) -> Job:
    """Return the new job of a dead letter, which waits for those that were made for its predecessors."""
    again, ids = _again(dead, None, None), {old: job.id for old, job in made.items()}
    after = tuple(ids[old] for old in after_of(dead) if old in ids)
    if not after or again.options is None:
        return again
    return again.evolve(
        call=spec_renamed(again.call or {}, ids),
        options=replace(again.options, after=after),
        waits_for=after,
    )


def _again(dead: Job, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Job:
    """Return the new job of a dead letter."""
    spec, options, now = dead.call or {}, dead.options, utc_now()
    ran = [] if dead.started_at is None else [attempt_of(dead) | {"job_id": dead.id}]
    later = None if options is None or options.run_at is None or options.run_at <= now else options.run_at
    return dead.evolve(
        id=new_job_id(),
        reply=dead.reply if not dead.reply or JOB_RESULT not in dead.reply else dead.reply | {JOB_RESULT: {}},
        status=JobState.PENDING,
        created_at=now,
        ran=dead.ran if args is None and kwargs is None else None,
        message=WAITS_FOR_A_SERVER,
        call=spec if args is None and kwargs is None else with_arguments(spec, args, kwargs),
        options=None if options is None else replace(options, after=()),
        not_before=later,
        background=True,
        attempt=1,
        attempts=(*dead.attempts, *ran),
        **_UNSTARTED,
    )


_UNSTARTED: Final[dict[str, Any]] = {
    "waits_for": (),
    "behind_key": False,
    "questions": (),
    **dict.fromkeys(
        (
            "started_at",
            "completed_at",
            "queued_at",
            "error",
            "error_kind",
            "error_type",
            "rpc_error",
            "result",
            "result_note",
            "progress",
            "usage",
            "ending",
            "owner",
            "worker",
            "missed_at",
        )
    ),
}


class AsyncDeadLetters:
    """The dead letters of one home on an event loop; each method does as its namesake of `DeadLetters`."""

    def __init__(self, letters: DeadLetters, engine: Callable[[], Awaitable[Engine]]) -> None:
        self._letters = letters
        self._engine = engine

    async def _one(self, work: Callable[[], Any]) -> Any:
        engine = await self._engine()
        try:
            return await engine.services.in_store(work)
        finally:
            engine.slots.wake()

    async def _many(self, work: Callable[[], Any], principal: str | None) -> Any:
        """Do what may read many records in the threads for that."""
        engine = await self._engine()
        try:
            return await engine.services.look_through(principal, work)
        finally:
            engine.slots.wake()

    async def list(
        self,
        kind: str | None = None,
        queue: str | None = None,
        limit: int = 50,
        before: str | None = None,
        **which: str | None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` dead letters, newest first, and whether there are more."""
        check_keywords(self._letters.list, which)
        work = partial(self._letters.list, kind, queue, limit, before, **which)
        return await self._many(work, which.get("principal"))

    async def get(self, job_id: str) -> Job:
        """Return a dead letter."""
        return await self._one(partial(self._letters.get, job_id))

    async def retry(
        self, job_id: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> Job:
        """Run a dead letter again as a new job, and remove the dead letter; return the new job."""
        return await self._one(partial(self._letters.retry, job_id, args, kwargs))

    async def retry_all(self, **which: str | None) -> dict[str, Job]:
        """Run all dead letters again that fit; return the mapping of each one's id to the new job."""
        check_keywords(self._letters.retry_all, which)
        return await self._many(partial(self._letters.retry_all, **which), which.get("principal"))

    async def drop(self, job_id: str) -> None:
        """Remove a dead letter, with its output."""
        await self._one(partial(self._letters.drop, job_id))

    async def drop_all(self, **which: str | None) -> int:
        """Remove all dead letters that fit, with their output, and return how many there were."""
        check_keywords(self._letters.drop_all, which)
        return await self._many(partial(self._letters.drop_all, **which), which.get("principal"))
