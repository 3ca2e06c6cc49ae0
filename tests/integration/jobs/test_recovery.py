"""Jobs whose processes were killed: whoever reads them next finds them settled, with the cause."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs import queue, recovery
from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.recovery import can_be_started, recovered
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, python
from tests.helpers.loop import loop_to_abandon
from tests.helpers.managers import lines, started_pids
from tests.helpers.queueing import end_worker, kept_job_in, server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
FRONT = """
import asyncio, sys
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies
async def main():
    jobs = JobManager()
    budget_s, starts = float(sys.argv[1]), sys.argv[2]
    result = await jobs.run(Request(bodies.sleep_long, (starts,)), budget_s=budget_s)
    print(result.job_id, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def record_of_the_front(home: Path, *, background: bool) -> Job:
    def look() -> Job | None:
        jobs, _ = FileJobStore(home).list(JobState.RUNNING)
        return jobs[0] if jobs and jobs[0].worker and jobs[0].background is background else None

    return eventually(look)


def test_a_call_within_its_budget_fails_when_its_server_is_killed(home: Path, tmp_path: Path):
    with python("-c", FRONT, "600", tmp_path / "starts") as front:
        job = record_of_the_front(home, background=False)
        front.kill()
    worker = job.worker
    assert worker is not None
    eventually(lambda: identify(worker.pid) != worker)
    found = JobManager().blocking.get(job.id)
    assert (found.status, found.error_kind) == (JobState.FAILED, "server_died")
    assert FileJobStore(home).get(job.id) == found


def test_a_kept_job_fails_when_its_worker_is_killed_after_its_server(home: Path, tmp_path: Path):
    with python("-c", FRONT, "0.2", tmp_path / "starts") as front:
        assert front.stdout is not None
        told = front.stdout.readline().strip()
        eventually(lambda: lines(tmp_path / "starts"))
        front.kill()
    job = record_of_the_front(home, background=True)
    assert job.id == told
    worker = job.worker
    assert worker is not None
    assert JobManager().blocking.get(job.id).status is JobState.RUNNING
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: identify(worker.pid) != worker)
    (found,) = JobManager().blocking.list()[0]
    assert (found.status, found.error_kind) == (JobState.FAILED, "worker_died")


def running(
    store: FileJobStore, owner: ProcessIdentity, worker: ProcessIdentity | None, **facts: object
) -> Job:
    state = JobState.RUNNING
    job = Job(new_job_id(), "job", state, utc_now(), owner=owner, worker=worker).evolve(**facts)
    store.create(job)
    return job


