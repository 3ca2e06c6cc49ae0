"""The times of schedules, in zones whose clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.timetable import MOST_COUNTED, Timetable

START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


def local_times(cron: str, tz: str, start: str, count: int) -> list[str]:
    """The times after a local time, as the zone shows them."""
    zone = ZoneInfo(tz)
    when = datetime.fromisoformat(start).replace(tzinfo=zone).astimezone(UTC)
    table, found = Timetable(cron=cron, tz=tz, start=when), list[str]()
    for _ in range(count):
        following = table.next_after(when)
        assert following is not None
        assert following > when
        when = following
        found.append(when.astimezone(zone).isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize("seconds", ["", "0 "])
@pytest.mark.parametrize(
    ("cron", "tz", "start", "times"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00",
         ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00",
         ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00",
         ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    ],
)  # fmt: skip
def test_a_time_that_does_not_exist_comes_at_the_end_of_the_gap(
    cron: str, tz: str, start: str, times: list[str], seconds: str
):
    assert local_times(seconds + cron, tz, start, 2) == times


@pytest.mark.parametrize("seconds", ["", "0 "])
@pytest.mark.parametrize(
    ("cron", "tz", "start", "times"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00",
         ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00",
         ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00",
         ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    ],
)  # fmt: skip
def test_a_time_that_exists_twice_comes_at_the_first(
    cron: str, tz: str, start: str, times: list[str], seconds: str
):
    assert local_times(seconds + cron, tz, start, 2) == times


def test_an_expression_with_stars_has_every_time_that_the_clock_shows():
    shown = local_times("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", 3)
    assert shown == ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]
    shown = local_times("*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:30", 4)
    assert [text[11:] for text in shown] == ["01:45+11:00", "01:30+10:30", "01:45+10:30", "02:00+10:30"]


@pytest.mark.parametrize("tz", ZONES)
@settings(max_examples=40, deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    begin_s=st.integers(0, 2 * 365 * 86_400),
)
def test_a_daily_time_comes_once_on_each_day(tz: str, minute: int, hour: int, begin_s: int):
    when = START + timedelta(seconds=begin_s)
    table = Timetable(cron=f"{minute} {hour} * * *", tz=tz, start=when)
    following = table.next_after(when)
    assert following is not None
    after_it = table.next_after(following)
    assert after_it is not None
    days = [each.astimezone(ZoneInfo(tz)).date() for each in (following, after_it)]
    assert days[1] - days[0] == timedelta(days=1)
    assert table.next_after(following - timedelta(microseconds=1)) == following


def test_the_newest_times_of_years_are_found_without_the_others():
    until = datetime(2036, 6, 1, tzinfo=UTC)
    each_second = Timetable(cron="* * * * * *", start=START)
    assert each_second.newest(START, until, 2) == [until - timedelta(seconds=1), until]
    assert each_second.count(START, until) == MOST_COUNTED
    yearly = Timetable(cron="0 0 1 1 *", start=START)
    assert [each.year for each in yearly.newest(START, until, 3)] == [2034, 2035, 2036]
    assert yearly.count(START, until) == 10
    every = Timetable(every=90, start=START)
    assert every.newest(START, START + timedelta(seconds=100), 5) == [START + timedelta(seconds=90)]
    assert every.count(START, START + timedelta(seconds=180)) == 2


def test_one_time_without_an_offset_is_of_the_zone():
    table = Timetable(at=datetime.fromisoformat("2026-07-01T09:00"), tz="Europe/Berlin", start=START)
    assert table.next_after(START) == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert table.next_after(datetime(2026, 7, 1, 7, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "exactly one"),
        ({"cron": "* * * * *", "every": 5}, "exactly one"),
        ({"cron": "* * * *"}, "Wrong number of fields"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": 5}, "cron is 5"),
        ({"cron": "0 0 30 2 *"}, "Bad day-of-month"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "tz is 'Mars/Olympus'"),
        ({"cron": "* * * * *", "tz": "../etc/passwd"}, "tz is "),
        ({"every": 5, "tz": "Oz"}, "tz is 'Oz'"),
        ({"every": 0.5}, "every is 0.5"),
        ({"every": True}, "every is True"),
        ({"every": float("nan")}, "every is nan"),
        ({"at": START}, "never comes"),
        ({"at": "tomorrow"}, "at is 'tomorrow'"),
    ],
)
def test_what_has_no_times_is_refused_with_the_value(given_: dict[str, object], words: str):
    with pytest.raises(InvalidInput, match=words):
        Timetable(**given_, start=START)  # type: ignore[arg-type]


def test_a_timetable_comes_back_from_json():
    for how in ({"cron": "5 4 * * *", "tz": "Europe/Berlin"}, {"every": 7.5}, {"at": START + timedelta(1)}):
        table = Timetable(**how, start=START)  # type: ignore[arg-type]
        assert Timetable.from_json(table.to_json()) == table
