"""Schedules with a clock of the test: which times start jobs, and what is missed."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import FileJobStore, InMemoryJobStore
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs import firing as firing_module
from python_mcp_server.jobs import home_bound, submission
from python_mcp_server.jobs.firing import ScheduledWork, ScheduleFiles
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.schedule import MOST_AT_ONCE, Schedule
from python_mcp_server.jobs.schedules import BlockingSchedules, DeclaredSchedule
from python_mcp_server.jobs.settle import settle
from python_mcp_server.kinds import CommandJob
from python_mcp_server.limits import Limits
from python_mcp_server.model import Job, Outcome
from python_mcp_server.options import JobOptions
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.sqlite import SqliteJobStore
from python_mcp_server.tools.scripts import run_script_in_dir
from tests.helpers import bodies
from tests.helpers import framework_bodies as fb

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SAID = Request(fb.said, ("log", "word"))


class Home:
    """A home with a clock, and some servers that look at it."""

    def __init__(self, path: Path, servers: int = 1) -> None:
        self.store: JobStore = FileJobStore(path)
        self.now = NOON
        self.schedules = BlockingSchedules(self.store, lambda: self.now)
        self.servers = [ScheduledWork(self.store, lambda: self.now) for _ in range(servers)]

    def look(self, **later: float) -> list[str]:
        """Let each server look after a step of the clock; return the times of the new jobs."""
        self.now += timedelta(**later)
        before = {job.id for job in self.jobs()}
        for server in self.servers:
            server.fire()
        return sorted(times(job for job in self.jobs() if job.id not in before))

    def jobs(self) -> list[Job]:
        return self.store.list(None, 10_000)[0]

    def end_all(self) -> None:
        for job in self.jobs():
            settle(self.store, job.id, Outcome(value=1))


def times(jobs: Any) -> list[str]:
    return [job.schedule["time"][11:19] for job in jobs]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", servers=2)


def test_each_time_starts_one_job_whoever_looks(home: Home):
    made = home.schedules.add(SAID, cron="*/10 * * * *", name="ten")
    assert home.look(minutes=9) == []
    assert home.look(minutes=1) == ["12:10:00"]
    home.end_all()
    assert home.look(minutes=10) == ["12:20:00"]
    assert home.look() == []
    seen = home.schedules.get("ten")
    assert len(seen.jobs) == 2
    assert seen.last == NOON + timedelta(minutes=20)
    assert {job.id for job in home.jobs()} == set(seen.jobs)
    job = home.jobs()[0]
    assert job.schedule == {"id": made.id, "name": "ten", "time": "2026-05-04T12:20:00+00:00"}
    assert job.to_json()["schedule"]["name"] == "ten"
    assert job.call is not None


def test_a_look_says_when_the_next_time_is(home: Home):
    server = home.servers[0]
    assert server.fire() is None
    home.schedules.add(SAID, every=90)
    assert server.fire() == 90
    home.now += timedelta(seconds=89)
    assert server.fire() == 1


@pytest.mark.parametrize(("missed", "fired", "count"), [("once", ["15:00:00"], 2), ("skip", [], 3)])
def test_times_without_a_server_are_made_up_for_by_the_rule(
    home: Home, missed: str, fired: list[str], count: int
):
    home.schedules.add(SAID, cron="0 * * * *", name="s", missed=missed)
    assert home.look(hours=3, minutes=30) == fired
    seen = home.schedules.get("s").missed_times
    assert seen.count == count
    assert seen.last == NOON + timedelta(hours=2 if fired else 3)
    assert "server" in str(seen.why)
    assert home.look(minutes=29) == []
    home.end_all()
    assert home.look(minutes=1) == ["16:00:00"]


def test_all_makes_up_for_each_time_one_after_another(home: Home):
    home.schedules.add(SAID, cron="0 * * * *", name="s", missed="all")
    assert home.look(hours=3, minutes=30) == ["13:00:00", "14:00:00", "15:00:00"]
    by_time = sorted(home.jobs(), key=lambda job: str(job.schedule))
    assert [job.waits_for for job in by_time] == [(), (by_time[0].id,), (by_time[1].id,)]
    assert home.schedules.get("s").missed_times.count == 0


def test_all_is_bounded(home: Home):
    home.schedules.add(SAID, every=1, name="s", missed="all", overlap="start")
    assert len(home.look(hours=1)) == MOST_AT_ONCE
    assert home.schedules.get("s").missed_times.count == 900  # of 1,000 that are counted


def test_skip_keeps_a_time_that_is_a_little_late(home: Home):
    home.schedules.add(SAID, cron="0 * * * *", missed="skip")
    assert home.look(hours=1, seconds=20) == ["13:00:00"]


def test_a_year_without_a_server_is_no_storm(home: Home):
    home.schedules.add(SAID, cron="* * * * * *", overlap="start")
    assert len(home.look(days=365)) == 1
    assert len(home.look(seconds=1)) == 1


@pytest.mark.parametrize("back_s", [1, 60, 3_000, 86_400 * 400])
def test_a_clock_that_is_set_back_fires_no_time_twice(home: Home, back_s: int):
    home.schedules.add(SAID, every=10, missed="all", overlap="start")
    fired = Counter[str]()
    for step in (*[10] * 12, -back_s, *[10] * 15):
        home.look(seconds=step)
    fired.update(str(job.schedule) for job in home.jobs())
    assert max(fired.values()) == 1


def test_a_schedule_goes_on_after_a_clock_that_ran_years_ahead(home: Home):
    home.schedules.add(SAID, cron="*/10 * * * *", overlap="start")
    assert home.look(minutes=10) == ["12:10:00"]
    assert len(home.look(days=3650)) == 1
    assert home.look(minutes=10) == ["12:20:00"]  # ten years ahead
    assert home.look(days=-3650) == ["12:20:00"]
    assert home.look(minutes=10) == ["12:30:00"]
    counted = Counter(str(job.schedule) for job in home.jobs())
    assert max(counted.values()) == 1


def test_a_schedule_made_by_a_wrong_clock_goes_on_by_the_right_one(home: Home):
    home.now += timedelta(days=3650)
    home.schedules.add(SAID, cron="*/10 * * * *", overlap="start")
    assert home.look(minutes=10) == ["12:10:00"]
    assert home.look(days=-3650) == []
    assert [home.look(minutes=10), home.look(minutes=10)] == [["12:20:00"], ["12:30:00"]]


def test_a_time_is_dropped_while_the_job_before_runs(home: Home):
    home.schedules.add(SAID, cron="* * * * *", name="s")
    assert home.look(minutes=1) == ["12:01:00"]
    assert home.look(minutes=1) == []
    seen = home.schedules.get("s").missed_times
    assert (seen.count, seen.last) == (1, NOON + timedelta(minutes=2))
    assert "had not ended" in str(seen.why)
    home.end_all()
    assert home.look(minutes=1) == ["12:03:00"]


def test_a_job_may_start_beside_the_one_before_or_wait_for_it(home: Home):
    home.schedules.add(SAID, cron="* * * * *", name="beside", overlap="start")
    home.schedules.add(SAID, cron="* * * * *", name="behind", overlap="wait")
    home.look(minutes=1)
    home.look(minutes=1)
    waits = {(str((job.schedule or {})["name"]), len(job.waits_for)) for job in home.jobs()}
    assert waits == {("beside", 0), ("behind", 0), ("behind", 1)}
    behind = [job for job in home.jobs() if (job.schedule or {})["name"] == "behind"]
    assert {job.options and job.options.key for job in behind} == {
        f"schedule {home.schedules.get('behind').id}"
    }
    assert all(job.options and job.options.run_after_failure for job in behind if job.waits_for)


@pytest.mark.parametrize("overlap", ["wait", "start"])
def test_so_many_jobs_of_a_schedule_are_unended_and_no_more(home: Home, overlap: str):
    home.schedules.add(SAID, every=1, name="s", overlap=overlap)
    for _ in range(MOST_AT_ONCE + 3):
        home.look(seconds=1)
    assert len(home.jobs()) == MOST_AT_ONCE
    lost = home.schedules.get("s").missed_times
    assert (lost.count, lost.why) == (3, f"{MOST_AT_ONCE} jobs of the schedule have not ended")
    home.end_all()
    assert len(home.look(seconds=1)) == 1


def test_one_long_job_stops_no_others_that_start_beside_it(home: Home):
    home.schedules.add(SAID, every=1, name="s", overlap="start")
    home.look(seconds=1)
    (long,) = home.jobs()
    for _ in range(MOST_AT_ONCE + 3):
        home.look(seconds=1)
        for job in home.jobs():
            if job.id != long.id and not job.status.terminal:
                settle(home.store, job.id, Outcome(value=1))
    assert len(home.jobs()) == MOST_AT_ONCE + 4


def test_a_paused_schedule_misses_nothing(home: Home):
    home.schedules.add(SAID, cron="* * * * *", name="s")
    home.schedules.pause("s")
    assert home.look(hours=1) == []
    assert home.schedules.next_times("s", 1) == [home.now + timedelta(minutes=1)]
    home.schedules.resume("s")
    assert home.look() == []
    assert home.look(minutes=1) == ["13:01:00"]
    assert home.schedules.get("s").missed_times.count == 0


def test_one_time_fires_once(home: Home):
    home.schedules.add(SAID, at=NOON + timedelta(minutes=5), name="s")
    assert home.look(minutes=30) == ["12:05:00"]
    assert home.look(days=900) == []
    assert home.schedules.get("s").next_time(home.now) is None


def test_a_schedule_can_be_run_now(home: Home):
    home.schedules.add(SAID, cron="0 0 * * *", name="s", paused=True)
    job = home.schedules.run_now("s")
    assert home.store.get(job.id) is not None
    assert job.schedule is not None
    assert job.schedule["time"] is None
    assert home.schedules.get("s").jobs == (job.id,)


# ---- death between two steps


@pytest.mark.parametrize("step", range(1, 4))
def test_a_death_at_any_write_neither_loses_nor_doubles_a_job(
    home: Home, step: int, monkeypatch: pytest.MonkeyPatch
):
    home.schedules.add(SAID, cron="* * * * *", name="s", missed="all", overlap="start")
    left = [step]

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return act(*args, **kwargs)

        return acted

    with monkeypatch.context() as patched:
        patched.setattr(ScheduleFiles, "write", dying(ScheduleFiles.write))
        patched.setattr(firing_module, "write_queued", dying(submission.write_queued))
        with pytest.raises(KeyboardInterrupt):
            home.look(minutes=1)
    home.look()
    assert times(home.jobs()) == ["12:01:00"]
    assert home.schedules.get("s").jobs == (home.jobs()[0].id,)
    home.look(minutes=1)
    assert sorted(times(home.jobs())) == ["12:01:00", "12:02:00"]


@pytest.mark.parametrize("kind", ["files", "sqlite", "memory"])
def test_a_job_that_is_removed_before_the_next_look_is_not_made_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store: JobStore = InMemoryJobStore()
    if kind != "memory":
        store = FileJobStore(tmp_path / "h") if kind == "files" else SqliteJobStore(tmp_path / "h" / "db")
    now = [NOON]
    schedules, server = BlockingSchedules(store, lambda: now[0]), ScheduledWork(store, lambda: now[0])
    made = schedules.add(SAID, cron="* * * * *", name="s")
    now[0] += timedelta(minutes=1)
    write, left = ScheduleFiles.write, [2]

    def dying(files: ScheduleFiles, schedule: Schedule) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        write(files, schedule)

    with monkeypatch.context() as patched:
        patched.setattr(ScheduleFiles, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            server.fire()
    (job,) = store.list()[0]
    settle(store, job.id, Outcome(value=1))
    assert store.remove(job.id)
    server.fire()
    assert store.list()[0] == []
    assert schedules.get(made.id).jobs == (job.id,)
    now[0] += timedelta(minutes=1)
    server.fire()
    assert times(store.list()[0]) == ["12:02:00"]
    store.close()


def test_a_store_that_fails_delays_one_schedule(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.schedules.add(SAID, cron="* * * * *", name="s")

    def full(*_: Any) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(firing_module, "write_queued", full)
        home.now += timedelta(minutes=1)
        waits_s = home.servers[0].fire()
        assert waits_s is not None
        assert waits_s > 0.5
    assert home.servers[1].fire() is not None
    assert times(home.jobs()) == ["12:01:00"]


def test_a_declared_schedule_is_made_when_the_store_can_be_written(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise StoreError("the disk is full")

    server = home.servers[0]
    server.declare([DeclaredSchedule(SAID, {"every": 5, "name": "s"}).make])
    with monkeypatch.context() as patched:
        patched.setattr(ScheduleFiles, "write", full)
        server.fire()
    assert home.schedules.list() == []
    server.fire()
    assert [each.name for each in home.schedules.list()] == ["s"]


def test_a_queue_that_takes_no_jobs_makes_a_time_missed(home: Home):
    home.schedules.add(
        Request(fb.said, ("a", "b"), options=JobOptions(queue="q")), cron="* * * * *", name="s"
    )
    Queues(home.store).drain("q")
    assert home.look(minutes=1) == []
    assert "being drained" in str(home.schedules.get("s").missed_times.why)


def test_a_home_without_disk_space_makes_a_time_missed(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(home_bound, "_USES", 0)  # a slow measurement would be used at the next look, too
    home.servers = [ScheduledWork(home.store, lambda: home.now, max_disk_mb=1)]
    home.schedules = BlockingSchedules(home.store, lambda: home.now, max_disk_mb=1)
    home.schedules.add(SAID, every=60, name="s")
    limited = Request(fb.said, ("log", "word"), limits=Limits(disk_limit_mb=0.5, memory_limit_mb=100))
    home.schedules.add(limited, every=60, name="limited")
    assert home.look(minutes=1) == ["12:01:00", "12:01:00"]
    limits = sorted(job.call["limits"]["disk_limit_mb"] for job in home.jobs() if job.call)
    assert limits[0] == 0.5
    assert 0.5 < limits[1] <= 1
    home.end_all()
    full = home.store.home / "output" / "full"
    full.mkdir(parents=True)
    (full / "stdout").write_bytes(os.urandom(2_000_000))
    assert home.look(minutes=1) == []
    missed = home.schedules.get("s").missed_times
    assert (missed.count, "PYTHON_MCP_MAX_DISK_MB is 1: remove some" in str(missed.why)) == (1, True)
    with pytest.raises(InvalidInput, match="take 2 MB, and PYTHON_MCP_MAX_DISK_MB"):
        home.schedules.run_now("s")
    (full / "stdout").unlink()
    assert home.look(minutes=1) == ["12:03:00", "12:03:00"]


@pytest.mark.parametrize("count", ["x", 2.5, None, True, 0, 1001])
def test_a_number_of_times_that_is_none_is_refused(home: Home, count: Any):
    home.schedules.add(SAID, every=60, name="s")
    with pytest.raises(InvalidInput, match=f"n is {count!r}; it must be a whole number from 1 to 1000"):
        home.schedules.next_times("s", count)


def test_two_servers_at_once_fire_once(tmp_path: Path):
    home = Home(tmp_path, servers=8)
    for number in range(5):
        home.schedules.add(SAID, cron="* * * * *", name=str(number), overlap="start")
    for _ in range(3):
        home.now += timedelta(minutes=1)
        threads = [threading.Thread(target=server.fire) for server in home.servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(home.jobs()) == 15
    assert max(Counter(str(job.schedule) for job in home.jobs()).values()) == 1


# ---- making them


def test_a_name_is_taken_once_and_made_where_none_is_given(home: Home):
    assert [home.schedules.add(SAID, every=5).name for _ in range(3)] == ["said", "said 2", "said 3"]
    with pytest.raises(InvalidInput, match="there is a schedule 'said' already"):
        home.schedules.add(SAID, every=5, name="said")


def test_replacing_changes_what_differs_and_keeps_what_became_of_it(home: Home):
    how: dict[str, Any] = {"name": "s", "replace": True}
    made = home.schedules.add(SAID, cron="* * * * *", **how)
    home.look(minutes=1)
    assert home.schedules.add(SAID, cron="* * * * *", **how) == home.schedules.get("s")
    other = home.schedules.add(SAID, cron="*/5 * * * *", **how)
    assert (other.id, len(other.jobs)) == (made.id, 1)
    home.end_all()
    assert home.look(minutes=2) == []
    assert home.look(minutes=2) == ["12:05:00"]


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: 1, "only this program has its code"),
        (Request(bodies.add, (1, object())), "not JSON"),
        (Request(bodies.add, (1, 2), replayable=False), "only its own server"),
        (Request(run_script_in_dir, ("/tmp",), {"env_vars": {"A": "b"}}), "env_vars looks like a secret"),
        (Request(fb.said, ("a", "b"), secret_parameters=frozenset({"word"})), "word holds a secret"),
        (CommandJob(["make"], env={"A": "b"}), "env_vars looks like a secret"),
        (CommandJob("mysql --password=hunter3 -e x"), "argv has what looks like a secret in it"),
        (CommandJob("TOKEN=x make"), "argv has what looks like a secret in it"),
        (Request(fb.said, ("a", "b"), options=JobOptions(idempotency_key="k")), "no idempotency_key"),
        (5, "5 cannot be scheduled"),
    ],
)
def test_a_call_that_no_file_may_hold_is_refused(home: Home, work: Any, words: str):
    with pytest.raises(InvalidInput, match=words):
        home.schedules.add(work, every=5)
    assert home.schedules.list() == []


def test_principals_see_their_own_schedules_only(home: Home):
    home.schedules.add(Request(fb.said, ("a", "b"), principal="ann"), every=5, name="s")
    home.schedules.add(Request(fb.said, ("a", "b"), principal="bob"), every=5, name="s")
    assert len(home.schedules.list()) == 2
    assert [each.principal for each in home.schedules.list("ann")] == ["ann"]
    with pytest.raises(InvalidInput, match="several schedules are named 's'"):
        home.schedules.get("s")
    bobs = home.schedules.get("s", "bob")
    for act in (home.schedules.get, home.schedules.pause, home.schedules.remove, home.schedules.run_now):
        with pytest.raises(InvalidInput, match="there is no schedule"):
            act(bobs.id, "ann")
    home.look(seconds=5)
    assert {job.principal for job in home.jobs()} == {"ann", "bob"}


@pytest.mark.parametrize(
    "damaged",
    [
        lambda _: "{}",
        lambda text: text[:-20],
        lambda text: text.replace('"every": 5', '"every": 0'),
        lambda text: text.replace('"every": 5', '"cron": 7'),
        lambda text: text.replace('"tz": "UTC"', '"tz": "Oz"'),
        lambda text: text.replace('"label": "said"', '"label": 5'),
    ],
)
def test_the_files_are_private_and_a_damaged_one_is_set_aside(home: Home, damaged: Callable[[str], str]):
    home.schedules.add(SAID, every=5, name="good")
    bad = home.schedules.add(SAID, every=5, name="bad")
    folder = home.store.home / "schedules"
    assert folder.stat().st_mode & 0o077 == 0
    path = folder / f"{bad.id}.json"
    assert path.stat().st_mode & 0o077 == 0
    path.write_text(damaged(path.read_text()))
    assert home.look(seconds=5) == ["12:00:05"]
    assert [each.name for each in home.schedules.list()] == ["good"]
    assert path.with_name(f"{path.name}.damaged").exists()


def test_schedules_that_cannot_be_read_do_not_stop_the_queue(home: Home, caplog: pytest.LogCaptureFixture):
    (home.store.home / "elsewhere").mkdir(parents=True)
    (home.store.home / "schedules").symlink_to("elsewhere")
    for _ in range(3):
        waits_s = home.servers[0].fire()
        assert waits_s is not None
        assert waits_s > 0
    assert caplog.text.count("the schedules wait on") == 1
    with pytest.raises(StoreError, match="symbolic link"):
        home.schedules.add(SAID, every=5)


def test_a_schedule_comes_back_from_its_record(home: Home):
    home.schedules.add(Request(fb.said, ("a", "b"), options=JobOptions(priority=3)), every=5, name="s")
    home.look(seconds=60)
    seen = home.schedules.get("s")
    assert Schedule.from_record(json.loads(json.dumps(seen.to_record()))) == seen
    assert home.jobs()[0].options == JobOptions(priority=3)


def test_schedules_work_with_a_store_in_memory():
    store, now = InMemoryJobStore(), [NOON]
    BlockingSchedules(store, lambda: now[0]).add(SAID, every=5)
    server = ScheduledWork(store, lambda: now[0])
    server.fire()
    now[0] += timedelta(seconds=5)
    server.fire()
    assert len(store.list()[0]) == 1
    store.close()


def test_the_queue_goes_on_after_a_schedule_that_raises(home: Home, monkeypatch: pytest.MonkeyPatch):
    for name in ("bad", "good"):
        home.schedules.add(SAID, cron="* * * * *", name=name, overlap="start")

    def broken(_: JobStore) -> None:
        raise AttributeError("no such thing")

    next_time = Schedule.next_time

    def raising(schedule: Schedule, now: datetime) -> datetime | None:
        if schedule.name == "bad":
            raise ArithmeticError
        return next_time(schedule, now)

    monkeypatch.setattr(Schedule, "next_time", raising)
    made: list[JobStore] = []
    home.servers[0].declare([broken, made.append])
    assert home.look(minutes=1) == ["12:01:00"]
    assert home.look(minutes=1) == ["12:02:00"]
    assert made == [home.store]
