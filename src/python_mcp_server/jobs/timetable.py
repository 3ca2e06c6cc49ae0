"""The times of a schedule: by a cron expression, every so many seconds, or once. They are computed from an
instant alone, so every server finds the same ones.

A cron expression with a fixed hour and minute has each of its times once a day, as Debian's cron has: a time
that a zone leaves out in spring comes at the end of the gap, and one that it has twice in autumn comes at the
first. An expression with `*` in one of the two goes by the clock on the wall: it has the times that exist,
and those of the hour that comes twice both times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import iso, moment

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MOST_COUNTED: Final = 1_000
"""How many missed times are counted; the count of more is a lower bound."""

_LEAST_S: Final = 1.0
_LONGEST_S: Final = 366 * 86_400.0
_FIRST_SPAN: Final = timedelta(minutes=1)
_FIELDS: Final = "5 fields: minute, hour, day, month, weekday; or 6, the first of them for seconds"


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """The times of one schedule.

    Attributes:
        cron: An expression of 5 fields, or of 6 with the seconds first.
        every: Seconds between two times, counted from `start`.
        at: The only time; one without an offset is a time of the zone.
        tz: The IANA name of the time zone of `cron`.
        start: From when `every` is counted.

    Raises:
        InvalidInput: Not exactly one of the three is given, or a value has no meaning; the text names it.
    """

    cron: str | None = None
    every: float | None = None
    at: datetime | None = None
    tz: str = "UTC"
    start: datetime

    def __post_init__(self) -> None:
        if [self.cron, self.every, self.at].count(None) != 2:  # noqa: PLR2004  one of three
            raise InvalidInput("a schedule has one of cron, every and at; give exactly one of them")
        zone = self._zone
        if not isinstance(cast("object", self.cron or ""), str):
            raise InvalidInput(f"cron is {self.cron!r:.100}; it must be a text of {_FIELDS}")
        if self.at is not None:
            object.__setattr__(self, "at", _instant(self.at, zone))
        _check_every(self.every)
        if self.next_after(self.start) is None:
            told = f"at is {iso(self.at)}" if self.at else f"cron is {self.cron!r:.100}"
            raise InvalidInput(f"{told}, which never comes; it must be a time that lies ahead")

    def next_after(self, when: datetime) -> datetime | None:
        """Return the first time after an instant, in UTC; None after the last time."""
        if self.at is not None:
            return self.at if self.at > when else None
        if self.every is not None:
            steps = math.floor((when - self.start) / timedelta(seconds=self.every)) + 1
            return self.start + timedelta(seconds=self.every) * steps
        try:
            return self._cron_after(when)
        except OverflowError:  # beyond the year 9999
            return None

    def newest(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """Return the last times after one instant and up to another, oldest first.

        It looks back from the end in growing steps, so that years without a server cost little.
        """
        span = _FIRST_SPAN
        while True:
            begin = max(after, until - span)
            found = self._within(begin, until)
            if begin == after or len(found) >= most:
                return found[-most:]
            span *= 2

    def count(self, after: datetime, until: datetime) -> int:
        """Return how many times lie after one instant and up to another, counted up to 1,000."""
        if self.every is not None:
            first = self.next_after(after)
            steps = -1 if first is None else (until - first) // timedelta(seconds=self.every)
            return min(MOST_COUNTED, max(0, steps + 1))
        count = 0
        while count < MOST_COUNTED:
            following = self.next_after(after)
            if following is None or following > until:
                break
            after, count = following, count + 1
        return count

    def _within(self, after: datetime, until: datetime) -> list[datetime]:
        found: list[datetime] = []
        while (following := self.next_after(after)) is not None and following <= until:
            found.append(following)
            after = following
        return found

    # ---- cron

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone_named(self.tz)

    @cached_property
    def _fixed(self) -> bool:
        """Whether the expression names the hours and minutes of its times."""
        parts = (self.cron or "").split()
        return not any(part.startswith("*") for part in parts[-5:-3])

    def _cron_after(self, when: datetime) -> datetime | None:
        from cronsim import CronSim, CronSimError

        local = when.astimezone(self._zone)
        try:
            times = CronSim(self.cron or "", local.replace(tzinfo=None) if self._fixed else local)
        except (CronSimError, ValueError) as error:
            raise InvalidInput(f"cron is {self.cron!r:.100} ({error}); it must have {_FIELDS}") from None
        for each in times:
            instant = _instant(each, self._zone)
            if instant > when:  # a time of the second pass of an hour that comes twice is over already
                return instant
        return None

    # ---- JSON

    def to_json(self) -> dict[str, Any]:
        """Return the timetable as JSON."""
        given = {"cron": self.cron, "every": self.every, "at": iso(self.at)}
        kept = {name: value for name, value in given.items() if value is not None}
        return kept | {"tz": self.tz, "start": iso(self.start)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote, without a look whether a time is still to come.

        Raises:
            KeyError, TypeError, ValueError: The data is not a timetable.
        """
        made = object.__new__(cls)
        texts = {name: data.get(name) for name in ("cron", "every")}
        moments = {"at": moment(data.get("at")), "start": moment(data["start"])}
        for name, value in {**texts, **moments, "tz": data["tz"]}.items():
            object.__setattr__(made, name, value)
        zone_named(made.tz)
        made.next_after(moment(data["start"]) or datetime.now(UTC))
        return made


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name.

    Raises:
        InvalidInput: There is no such zone.
    """
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, TypeError, LookupError):
        raise InvalidInput(f"tz is {name!r:.100}; it must be an IANA time zone, as Europe/Berlin") from None


def _instant(when: Any, zone: ZoneInfo) -> datetime:
    """Return a time in UTC. One that a zone leaves out comes at the end of the gap, one that it has twice at
    the first.
    """
    if not isinstance(when, datetime):
        raise InvalidInput(f"at is {when!r:.100}; it must be a datetime")
    if when.tzinfo is not None:
        return when.astimezone(UTC)
    before = when.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == when:
        return before
    return _end_of_gap(before, zone)


def _end_of_gap(inside: datetime, zone: ZoneInfo) -> datetime:
    """Return when the zone's offset changed before an instant: a time in the gap, read by the offset before
    it, lies less than a gap behind that.
    """
    when, minute = inside.replace(second=0, microsecond=0), timedelta(minutes=1)
    while (when - minute).astimezone(zone).utcoffset() == inside.astimezone(zone).utcoffset():
        when -= minute
    return when


def _check_every(every: Any) -> None:
    if every is None:
        return
    number = isinstance(every, (int, float)) and not isinstance(every, bool)
    if not number or not _LEAST_S <= every <= _LONGEST_S:
        raise InvalidInput(
            f"every is {every!r:.100}; it must be seconds, from {_LEAST_S:g} to {_LONGEST_S:.0f}"
        )