def test_a_pid_that_was_reused_is_not_taken_for_the_owner(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    job = running(store, replace(own, start_ticks=own.start_ticks - 1), None)
    assert recovered(store, job).error_kind == "server_died"


def test_a_job_of_an_earlier_boot_is_not_running(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    job = running(store, replace(own, boot_id="another"), replace(own, boot_id="another"), background=True)
    assert recovered(store, job).error_kind == "worker_died"


def test_a_job_of_another_container_is_asked_whether_it_is_there(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    job = running(store, replace(own, pid_namespace="pid:[1]"), None)
    asked = recovered(store, job)
    assert asked.missed_at is not None
    assert asked.evolve(missed_at=None) == job
    assert recovered(store, asked) == asked


@pytest.mark.parametrize(
    ("silent_s", "status"), [(90, JobState.FAILED), (8 * 3600, JobState.RUNNING), (-90, JobState.RUNNING)]
)
def test_a_job_of_another_container_is_lost_after_a_minute_of_silence(
    home: Path, own: ProcessIdentity, silent_s: float, status: JobState
):
    store = FileJobStore(home)
    there = replace(own, pid_namespace="pid:[1]")
    asked = running(store, there, there, background=True, missed_at=utc_now() - timedelta(seconds=silent_s))
    found = recovered(store, asked)
    assert (found.status, found.error_kind) == (status, "lost" if status is JobState.FAILED else None)


def test_a_queued_job_of_a_silent_container_is_left_to_another_server(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    facts = {"status": JobState.PENDING, "call": {"body": "x"}, "background": True}
    there = replace(own, pid_namespace="pid:[1]")
    asked = running(store, there, None, **facts, missed_at=utc_now() - timedelta(seconds=90))
    assert can_be_started(store, recovered(store, asked))


def test_a_reader_that_was_stopped_ends_no_worker_that_has_another_job(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    gone = replace(own, start_ticks=own.start_ticks - 1)
    with python("-c", "input()", stdin=subprocess.PIPE) as worker:
        as_it_was_read = running(store, gone, identify(worker.pid))
        settle(store, as_it_was_read.id, Outcome(1))
        assert recovered(store, as_it_was_read).status is JobState.COMPLETED
        assert worker.poll() is None


def test_the_end_reason_of_an_interrupted_cancel_is_honoured(home: Path, own: ProcessIdentity):
    store = FileJobStore(home)
    gone = replace(own, start_ticks=own.start_ticks - 1)
    job = running(store, gone, gone, ending="cancelled", background=True)
    assert recovered(store, job).status is JobState.CANCELLED


def test_a_job_whose_owner_lives_is_left_to_it(home: Path):
    store = FileJobStore(home)
    with python("-c", "input()", stdin=subprocess.PIPE) as owner:
        identity = identify(owner.pid)
        assert identity is not None
        job = running(store, identity, replace(identity, start_ticks=identity.start_ticks - 1))
        seen = recovered(store, job)
        assert recovered(store, seen) == seen
        assert (seen.status, seen.missed_at is None) == (JobState.RUNNING, False)


def test_a_loop_that_was_closed_without_us_leaves_its_job_to_its_worker(home: Path, tmp_path: Path):
    jobs = JobManager()
    loop = loop_to_abandon()
    body = Request(bodies.count_and_wait, (str(tmp_path / "starts"), str(tmp_path / "gate")))
    job = loop.run_until_complete(jobs.submit_request(body))
    while not lines(tmp_path / "starts"):
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert jobs.blocking.get(job.id).status is JobState.RUNNING
    (tmp_path / "gate").touch()
    eventually(lambda: jobs.blocking.get(job.id).status.terminal)
    ended = jobs.blocking.get(job.id)
    assert (ended.status, ended.result) == (JobState.COMPLETED, "done")


def test_a_job_of_a_dead_worker_fails_although_its_owner_is_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recovery, "_OWNER_GRACE", timedelta(seconds=0.3))
    with server(1, ("hold", tmp_path / "starts", tmp_path / "gate")) as stopped:
        job = kept_job_in(home, stopped.ids[0])
        stopped.stop(home)
        end_worker(job)
        jobs = JobManager()
        assert jobs.blocking.get(job.id).status is JobState.RUNNING
        eventually(lambda: jobs.blocking.get(job.id).status.terminal)
        stopped.process.send_signal(signal.SIGCONT)
    found = jobs.blocking.get(job.id)
    assert (found.status, found.error_kind) == (JobState.FAILED, "worker_died")
    assert (found.error or "").startswith("the worker process was ended by signal 9 (SIGKILL)")
    assert "(its last memory was " in (found.error or "")


def test_a_clock_that_was_set_back_gives_the_owner_its_time_anew(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    job = running(store, own, gone, missed_at=utc_now() + timedelta(days=1))
    assert (recovered(store, job).missed_at or utc_now()) <= utc_now()
    late = running(store, own, gone, missed_at=utc_now() - timedelta(seconds=6), background=True)
    assert recovered(store, late).error_kind == "worker_died"


def test_a_job_taken_over_since_it_was_read_is_not_settled(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    job = running(store, gone, gone, background=True)
    store.update(job.id, lambda found: found.evolve(owner=own, worker=own))
    assert recovered(store, job).status is JobState.RUNNING


def test_a_listing_settles_what_has_ended_unseen(home: Path, gone: ProcessIdentity):
    store, jobs = FileJobStore(home), JobManager()
    first, second = (running(store, gone, gone, background=True) for _ in range(2))
    failed, _ = jobs.blocking.list(JobState.FAILED)
    assert {job.id for job in failed} == {second.id, first.id}
    third = running(store, gone, gone, background=True)
    assert jobs.blocking.list(JobState.RUNNING) == ([], False)
    found = store.get(third.id)
    assert found is not None
    assert found.status is JobState.FAILED


def test_a_listing_for_a_client_settles_only_its_own_jobs(home: Path, gone: ProcessIdentity):
    store, jobs = FileJobStore(home), JobManager()
    own, other = (running(store, gone, gone, background=True, principal=who) for who in ("ada", "bob"))
    failed, _ = jobs.blocking.list(JobState.FAILED, principal="ada")
    assert [job.id for job in failed] == [own.id]
    found = store.get(other.id)
    assert found is not None
    assert found.status is JobState.RUNNING


def test_a_page_is_filled_where_jobs_of_it_have_ended_unseen(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store, jobs = FileJobStore(home), JobManager()
    owners = (own, gone, own, gone, gone, own, gone)
    alive = [job.id for who in owners if (job := running(store, who, who, background=True)).owner == own]
    first, more = jobs.blocking.list(JobState.RUNNING, 2)
    rest, over = jobs.blocking.list(JobState.RUNNING, 2, before=first[-1].id)
    assert [job.id for job in (*first, *rest)] == sorted(alive, reverse=True)
    assert ((more, len(first)), (over, len(rest))) == ((True, 2), (False, 1))


def test_pages_come_of_a_store_that_knows_neither_before_nor_principals(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    class Plain(FileJobStore):
        def list(  # type: ignore[override]
            self, status: JobState | None = None, limit: int = 50
        ) -> tuple[list[Job], bool]:
            return super().list(status, limit)

    made = [
        running(FileJobStore(home), who, who, background=True, principal=principal)
        for who, principal in ((own, "ada"), (gone, "ada"), (own, "bob"), (own, "ada"), (gone, "bob"))
    ]
    first, second, third, fourth, _ = (job.id for job in made)
    jobs = JobManager(Plain(home)).blocking

    def ids(found: tuple[list[Job], bool]) -> tuple[list[str], bool]:
        return [job.id for job in found[0]], found[1]

    assert ids(jobs.list(JobState.FAILED, principal="ada")) == ([second], False)
    assert ids(jobs.list(JobState.RUNNING, 2)) == ([fourth, third], True)
    assert ids(jobs.list(JobState.RUNNING, 2, before=third)) == ([first], False)
    assert ids(jobs.list(None, 2, "ada", fourth)) == ([second, first], False)
    assert ids(jobs.list(None, 1, "ada", fourth)) == ([second], True)
    with pytest.raises(InvalidInput, match="before is 'plain'; it must be the id of a job"):
        jobs.list(before="plain")


def test_a_store_that_cannot_be_written_shows_the_job_as_it_stands(home: Path, gone: ProcessIdentity):
    class Full(FileJobStore):
        def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
            raise StoreError(f"job {job_id}: no space left for {change}")

    job = running(FileJobStore(home), gone, gone, background=True)
    jobs = JobManager(Full(home))
    assert jobs.blocking.get(job.id) == job
    assert jobs.blocking.list() == ([job], False)


def test_two_concurrent_readers_tell_the_same_end(home: Path, gone: ProcessIdentity):
    job = running(FileJobStore(home), gone, gone, background=True)
    together, found = threading.Barrier(4), list[Job]()

    def read() -> None:
        jobs = JobManager()
        together.wait(60)
        found.append(jobs.blocking.get(job.id))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert len(found) == 4
    assert {(each.status, each.completed_at) for each in found} == {(JobState.FAILED, found[0].completed_at)}


def test_a_job_settled_by_a_reader_keeps_its_output_and_no_process(home: Path, tmp_path: Path):
    with server(1, ("hold_with_child", tmp_path / "starts", tmp_path / "gate")) as doomed:
        job = kept_job_in(home, doomed.ids[0])
        (child,) = started_pids(tmp_path / "starts")
        doomed.kill()
    worker = job.worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: identify(worker.pid) != worker)
    assert identify(child) is not None
    jobs = JobManager()
    assert jobs.blocking.get(job.id).error_kind == "worker_died"
    assert identify(child) is None
    assert jobs.blocking.output(job.id).text == "holding\n"


def test_the_gate_of_a_graph_waits_for_its_submitter_while_it_lives(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    facts: dict[str, Any] = {"tool": "graph", "background": True, "ending": "cancelled"}
    gates = [
        Job(new_job_id(), "g", JobState.PENDING, utc_now(), owner=owner, **facts) for owner in (own, gone)
    ]
    for gate in gates:
        store.create(gate)
    queue.release(store, SlotLimits(1), "")
    assert [found.status for gate in gates if (found := store.get(gate.id))] == [
        JobState.PENDING,
        JobState.CANCELLED,
    ]
