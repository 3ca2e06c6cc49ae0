"""The schedules of a home, as users make, list, change and remove them: `JobManager.schedules`.

A schedule submits a call that any server can start from its record, so its body has a name, its arguments are
plain JSON, and none is a secret. The schedules lie in the home: every server of the home sees them, and they
outlive all of them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.asked import check_keywords
from python_mcp_server.jobs.firing import ScheduleFiles, create_once
from python_mcp_server.jobs.home_bound import HomeBound
from python_mcp_server.jobs.limit_watch import check_limits
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.jobs.rows import what_ran
from python_mcp_server.jobs.schedule import Firing, Schedule, check_rules
from python_mcp_server.jobs.spec import NotReplayable, spec_of
from python_mcp_server.jobs.timetable import Timetable
from python_mcp_server.kinds import AsyncJob
from python_mcp_server.model import Job, JobState, cut, cut_label, new_job_id, utc_now
from python_mcp_server.pool.references import refer

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.store.contract import JobStore

T = TypeVar("T")
Work = Request | AsyncJob | Callable[..., Any]
"""What a schedule submits: a call, a program, or a function without arguments."""

_log: Final = logging.getLogger(__name__)
_MOST: Final = 1_000
"""How many schedules a home may have. Guessed: a look at that many takes some ms where one has changed."""

_OPTIONS: Final = re.compile(r"\A(?:-\S*\s*)+")
"""What a label of a program begins with, and the name of a schedule does not: `-m `, `-c `."""
_NAME_CHARS: Final = 100
_MOST_TIMES: Final = 1_000
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT: Final = (
    "label", "tool", "ran", "directory", "client", "principal", "memory_limit_mb", "call", "reply", "options"
)  # fmt: skip
_PER_JOB: Final = ("run_at", "after", "idempotency_key")
"""The options that are of one job and make no sense for each job of a schedule."""


class BlockingSchedules:
    """The schedules of one home for plain code: every method blocks for a moment.

    Methods take a schedule by its id or its name. With a `principal`, those of others do not exist.
    """

    def __init__(
        self, store: JobStore, now: Callable[[], datetime] = utc_now, max_disk_mb: float = 0
    ) -> None:
        self._store = store
        self._bound = HomeBound(store.home, max_disk_mb)
        self._files = ScheduleFiles(store)
        self._now = now

    def add(
        self,
        work: Work,
        *,
        cron: str | None = None,
        every: float | None = None,
        at: datetime | None = None,
        tz: str = "UTC",
        name: str | None = None,
        missed: str = "once",
        overlap: str | None = None,
        paused: bool = False,
        replace: bool = False,
    ) -> Schedule:
        """Make a schedule.

        Args:
            work: What it submits each time.
            cron: When: `"0 3 * * *"`, minute, hour, day, month and weekday; a sixth field in front is for
                seconds.
            every: Or each so many seconds from now on, 1 at least.
            at: Or once, at this time; one without an offset is of the time zone.
            tz: The IANA name of the time zone.
            name: Its name; made of what it runs where None.
            missed: What happens to the times at which no server was there: "once" starts one job for all of
                them, "skip" none, "all" one for each, the last 100 at most.
            overlap: What happens at a time when the job before has not ended: "skip" drops the time, "wait"
                starts the job when that one has ended, "start" starts it beside that one. Where None, "wait"
                with `missed="all"`, and "skip" otherwise.
            paused: Whether it starts jobs only after `resume`.
            replace: Whether a schedule of this name is changed; it is left as it is where nothing differs.

        Raises:
            InvalidInput: A value has no meaning, the name is taken, or the call cannot be kept in a file.
            StoreError: The schedule cannot be written.
        """
        overlap = _overlap(missed, overlap)
        check_rules(missed, overlap)
        now, job = self._now(), template_of(work)
        timetable = Timetable(cron=cron, every=every, at=at, tz=tz, start=now)
        _check_name(name)
        with self._files.locked():
            known = [each for each in self._files.all() if each.principal == job["principal"]]
            former = next((each for each in known if each.name == name), None)
            if former is not None and not replace:
                raise InvalidInput(f"there is a schedule {name!r} already; remove it, or give another name")
            if former is None and len(known) >= _MOST:
                raise InvalidInput(f"there are {len(known)} schedules; {_MOST} may be, so remove some")
            made = Schedule(
                id=new_job_id(),
                name=name or _free_name(job, {each.name for each in known}),
                timetable=timetable,
                job=job,
                missed=missed,
                overlap=overlap,
                paused=paused,
                made_at=now,
                spans=((now, now),),
            )
            if former is not None and (made := _changed(former, made, now)) is former:
                return former
            self._files.write(made)
        return made

    def list(self, principal: str | None = None) -> list[Schedule]:
        """Return all schedules, by name.

        Raises:
            StoreError: They cannot be read.
        """
        found = [each for each in self._files.all() if each.belongs_to(principal)]
        return sorted(found, key=lambda each: (each.name, each.id))

    def get(self, schedule: str, principal: str | None = None) -> Schedule:
        """Return a schedule.

        Raises:
            InvalidInput: There is no such schedule, or several have this name.
        """
        own = self.list(principal)
        found = [each for each in own if each.id == schedule] or [
            each for each in own if each.name == schedule
        ]
        if len(found) > 1:
            raise InvalidInput(f"several schedules are named {schedule!r:.100}; give the id of one")
        if not found:
            raise InvalidInput(f"there is no schedule {schedule!r:.100}; `list` has those that there are")
        return found[0]

    def pause(self, schedule: str, principal: str | None = None) -> Schedule:
        """Start no jobs of a schedule from now on; its times pass and are not missed.

        Raises:
            InvalidInput: As `get`.
        """
        return self._change(schedule, principal, lambda found: found.evolve(paused=True))

    def resume(self, schedule: str, principal: str | None = None) -> Schedule:
        """Start jobs of a paused schedule again, from its next time on.

        Raises:
            InvalidInput: As `get`.
        """

        def resumed(found: Schedule) -> Schedule:
            return found.evolve(paused=False).from_now(self._now()) if found.paused else found

        return self._change(schedule, principal, resumed)

    def remove(self, schedule: str, principal: str | None = None) -> Schedule:
        """Remove a schedule and return it; its jobs stay.

        Raises:
            InvalidInput: As `get`.
        """
        with self._files.locked():
            found = self.get(schedule, principal)
            self._files.remove(found.id)
        return found

    def run_now(self, schedule: str, principal: str | None = None) -> Job:
        """Submit the job of a schedule now, beside its times and also while it is paused.

        Raises:
            InvalidInput: As `get`, or the job's queue or the home takes no more jobs.
            StoreError: The job cannot be recorded.
        """
        now = self._now()
        firing = Firing(new_job_id(), now)

        def ran(found: Schedule) -> Schedule:
            create_once(self._store, self._bound, found, firing, now, by_time=False)
            return found.ran(firing.job_id)

        made = self._change(schedule, principal, ran)
        return made.to_job(firing, now, by_time=False)

    def next_times(self, schedule: str, n: int = 5, principal: str | None = None) -> list[datetime]:
        """Return the next times of a schedule, in UTC, also while it is paused.

        Raises:
            InvalidInput: As `get`, or the number is not from 1 to 1,000.
        """
        whole = isinstance(cast("object", n), int) and not isinstance(n, bool)
        if not whole or not 1 <= n <= _MOST_TIMES:
            raise InvalidInput(f"n is {n!r:.100}; it must be a whole number from 1 to {_MOST_TIMES}")
        return self.get(schedule, principal).next_times(self._now(), n)

    def _change(
        self, schedule: str, principal: str | None, change: Callable[[Schedule], Schedule]
    ) -> Schedule:
        with self._files.locked():
            found = self.get(schedule, principal)
            changed = change(found)
            if changed is not found:
                self._files.write(changed)
        return changed


class Schedules:
    """The schedules of one home. Methods have the parameters and errors of their namesakes in
    `BlockingSchedules`, and do not block the event loop.

    Attributes:
        blocking: The same for plain code.
    """

    def __init__(
        self, store: JobStore, engine: Callable[[], Awaitable[Engine]], max_disk_mb: float = 0
    ) -> None:
        """Make the interface of one manager.

        Args:
            store: Where the jobs lie.
            engine: Returns the engine of the running event loop.
            max_disk_mb: The bound of the home on its disk space; 0 for none.
        """
        self.blocking = BlockingSchedules(store, max_disk_mb=max_disk_mb)
        self._engine = engine

    async def add(self, work: Work, **how: Any) -> Schedule:
        """Make a schedule; see `BlockingSchedules.add`.

        Raises:
            InvalidInput, StoreError: As that; the former also where it has no such parameter.
        """
        check_keywords(self.blocking.add, how)
        return await self._changed(partial(self.blocking.add, work, **how))

    async def list(self, principal: str | None = None) -> list[Schedule]:
        """Return all schedules, by name."""
        return await self._read(partial(self.blocking.list, principal))

    async def get(self, schedule: str, principal: str | None = None) -> Schedule:
        """Return a schedule."""
        return await self._read(partial(self.blocking.get, schedule, principal))

    async def pause(self, schedule: str, principal: str | None = None) -> Schedule:
        """Start no jobs of a schedule from now on."""
        return await self._changed(partial(self.blocking.pause, schedule, principal))

    async def resume(self, schedule: str, principal: str | None = None) -> Schedule:
        """Start jobs of a paused schedule again."""
        return await self._changed(partial(self.blocking.resume, schedule, principal))

    async def remove(self, schedule: str, principal: str | None = None) -> Schedule:
        """Remove a schedule and return it; its jobs stay."""
        return await self._changed(partial(self.blocking.remove, schedule, principal))

    async def run_now(self, schedule: str, principal: str | None = None) -> Job:
        """Submit the job of a schedule now."""
        return await self._changed(partial(self.blocking.run_now, schedule, principal))

    async def next_times(self, schedule: str, n: int = 5, principal: str | None = None) -> list[datetime]:
        """Return the next times of a schedule."""
        return await self._read(partial(self.blocking.next_times, schedule, n, principal))

    async def _read(self, work: Callable[[], T]) -> T:
        return await (await self._engine()).services.in_store(work)

    async def _changed(self, work: Callable[[], T]) -> T:
        engine = await self._engine()
        result = await engine.services.in_store(work)
        engine.slots.wake()
        return result


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A schedule as the decorator `scheduled` has it.

    Attributes:
        work: The call.
        how: The arguments of `BlockingSchedules.add`.
    """

    work: Work
    how: dict[str, Any] = field(default_factory=dict[str, Any])

    def make(self, store: JobStore) -> None:
        """Make the schedule, unless it is there as it is declared. Blocks; what is refused is logged.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            BlockingSchedules(store).add(self.work, **self.how, replace=True)
        except InvalidInput as error:
            _log.warning("the schedule %s was not made: %s", self.how.get("name"), error)


def check_schedule(*, name: str | None, missed: str, overlap: str | None, **when: Any) -> None:
    """Refuse what no schedule can have. A time that has passed is accepted, because it was right once.

    Raises:
        InvalidInput: The text names the value.
    """
    check_rules(missed, _overlap(missed, overlap))
    _check_name(name)
    Timetable(**when, start=_LONG_AGO)


def _overlap(missed: str, overlap: str | None) -> str:
    return ("wait" if missed == "all" else "skip") if overlap is None else overlap


def template_of(work: Any) -> dict[str, Any]:
    """Return what each record of a schedule's jobs has: the call, and the facts of it that people read.

    Raises:
        InvalidInput: A file may not, or cannot, hold the call.
    """
    request = _request_of(work)
    check_limits(request)
    if request.options is not None:
        wrong = next((name for name in _PER_JOB if getattr(request.options, name)), None)
        if wrong is not None:
            raise InvalidInput(f"a schedule's job has no {wrong}, because it is for one job; leave it out")
    try:
        call = spec_of(request, refer(request.body))
    except NotReplayable as reason:
        raise InvalidInput(
            f"this call cannot be scheduled: {reason}; schedules are files, for all servers of the home"
        ) from None
    ran = what_ran(request.body, request.args, request.kwargs)
    job = Job(
        id="",
        label=request.label or cut_label(ran.program or request.tool or request.body.__name__),
        status=JobState.PENDING,
        created_at=utc_now(),
        tool=request.tool,
        ran=ran.program,
        directory=ran.directory,
        client=request.client,
        principal=request.principal,
        memory_limit_mb=None if request.limits is None else request.limits.memory_limit_mb,
        call=call,
        reply=None if request.replies is None else dict(request.replies.form),
        options=request.options,
    )
    record = job.to_record()
    return {name: record.get(name) for name in _KEPT}


def _request_of(work: Any) -> Request:
    if isinstance(work, AsyncJob):
        return request_of(work)
    if isinstance(work, Request):
        return work
    if callable(work):
        return Request(getattr(work, BODY_ATTRIBUTE, work))
    raise InvalidInput(f"{work!r:.100} cannot be scheduled; give a function, an AsyncJob or a CommandJob")


def _check_name(name: Any) -> None:
    if name is None:
        return
    fits = isinstance(name, str) and 1 <= len(name) <= _NAME_CHARS and name.isprintable()
    if not fits or name.startswith("-"):  # such a name is an option of a command
        right = f"a line of 1 to {_NAME_CHARS} characters, the first of them no '-'"
        raise InvalidInput(f"name is {name!r:.160}; it must be {right}")


def _free_name(job: dict[str, Any], taken: set[str]) -> str:
    base = cut(_OPTIONS.sub("", job["label"]) or "schedule", _NAME_CHARS - 10)
    names = chain([base], (f"{base} {number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _changed(former: Schedule, made: Schedule, now: datetime) -> Schedule:
    """Return a schedule as it is declared now, with what became of it so far."""
    times = [each.timetable.to_json() | {"start": None} for each in (former, made)]
    rules = [(each.job, each.missed, each.overlap) for each in (former, made)]
    if times[0] == times[1]:
        news = {"job": made.job, "missed": made.missed, "overlap": made.overlap}
        return former if rules[0] == rules[1] else former.evolve(**news)
    kept = {
        name: getattr(former, name) for name in ("id", "paused", "made_at", "jobs", "last", "missed_times")
    }
    return made.evolve(**kept, spans=former.from_now(now).spans, intent=former.intent)
