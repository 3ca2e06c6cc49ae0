"""One schedule as data, and the decision which of its times start a job. It touches no file and no clock.

A schedule remembers which times it has dealt with, as spans of time, so none is dealt with twice, wherever
the clock is set. A clock that is set back waits within a span; between two spans, where no server was there
or the clock had jumped, it goes on. Which jobs a time starts is written into the schedule, with their ids,
before they are created (`intent`): where the process dies in between, the next one creates the same jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.timetable import Timetable
from python_mcp_server.model import Job, JobState, iso, moment, new_job_id
from python_mcp_server.options import JobOptions

MISSED: Final = ("skip", "once", "all")
OVERLAPS: Final = ("skip", "wait", "start")
MOST_AT_ONCE: Final = 100
"""How many missed times are made up for by `all`, and how many jobs of a schedule may be there unended."""

LATE_S: Final = 60.0
"""How late a time may be and still counts as kept under `skip`: a busy server is no stopped one."""

_MOST_SPANS: Final = 8
_SHOWN_JOBS: Final = 10
_NO_SERVER: Final = "no server was there in time"
_STILL_RUNS: Final = "the job before had not ended"
_MANY_WAIT: Final = f"{MOST_AT_ONCE} jobs of the schedule have not ended"


@dataclass(frozen=True, slots=True)
class Firing:
    """A job that a schedule is about to create.

    Attributes:
        job_id: Its id.
        time: The time that starts it.
        after: The job that it waits for, if there is one.
    """

    job_id: str
    time: datetime
    after: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the firing as JSON."""
        return {"job_id": self.job_id, "time": iso(self.time), "after": self.after}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(data["job_id"], datetime.fromisoformat(data["time"]), data["after"])


