"""So many background jobs at once, over all servers that share a home."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.slots import Claim, SlotRequest, acquire, snapshot
from python_mcp_server.model import Job, ProcessIdentity, new_job_id, utc_now
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

            def told() -> str | None:
                job = FileJobStore(home).get(other.ids[0])
                return job.message if job else None

            assert eventually(told) == (
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
    assert job_in(home, running.id, RUNNING), "nobody had to settle it"


def test_a_job_that_outlives_its_server_keeps_its_slot(any_home: Path, tmp_path: Path):
    with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as doomed:
        job = kept_job_in(any_home, doomed.ids[0])
        doomed.kill()
    store = store_of(any_home)
    assert snapshot(store).running == 1
    (tmp_path / "gate").touch()
    job_in(any_home, job.id, DONE)
    assert snapshot(store).running == 0


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
        waiting = await jobs.submit(Request(bodies.add, (1,)))
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
        submitted = [await jobs.submit(Request(hold_for_a_moment, (held,))) for _ in range(6)]
        for job in submitted:
            assert (await jobs.wait(job.id, LONG_S))[0].status is DONE
        assert most_at_once(Path(held)) <= 2


def queued(store: FileJobStore, owner: ProcessIdentity | None, **facts: object) -> Job:
    job = Job(new_job_id(), "job", PENDING, utc_now(), owner=owner, background=True).evolve(**facts)
    store.create(job)
    return job


def test_the_oldest_job_of_all_servers_goes_first(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    gone = ProcessIdentity(own.pid, own.start_ticks - 1, own.boot_id, own.pid_namespace)
    queued(store, gone)
    queued(store, own, ending="cancelled")
    older = queued(store, own)
    eventually(lambda: time.time_ns() // 1_000_000 > older.created_at.timestamp() * 1000)
    younger = queued(store, own)
    assert snapshot(store).queue == (older.id, younger.id)
    assert acquire(store, SlotRequest(younger.id, own, own), 1, in_turn=True) is Claim.FULL
    assert acquire(store, SlotRequest(older.id, own, own), 1, in_turn=True) is Claim.TAKEN
    assert acquire(store, SlotRequest(younger.id, own, own), 1, in_turn=True) is Claim.FULL
    assert acquire(store, SlotRequest(younger.id, own, own), 2, in_turn=True) is Claim.TAKEN


def test_a_cancelled_or_taken_over_job_takes_no_slot(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    cancelled = queued(store, own, ending="cancelled")
    anothers = queued(store, ProcessIdentity(own.pid, own.start_ticks - 1))
    for job in (cancelled, anothers):
        assert acquire(store, SlotRequest(job.id, own, own), 1, in_turn=True) is Claim.OVER
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
        job = await jobs.submit(Request(bodies.add, (1,)))
        while not store.tries:
            await asyncio.sleep(0.01)
        assert (await jobs.get(job.id)).status is PENDING
        store.fails = False
        assert (await jobs.wait(job.id, LONG_S))[0].result == 2
