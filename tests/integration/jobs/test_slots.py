"""So many background jobs at once, over all servers that share a home."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore, JobManager
from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.capacity import SlotLimits, capacity_of
from python_mcp_server.jobs.queue import Chooser
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.record import Started
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.slots import Full, acquire
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.processes import identify
from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually
from tests.helpers.managers import LONG_S, handed_over, lines, manager
from tests.helpers.queueing import (
    DONE,
    PENDING,
    RUNNING,
    end_worker,
    hold,
    hold_for_a_moment,
    job_in,
    kept_job_in,
    most_at_once,
    server,
)
from tests.helpers.stores import store_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


def test_two_servers_of_one_home_run_no_more_than_the_limit_together(any_home: Path, tmp_path: Path):
    held = tmp_path / "held"
    with (
        server(2, *[("hold_for_a_moment", held)] * 5) as one,
        server(2, *[("hold_for_a_moment", held)] * 5) as other,
    ):
        for job_id in (*one.ids, *other.ids):
            job_in(any_home, job_id, DONE)
    assert len(lines(held)) == 20
    assert most_at_once(held) <= 2


def test_a_job_that_waits_says_how_many_run_on_this_machine(home: Path, tmp_path: Path):
    with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as one:
        job_in(home, one.ids[0], RUNNING)
        with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as other:
            reader = JobManager(None, Settings.from_environ(home=home, max_background_jobs=1))
            assert reader.blocking.get(other.ids[0]).message == (
                "waiting for its turn: 1 background job runs on this machine, the limit is 1"
            )
            (tmp_path / "gate").touch()
            job_in(home, other.ids[0], DONE)
    assert len(lines(tmp_path / "starts")) == 2


def test_the_slots_of_a_killed_server_are_free_at_once(home: Path, tmp_path: Path):
    with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as doomed:
        running = job_in(home, doomed.ids[0], RUNNING)
        eventually(lambda: lines(tmp_path / "starts"))  # a body that has not begun would be started again
        with server(1, ("hold_for_a_moment", tmp_path / "held")) as other:
            assert job_in(home, other.ids[0], PENDING)
            doomed.kill()
            end_worker(running)
            job_in(home, other.ids[0], DONE)
            assert job_in(home, running.id, JobState.FAILED).error_kind == "worker_died"


def running_in(store: JobStore) -> int:
    return capacity_of(store, SlotLimits(1), QueueRules())[0].running


def test_a_job_that_outlives_its_server_keeps_its_slot(any_home: Path, tmp_path: Path):
    with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as doomed:
        job = kept_job_in(any_home, doomed.ids[0])
        doomed.kill()
    store = store_of(any_home)
    assert running_in(store) == 1
    (tmp_path / "gate").touch()
    job_in(any_home, job.id, DONE)
    assert running_in(store) == 0


def test_a_stopped_server_holds_up_no_other_servers_jobs(home: Path, tmp_path: Path):
    gate = tmp_path / "gate"
    with server(1, *[("hold", tmp_path / "starts", gate)] * 2) as stopped:
        eventually(lambda: lines(tmp_path / "starts"))  # the record says "running" before the body begins
        with server(1, ("hold_for_a_moment", tmp_path / "held")) as other:
            stopped.stop(home)
            end_worker(job_in(home, stopped.ids[0], RUNNING))
            job_in(home, other.ids[0], DONE)
            assert lines(tmp_path / "starts") == ["started"]
            gate.touch()
            stopped.process.send_signal(signal.SIGCONT)
            job_in(home, stopped.ids[1], DONE)


async def test_calls_that_are_handed_over_take_slots_and_are_never_refused(tmp_path: Path):
    async with manager(max_background_jobs=1, spare_workers=2) as jobs:
        await jobs.start()
        pool = (await jobs._engine()).pool
        while len(pool._idle) < 2:  # so that no budget ends before its body starts
            await asyncio.sleep(0.01)
        gate = tmp_path / "gate"
        for _ in range(2):
            handed = await handed_over(jobs, hold, str(tmp_path / "starts"), str(gate))
            assert handed.status is RUNNING
        waiting = await jobs.submit_request(Request(bodies.add, (1,)))
        while (message := (await jobs.get(waiting.id)).message) is None:
            await asyncio.sleep(0.01)
        assert message.startswith("waiting for its turn: 2 background jobs run on this machine, the limit")
        gate.touch()
        assert (await jobs.wait(waiting.id, LONG_S))[0].result == 2


async def test_calls_whose_budget_ends_in_the_queue_wait_for_slots_too(tmp_path: Path):
    async with manager(max_workers=1, max_background_jobs=2) as jobs:
        held = str(tmp_path / "held")
        calls = (handed_over(jobs, hold_for_a_moment, held, budget_s=0.01) for _ in range(6))
        for result in await asyncio.gather(*calls):
            assert (await jobs.wait(result.job_id, LONG_S))[0].status is DONE
        assert len(lines(held)) == 12
        assert most_at_once(Path(held)) <= 3, "the one that had a worker was handed over, and not refused"


async def test_the_limit_holds_for_jobs_in_memory_too(tmp_path: Path):
    async with manager(InMemoryJobStore(), max_background_jobs=2) as jobs:
        held = str(tmp_path / "held")
        submitted = [await jobs.submit_request(Request(hold_for_a_moment, (held,))) for _ in range(6)]
        for job in submitted:
            assert (await jobs.wait(job.id, LONG_S))[0].status is DONE
        assert most_at_once(Path(held)) <= 2


def queued(store: FileJobStore, owner: ProcessIdentity | None, **facts: object) -> Job:
    job = Job(new_job_id(), "job", PENDING, utc_now(), owner=owner, background=True).evolve(**facts)
    store.create(job)
    return job


def identity_of(pid: int) -> tuple[int, str, str]:
    found = identify(pid)
    assert found is not None
    return found.start_ticks, found.boot_id, found.pid_namespace


def chosen(store: FileJobStore, server: ProcessIdentity, slots: int, **more: Any) -> list[str]:
    """Return the jobs that a server starts at a look."""
    look = Chooser(store, SlotLimits(slots), server, lambda _: True, **more).look(QueueRules())
    return [job.id for job in look.chosen]


def test_the_oldest_job_of_all_servers_goes_first(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    other = ProcessIdentity(os.getppid(), *identity_of(os.getppid()))
    queued(store, own, ending="cancelled")
    older = queued(store, other)
    eventually(lambda: time.time_ns() // 1_000_000 > older.created_at.timestamp() * 1000)
    younger = queued(store, own)
    assert chosen(store, own, 1) == []
    assert chosen(store, other, 1) == [older.id]
    assert chosen(store, own, 2) == [younger.id]
    assert chosen(store, own, 1, passed_over=frozenset({older.id})) == [younger.id]
    assert acquire(store, older.id, other, other, SlotLimits(1)) is Started.HERE
    with pytest.raises(Full, match="1 background job runs"):
        acquire(store, younger.id, own, own, SlotLimits(1))
    assert acquire(store, younger.id, own, own, SlotLimits(2)) is Started.HERE


def test_a_cancelled_or_taken_over_job_takes_no_slot(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    cancelled = queued(store, own, ending="cancelled")
    anothers = queued(store, ProcessIdentity(own.pid, own.start_ticks - 1))
    for job, answer in ((cancelled, Started.OVER), (anothers, Started.ELSEWHERE)):
        assert acquire(store, job.id, own, own, SlotLimits(1)) is answer
        assert store.get(job.id) == job


class Moody(FileJobStore):
    """A store that can be told to give no locks, as on a full disk."""

    fails = False
    tries = 0

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        self.tries += 1
        if self.fails:
            raise StoreError("no space left")
        return super().exclusive(name)


async def test_a_job_whose_start_cannot_be_written_waits_until_it_can(home: Path):
    store = Moody(home)
    async with manager(store) as jobs:
        store.fails = True
        job = await jobs.submit_request(Request(bodies.add, (1,)))
        while not store.tries:
            await asyncio.sleep(0.01)
        assert (await jobs.get(job.id)).status is PENDING
        store.fails = False
        assert (await jobs.wait(job.id, LONG_S))[0].result == 2


def test_servers_that_start_at_once_keep_to_a_rate_together(home: Path, own: ProcessIdentity):
    options = JobOptions(rate="3/hour")
    jobs = [queued(FileJobStore(home), own, options=options) for _ in range(12)]

    reasons: list[str] = []

    def start(job: Job) -> bool:
        try:
            return acquire(FileJobStore(home), job.id, own, own, SlotLimits(100)) is Started.HERE
        except Full as full:
            reasons.append(str(full))
            return False

    with ThreadPoolExecutor(4) as servers:
        assert sum(servers.map(start, jobs)) == 3
    assert {reason.partition(", the next")[0] for reason in reasons} == {"waiting for its rate: 3 an hour"}


def test_a_start_that_comes_to_nothing_is_not_counted(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    options = JobOptions(rate="1/hour")
    cancelled, job = (queued(store, own, options=options, ending=ending) for ending in ("cancelled", None))
    assert acquire(store, cancelled.id, own, own, SlotLimits(9)) is Started.OVER
    assert acquire(store, job.id, own, own, SlotLimits(9)) is Started.HERE