@dataclass(frozen=True, slots=True)
class MissedTimes:
    """The times of a schedule that started no job.

    Attributes:
        count: How many there were; of one absence at most 1,000 are counted.
        last: The last of them.
        why: Why that one started no job.
    """

    count: int = 0
    last: datetime | None = None
    why: str | None = None

    def more(self, count: int, last: datetime, why: str) -> MissedTimes:
        """Return them with some more."""
        return MissedTimes(self.count + count, last, why) if count > 0 else self

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON."""
        return {"count": self.count, "last": iso(self.last), "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule: what it submits, when, and what it has submitted so far.

    Attributes:
        id: Unguessable.
        name: No other schedule of the same principal has it.
        timetable: When it starts jobs.
        job: What it submits: the record of a job without the fields that each job has of its own.
        missed: What happens to times at which no server was there: "skip" drops them, "once" starts one job
            for all of them, "all" starts one for each, 100 at most.
        overlap: What happens at a time when the job before has not ended: "skip" drops the time, "wait"
            starts the job when that one has ended, "start" starts it beside that one.
        paused: Whether it starts no jobs now.
        made_at: When it was made.
        missed_times: The times that started no job.
        jobs: The ids of its last jobs, oldest first.
        last: The time of the last job that a time started.
        intent: The jobs that are about to be created.
        spans: The first and the last of times that were dealt with one after another.
    """

    id: str
    name: str
    timetable: Timetable
    job: dict[str, Any]
    missed: str = "once"
    overlap: str = "skip"
    paused: bool = False
    made_at: datetime
    missed_times: MissedTimes = MissedTimes()
    jobs: tuple[str, ...] = ()
    last: datetime | None = None
    intent: tuple[Firing, ...] = ()
    spans: tuple[tuple[datetime, datetime], ...] = field(default=())

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    @property
    def principal(self) -> str | None:
        """Who made it, and owns its jobs; None for the account's owner."""
        return self.job.get("principal")

    def belongs_to(self, principal: str | None) -> bool:
        """Whether this principal may see it; None, the account's owner, sees all."""
        return principal is None or self.principal == principal

    # ---- times

    def next_time(self, now: datetime) -> datetime | None:
        """Return the next time that is not dealt with, which may have passed; None after the last one."""
        return None if self.paused else self._after(self._reached(now))

    def next_times(self, now: datetime, count: int) -> list[datetime]:
        """Return the next times after now, also those of a paused schedule."""
        found: list[datetime] = []
        following = self._after(max(now, self._reached(now)))
        while following is not None and len(found) < count:
            found.append(following)
            following = self._after(following)
        return found

    def _reached(self, now: datetime) -> datetime:
        return max((last for first, last in self.spans if first <= now), default=now)

    def _after(self, when: datetime) -> datetime | None:
        following = self.timetable.next_after(when)
        while following is not None:
            last = max((last for first, last in self.spans if first <= following <= last), default=None)
            if last is None:
                break
            following = self.timetable.next_after(last)
        return following

    def is_ahead(self, now: datetime) -> bool:
        """Whether it begins after now, because the clock was set back to before that."""
        return all(first > now for first, _ in self.spans)

    def from_now(self, now: datetime) -> Schedule:
        """Return the schedule as it goes on from now, with nothing missed."""
        return self._with_span(now, now)

    def _with_span(self, first: datetime, last: datetime) -> Schedule:
        """Return the schedule with a further span; where one ends at `first`, it goes on up to `last`."""
        begin = next((each[0] for each in self.spans if each[1] == first), first)
        others = sorted((each for each in self.spans if each[1] != first), key=lambda each: each[1])
        return self.evolve(spans=tuple(sorted([*others[-_MOST_SPANS + 1 :], (begin, last)])))

    # ---- firing

    def due(self, now: datetime, is_live: Callable[[str], bool]) -> Schedule:
        """Return the schedule with the jobs that are due as its intent, and their times dealt with.

        Args:
            now: The present.
            is_live: Whether the job with this id has not ended.
        """
        if self.is_ahead(now):
            return self.from_now(now)
        following = self.next_time(now)
        if following is None or following > now or self.intent:
            return self
        reached, most = self._reached(now), MOST_AT_ONCE if self.missed == "all" else 1
        found = self.timetable.newest(reached, now, most + 1)
        times, last = found[-most:], found[-1]
        if self.missed == "skip" and now - last > timedelta(seconds=LATE_S):
            times = []
        late, lost = found[: len(found) - len(times)], self.missed_times
        if late:
            count = self.timetable.count(reached, now) - len(times)
            lost = lost.more(max(count, len(late)), late[-1], _NO_SERVER)
        intent, why = self._intent(times, is_live)
        if why is not None:
            lost = lost.more(len(times), last, why)
        done = self._with_span(last, last) if late else self._with_span(reached, last)
        return done.evolve(intent=intent, missed_times=lost)

    def _intent(
        self, times: list[datetime], is_live: Callable[[str], bool]
    ) -> tuple[tuple[Firing, ...], str | None]:
        before = self.jobs[-1] if self.jobs and self.overlap != "start" else None
        if before is not None and not is_live(before):
            before = None
        if times and before is not None and self.overlap == "skip":
            return (), _STILL_RUNS
        chained = before is not None  # then those after the first wait for it
        if len(self.jobs) == MOST_AT_ONCE and all(map(is_live, self.jobs[:1] if chained else self.jobs)):
            return (), _MANY_WAIT
        found: list[Firing] = []
        for time in times:
            found.append(Firing(new_job_id(), time, before))
            before = found[-1].job_id if self.overlap != "start" else None
        return tuple(found), None

    def fired(self, refused: dict[str, str]) -> Schedule:
        """Return the schedule with its intent carried out.

        Args:
            refused: Mapping of the id of a job that could not be created to the reason.
        """
        made = [firing for firing in self.intent if firing.job_id not in refused]
        lost = self.missed_times
        for firing in self.intent:
            if firing.job_id in refused:
                lost = lost.more(1, firing.time, refused[firing.job_id])
        jobs = (*self.jobs, *(firing.job_id for firing in made))[-MOST_AT_ONCE:]
        last = made[-1].time if made else self.last
        return self.evolve(intent=(), jobs=jobs, last=last, missed_times=lost)

    def ran(self, job_id: str) -> Schedule:
        """Return the schedule with a job that was started beside its times."""
        return self.evolve(jobs=(*self.jobs, job_id)[-MOST_AT_ONCE:])

    def to_job(self, firing: Firing, now: datetime, *, by_time: bool = True) -> Job:
        """Return the record of the job of a firing."""
        facts = {"id": self.id, "name": self.name, "time": iso(firing.time) if by_time else None}
        own = {"id": firing.job_id, "status": JobState.PENDING.value, "created_at": iso(now)}
        job = Job.from_record(self.job | own | {"background": True, "schedule": facts})
        options = job.options or JobOptions()
        if (
            self.overlap == "wait" and options.key is None
        ):  # where the job before is cancelled, older ones may run
            options = replace(options, key=f"schedule {self.id}")
        if firing.after is not None:
            options = replace(options, after=(firing.after,), run_after_failure=True)
        return job if options == JobOptions() else job.evolve(options=options, waits_for=options.after)

    # ---- JSON

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Return the form that people and tools read: when, what, and what became of it."""
        when = {name: value for name, value in self.timetable.to_json().items() if name != "start"}
        call = cast("dict[str, Any]", self.job.get("call") or {})
        return {
            "id": self.id,
            "name": self.name,
            **when,
            "tool": self.job.get("tool") or call.get("body"),
            "ran": self.job.get("ran") or self.job.get("label"),
            "paused": self.paused,
            "next": iso(self.next_time(now)),
            "last": iso(self.last),
            "jobs": list(self.jobs[-_SHOWN_JOBS:]),
            "overlap": self.overlap,
            "missed": {"rule": self.missed} | self.missed_times.to_json(),
        }

    def to_record(self) -> dict[str, Any]:
        """Return the form of the file."""
        return {
            "id": self.id,
            "name": self.name,
            "timetable": self.timetable.to_json(),
            "job": self.job,
            "missed": self.missed,
            "overlap": self.overlap,
            "paused": self.paused,
            "made_at": iso(self.made_at),
            "missed_times": self.missed_times.to_json(),
            "jobs": list(self.jobs),
            "last": iso(self.last),
            "intent": [firing.to_json() for firing in self.intent],
            "spans": [[iso(first), iso(last)] for first, last in self.spans],
        }

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Self:
        """Read what `to_record` wrote.

        Raises:
            KeyError, TypeError, ValueError: The data is not a schedule.
        """
        lost = data["missed_times"]
        read = datetime.fromisoformat
        return cls(
            **{name: data[name] for name in ("id", "name", "job", "missed", "overlap", "paused")},
            timetable=Timetable.from_json(data["timetable"]),
            made_at=read(data["made_at"]),
            missed_times=MissedTimes(lost["count"], moment(lost["last"]), lost["why"]),
            jobs=tuple(data["jobs"]),
            last=moment(data["last"]),
            intent=tuple(map(Firing.from_json, data["intent"])),
            spans=tuple((read(first), read(last)) for first, last in data["spans"]),
        )


def check_rules(missed: object, overlap: object) -> None:
    """Refuse rules that do not exist.

    Raises:
        InvalidInput: The text names the rule.
    """
    for name, value, known in (("missed", missed, MISSED), ("overlap", overlap, OVERLAPS)):
        if value not in known:
            raise InvalidInput(f"{name} is {value!r:.100}; it must be one of {', '.join(known)}")
