"""What a home keeps: the time of each job, and the bounds of the home, with a clock of the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs import keeping
from python_mcp_server.jobs.expired import Tombstones
from python_mcp_server.jobs.expiry import Expiry
from python_mcp_server.jobs.keeping import Bounds, Keeper
from python_mcp_server.model import Job, JobState, new_job_id
from python_mcp_server.options import JobOptions
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from tests.helpers.records import records_opened
from tests.helpers.stores import EVERY, made_in

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
STORES = pytest.mark.parametrize("kind", EVERY)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(store: JobStore, hours: float, state: JobState = JobState.COMPLETED, **options: Any) -> str:
    """Add a job that was created, and ended, so many hours before noon."""
    when = NOON - timedelta(hours=hours)
    ended = when if state.terminal else None
    given = JobOptions(**options) if options else None
    job = Job(new_job_id(when), "x", state, when, completed_at=ended, background=True, options=given)
    store.create(job)
    return job.id


def left(store: JobStore) -> set[str]:
    return {job.id for job in store.list(limit=1000)[0]}


def clean(store: JobStore, clock: Clock, **bounds: float) -> Keeper:
    """Clean the home now, whenever it was cleaned last."""
    clock.forward(hours=1)
    keeper = Keeper(store, Bounds(**bounds), clock)  # type: ignore[arg-type]
    keeper.round()
    return keeper


@STORES
def test_without_a_bound_everything_stays(kind: str, home: Path, clock: Clock):
    store = made_in(home, kind)
    ids = {put(store, hours) for hours in (1, 10_000)}
    clean(store, clock)
    assert left(store) == ids


@STORES
def test_a_bound_of_days_removes_what_ended_before(kind: str, home: Path, clock: Clock):
    store = made_in(home, kind)
    old, running = put(store, 50), put(store, 70, JobState.RUNNING)
    young, failed = put(store, 10), put(store, 60, JobState.FAILED)
    clean(store, clock, days=2)
    assert left(store) == {running, young}
    assert Tombstones(store, clock).find(old) is not None
    assert Tombstones(store, clock).find(failed) is not None


@STORES
def test_a_bound_of_jobs_removes_the_first_that_ended(kind: str, home: Path, clock: Clock):
    store = made_in(home, kind)
    running = {put(store, 99, JobState.RUNNING), put(store, 99, JobState.PENDING)}
    ids = [put(store, hours) for hours in range(250, 0, -1)]
    long_one = store.get(put(store, 300, JobState.RUNNING))
    assert long_one is not None
    store.update(long_one.id, lambda job: job.evolve(status=JobState.COMPLETED, completed_at=NOON))
    clean(store, clock, jobs=100)
    assert left(store) == running | set(ids[-99:]) | {long_one.id}


@STORES
def test_a_bound_of_disk_space_removes_the_oldest_until_it_holds(kind: str, home: Path, clock: Clock):
    store = made_in(home, kind)
    ids = [put(store, hours) for hours in (5, 4, 3, 2, 1)]
    running = put(store, 9, JobState.RUNNING)
    for job_id in (*ids, running):
        folder = store.folder(job_id)
        folder.mkdir(parents=True)
        (folder / "stdout").write_bytes(bytes(1_000_000))
    clean(store, clock, mb=4.5)
    assert left(store) == {running, *ids[-3:]}
    clean(store, clock, mb=0.5)
    assert left(store) == {running}


def test_no_bound_removes_a_job_that_has_just_ended(home: Path, clock: Clock):
    store = FileJobStore(home)
    job_id = put(store, -1 + 1 / 120)  # half a minute before the first round
    clean(store, clock, jobs=1, days=1e-9, mb=1e-9)
    assert left(store) == {job_id}
    clean(store, clock, days=1e-9)
    assert left(store) == set()


def test_a_job_goes_at_the_end_of_its_time(home: Path, clock: Clock):
    store = FileJobStore(home)
    when = NOON
    options = JobOptions(keep_seconds=7200)
    job = Job(new_job_id(when), "x", JobState.RUNNING, when, background=True, options=options)
    Expiry(store, clock).add(job)
    store.create(job)
    clock.forward(hours=3)
    clean(store, clock)
    assert left(store) == {job.id}
    ended = clock.now
    store.update(job.id, lambda job: job.evolve(status=JobState.FAILED, completed_at=ended))
    clean(store, clock)
    assert left(store) == {job.id}
    clean(store, clock)
    assert left(store) == set()
    found = Tombstones(store, clock).find(job.id)
    assert "it was kept for 2 hours" in str(found)
    clean(store, clock)
    assert [path for path in (home / "keeping" / "due").rglob("*") if path.is_file()] == []


def test_a_time_of_a_job_that_was_never_written_is_dropped(home: Path, clock: Clock):
    store = FileJobStore(home)
    job = Job(new_job_id(), "x", JobState.PENDING, NOON, options=JobOptions(keep_seconds=0))
    Expiry(store, clock).add(job)
    clean(store, clock)
    clean(store, clock)
    assert list((home / "keeping" / "due").iterdir()) == []


def test_a_round_reads_no_job_that_stays(home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    store = FileJobStore(home)
    monkeypatch.setattr(keeping, "_BATCH", 3)
    for hours in range(200):
        put(store, hours, keep_seconds=1e6)
    opened = records_opened(monkeypatch)
    clean(store, clock, days=30, jobs=1000, mb=1000)
    assert len(set(opened)) <= 6


def test_rounds_are_minutes_apart_over_all_servers(home: Path, clock: Clock):
    store = FileJobStore(home)
    keepers = [Keeper(store, Bounds(jobs=1), clock) for _ in range(2)]
    assert keepers[0].round() == 180
    put(store, 2)
    put(store, 1)
    clock.forward(seconds=170)
    assert [keeper.round() for keeper in keepers] == [10, 10]
    assert len(left(store)) == 2
    clock.forward(seconds=10)
    assert keepers[1].round() == 180
    assert len(left(store)) == 1


def test_a_clock_that_was_set_back_stops_no_round(home: Path, clock: Clock):
    store = FileJobStore(home)
    clean(store, clock, jobs=1)
    clock.forward(days=-300)
    for hours in (9000, 9001):
        put(store, hours)
    Keeper(store, Bounds(jobs=1), clock).round()
    assert len(left(store)) == 1


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"next_at": NaN}', b'{"next_at": "x"}', b'{"other": 1}']
)
def test_a_damaged_state_lets_a_round_begin(data: bytes, home: Path, clock: Clock):
    store = FileJobStore(home)
    clean(store, clock)
    (home / "keeping" / "state.json").write_bytes(data)
    assert Keeper(store, Bounds(), clock).round() == 180


def test_much_to_remove_is_removed_in_rounds(home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    store = FileJobStore(home)
    monkeypatch.setattr(keeping, "_MOST_REMOVED", 4)
    monkeypatch.setattr(keeping, "_BATCH", 2)
    for hours in range(1, 11):
        put(store, hours)
    keeper = Keeper(store, Bounds(jobs=1), clock)
    for count in (6, 2, 1):
        keeper.round()
        clock.forward(seconds=5)
        assert len(left(store)) == count


def test_a_stopped_keeper_removes_nothing_more(home: Path, clock: Clock):
    store = FileJobStore(home)
    put(store, 1)
    put(store, 2, keep_seconds=0)
    keeper = Keeper(store, Bounds(days=1e-3, jobs=1, mb=1e-3), clock)
    keeper.stop()
    keeper.round()
    assert len(left(store)) == 2


def test_a_job_that_cannot_be_removed_keeps_no_other_from_going(home: Path, clock: Clock, tmp_path: Path):
    store = FileJobStore(home)
    stuck, *others = (put(store, hours) for hours in (4, 3, 2))
    shard = store.folder(stuck).parent
    shard.symlink_to(tmp_path)
    clean(store, clock, days=1e-3)
    assert left(store) == {stuck, *(one for one in others if store.folder_text(one).startswith(f"{shard}/"))}


def test_a_home_that_is_gone_is_not_made_again(home: Path, clock: Clock):
    store = FileJobStore(home)
    store.close()
    keeper = Keeper(store, Bounds(jobs=1), clock)
    home.rename(home.with_name("moved"))
    keeper.round()
    assert not home.exists()


def test_the_plans_say_what_each_bound_removes_next(home: Path, clock: Clock):
    store = FileJobStore(home)
    ids = [put(store, hours) for hours in (50, 30, 2)]
    assert list(Keeper(store, Bounds(), clock).plans(10)) == []
    plans = list(Keeper(store, Bounds(days=2, jobs=1, mb=20), clock).plans(10))
    assert [[job.id for job in plan.jobs] for plan in plans] == [ids[:1], ids[:2], []]
    assert [plan.text for plan in plans] == [
        "PYTHON_MCP_KEEP_DAYS is 2",
        "PYTHON_MCP_KEEP_JOBS is 1, exceeded by 2",
        "PYTHON_MCP_KEEP_MB is 20, and the jobs take 10 MB",
    ]
    assert len(left(store)) == 3
