"""The choice of the next job, where the store changes while it is read."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.queue import Chooser
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.keys import rank_of
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers.records import a_job

if TYPE_CHECKING:
    import pytest


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
