"""The choice of the next job, where the store changes while it is read."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.queue import Chooser
from python_mcp_server.jobs.queue_rules import QueueRules, change_rules
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.waiting import WaitingReasons
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.processes import identify
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.keys import rank_of
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers.records import a_job


class Moving(InMemoryJobStore):
    """A store whose jobs move to another group between two reads, so that they are found in both."""

    def index_names(self, prefix: str) -> tuple[str, ...]:
        return ("ready.one", "ready.two") if prefix == "ready." else ()

    def indexed(self, name: str, limit: int = 100, until: str | None = None) -> tuple[Job, ...]:  # noqa: ARG002
        return tuple(super().list()[0][:limit]) if name.startswith("ready.") else ()


def test_a_job_that_is_found_in_two_groups_is_chosen_once():
    store = Moving()
    jobs = [a_job(JobState.PENDING).evolve(background=True) for _ in range(2)]
    for job in jobs:
        store.create(job)
    look = Chooser(store, SlotLimits(4), None, lambda _: True).look(QueueRules())
    assert sorted(job.id for job in look.chosen) == sorted(job.id for job in jobs)
    store.close()


def test_a_list_whose_directory_is_being_removed_gets_its_job(home: Path, monkeypatch: pytest.MonkeyPatch):
    store, make, races = FileJobStore(home), os.mkdir, [1]

    def make_late(path: str, mode: int) -> None:
        if path.endswith("/ready.default") and races:
            races.pop()
            raise FileExistsError(path)  # it was there, and another process removed it since
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", make_late)
    job = a_job(JobState.PENDING).evolve(background=True)
    store.create(job)
    assert (races, [found.id for found in store.indexed("ready.default")]) == ([], [job.id])
    store.close()


def test_directories_that_a_killed_process_left_empty_are_removed(home: Path):
    store = FileJobStore(home)
    for name in ("ready.default/1m8/pa/zz", "ready.other/1m8", "running", "delayed"):
        (home / "jobs" / "queue" / name).mkdir(parents=True)
    for name in store.index_names(""):
        assert store.indexed(name) == ()
    assert store.index_names("ready.") == ()
    store.close()


def test_the_directories_of_the_present_stay_for_the_next_job(home: Path):
    store = FileJobStore(home)
    now = rank_of(utc_now())
    directory = home / "jobs" / "queue" / "ready.default" / now[:3] / now[3:5] / now[5:7]
    old = directory.with_name("00") if now[5:7] > "00" else directory.with_name("zz")
    for each in (directory, old):
        each.mkdir(parents=True)
    assert store.indexed("ready.default") == ()
    assert not old.exists()
    if rank_of(utc_now() - timedelta(seconds=1)) < now:  # the look came soon enough
        assert directory.exists()
    store.close()


def test_a_queue_whose_jobs_have_all_ended_is_not_listed(home: Path):
    store = FileJobStore(home)
    job = a_job(JobState.PENDING).evolve(background=True, options=JobOptions(queue="images"))
    store.create(job)
    assert [queue.name for queue in Queues(store).list().queues] == ["default", "images"]
    store.update(job.id, lambda found: found.evolve(status=JobState.CANCELLED, completed_at=utc_now()))
    assert [queue.name for queue in Queues(store).list().queues] == ["default"]
    store.close()


RULES = QueueRules(resources={"gpu": 2, "disk": 1})


def waiting(age_s: float, tool: str = "kind", **options: Any) -> Job:
    at = utc_now() - timedelta(seconds=age_s)
    return a_job(JobState.PENDING).evolve(
        background=True, created_at=at, tool=tool, options=JobOptions(**options)
    )


def at_work(tool: str = "kind", **options: Any) -> Job:
    own = identify(os.getpid())
    job = waiting(0, tool, **options)
    return job.evolve(status=JobState.RUNNING, owner=own, worker=own, started_at=utc_now())


def chosen(store: JobStore, *jobs: Job) -> set[str]:
    for job in jobs:
        store.create(job)
    chooser = Chooser(store, SlotLimits(8), None, lambda _: True)
    return {job.id for job in chooser.look(RULES).chosen}


def reason(store: JobStore, job: Job) -> str | None:
    change_rules(store, lambda _: RULES)
    return WaitingReasons(store, SlotLimits(8)).of(job)


SCARCE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"resources": {"gpu": 2}}, {"resources": {"gpu": 1}}, "the resource 'gpu' first"),
    ({"max_concurrency": 1}, {"max_concurrency": 2}, "the kind 'kind' first"),
    ({"key": "k"}, {"key": "k", "key_concurrency": 3}, "the key 'k' first"),
]


@pytest.mark.parametrize("kind", ["files", "memory"])
@pytest.mark.parametrize(("first", "later", "told"), SCARCE)
def test_later_jobs_wait_behind_one_that_waits_long(
    first: dict[str, Any], later: dict[str, Any], told: str, kind: str, home: Path
):
    store = FileJobStore(home) if kind == "files" else InMemoryJobStore()
    small, other = waiting(50, **later), waiting(40, "other")
    assert chosen(store, at_work(**later), waiting(60, **first), small, other) == {other.id}
    assert chosen(store) == {other.id}
    assert told in (reason(store, small) or "")
    store.close()


@pytest.mark.parametrize(("first", "later", "told"), SCARCE)
def test_jobs_pass_one_that_has_not_waited_long(first: dict[str, Any], later: dict[str, Any], told: str):
    store, small = InMemoryJobStore(), waiting(1, **later)
    assert chosen(store, at_work(**later), waiting(20, **first), small) == {small.id}
    assert told not in (reason(store, small) or "")


def test_jobs_before_one_that_waits_long_go_first():
    store, small = InMemoryJobStore(), waiting(1, priority=1, resources={"gpu": 1})
    big = waiting(60, resources={"gpu": 2})
    assert chosen(store, at_work(resources={"gpu": 1}), big, small) == {small.id}


def test_no_job_waits_behind_one_that_cannot_start():
    small = waiting(50, resources={"gpu": 1})
    for big in (waiting(60, resources={"gpu": 3}), waiting(60, resources={"gpu": 2}, queue="paused")):
        store = InMemoryJobStore()
        for job in (at_work(resources={"gpu": 1}), big, small):
            store.create(job)
        rules = replace(RULES, paused=("paused",))
        chooser = Chooser(store, SlotLimits(8), None, lambda _: True)
        assert [job.id for job in chooser.look(rules).chosen] == [small.id]
    store = InMemoryJobStore()
    known = waiting(60, resources={"gpu": 2})
    for job in (at_work(resources={"gpu": 1}), known, small):
        store.create(job)
    chooser = Chooser(store, SlotLimits(8), None, lambda job: job.id == small.id)
    assert [job.id for job in chooser.look(RULES).chosen] == [small.id]


def test_a_job_that_waits_long_starts_when_its_resource_is_free():
    store, big = InMemoryJobStore(), waiting(60, resources={"gpu": 2, "disk": 1})
    assert chosen(store, big, waiting(50, resources={"gpu": 1})) == {big.id}
