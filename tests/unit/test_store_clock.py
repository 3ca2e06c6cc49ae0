"""The wall clock is set while jobs lie in the store: none is pruned too early or kept for ever, and
those that are there keep their order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState, base32, new_job_id, utc_now
from python_mcp_server.store import clock
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore

YEAR = timedelta(days=365)
HOUR = timedelta(hours=1)
knows_boots = pytest.mark.skipif(clock.Reading.now() is None, reason="this system does not name its boots")


class Clock:
    """The wall clock that the product sees; time since boot is the true one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        self.patch = patch
        fake = SimpleNamespace(**vars(time)) if knows_boots else time
        fake.time = lambda: time.time() + self.ahead.total_seconds()
        patch.setattr(clock, "time", fake)
        for module in ("python_mcp_server.store.clock", "python_mcp_server.jobs.manager"):
            patch.setattr(f"{module}.utc_now", self.now)

    def now(self):
        return utc_now() + self.ahead

    def boot(self) -> None:
        """Let the machine be booted."""
        self.patch.setattr(clock, "_boot", lambda: "another boot")


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[JobStore]:
    made = InMemoryJobStore() if request.param == "memory" else FileJobStore(home)
    yield made
    made.close()


def ended(store: JobStore, wall: Clock, ago: timedelta = timedelta()) -> Job:
    job = Job(new_job_id(), "label", JobState.RUNNING, wall.now())
    store.create(job)
    return store.update(
        job.id, lambda old: old.evolve(status=JobState.CANCELLED, completed_at=wall.now() - ago)
    )


def left(store: JobStore, max_age_hours: float) -> set[str]:
    JobManager(store).prune_blocking(keep_completed=False, keep_failed=False, max_age_hours=max_age_hours)
    return {job.id for job in store.list()[0]}


@knows_boots
@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_clock_that_was_set_ages_no_job(store: JobStore, wall: Clock, jump: timedelta):
    young, old = ended(store, wall, HOUR), ended(store, wall, 25 * HOUR)
    wall.ahead = jump
    assert left(store, 26) == {old.id, young.id}
    assert left(store, 24) == {young.id}
    assert left(store, 1) == set()


@knows_boots
def test_a_clock_that_was_wrong_when_a_job_ended_and_then_was_mended_ages_no_job(
    store: JobStore, wall: Clock
):
    wall.ahead = YEAR
    from_the_future = ended(store, wall, HOUR)
    wall.ahead = -YEAR
    from_the_past = ended(store, wall, HOUR)
    wall.ahead = timedelta()
    assert left(store, 2) == {from_the_future.id, from_the_past.id}
    assert left(store, 1) == set()


def test_a_job_that_ended_in_the_future_of_another_boot_is_young_and_not_kept_for_ever(
    store: JobStore, wall: Clock
):
    wall.ahead = YEAR
    job = ended(store, wall)
    wall.ahead = timedelta()
    wall.boot()
    assert left(store, 0.001) == {job.id}
    assert left(store, 0) == set()


def test_the_times_in_a_record_stay_those_that_were_told(store: JobStore, wall: Clock):
    job = ended(store, wall)
    wall.ahead = -YEAR
    assert store.get(job.id) == job
    assert store.list()[0] == [job]


@pytest.mark.parametrize("offset_ms", [-(10**12), 10**12])
def test_an_id_whose_time_is_far_off_is_listed_in_its_place_and_can_be_pruned(
    store: JobStore, wall: Clock, offset_ms: int
):
    now = ended(store, wall)
    far = Job(base32(time.time_ns() // 10**6 + offset_ms << 125, 34), "label", JobState.FAILED, utc_now())
    store.create(far)
    assert store.get(far.id) == far
    listed = [job.id for job in store.list()[0]]
    assert listed == ([far.id, now.id] if offset_ms > 0 else [now.id, far.id])
    assert left(store, 0) == set()


def test_a_clock_that_is_set_back_moves_no_job_of_those_that_are_there(store: JobStore, wall: Clock):
    wall.ahead = YEAR
    first = [ended(store, wall).id for _ in range(3)]
    before = [job.id for job in store.list()[0]]
    wall.ahead = timedelta()
    running = Job(new_job_id(), "label", JobState.RUNNING, wall.now())
    store.create(running)
    assert [job.id for job in store.list()[0] if job.id in first] == before
    assert store.list(JobState.RUNNING) == ([running], False)


@pytest.mark.parametrize("said", [None, [], ["boot"], ["boot", "x"], {"boot": 1}, [1, 2, 3], 5])
def test_a_reading_that_is_none_moves_nothing(said: object):
    job = Job(new_job_id(), "label", JobState.FAILED, utc_now())
    assert clock.on_present_clock(job, clock.Reading.from_json(said)) == job
