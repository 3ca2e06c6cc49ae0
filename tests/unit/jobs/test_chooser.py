"""The choice of the next job, where the store changes while it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.queue import Chooser
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.files import FileJobStore
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
    assert store.index_names("") == ()
    store.close()
