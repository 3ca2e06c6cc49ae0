"""Queued jobs with options: order, time, predecessors, resources, keys, attempts."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import CommandJob, FunctionJob, InMemoryJobStore, processes
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError, StoreLocked
from python_mcp_server.jobs import slots
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.record import Started, start_record
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.settle import settle
from python_mcp_server.jobs.state import RunState
from python_mcp_server.model import Failure, Job, JobState, Outcome, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run
from tests.helpers import framework_bodies as fb
from tests.helpers.job_kinds import Flaky
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import run_python
from tests.helpers.stores import lists_with_jobs, url_in


async def submit(jobs: JobManager, body: Any, *args: Any, **options: Any) -> str:
    job = await jobs.submit_request(Request(body, tuple(map(str, args)), options=JobOptions(**options)))
    return job.id


async def ended(jobs: JobManager, job_id: str) -> Job:
    job, timed_out = await jobs.wait(job_id, LONG_S)
    assert not timed_out, job
    return job


async def heard(path: Path, *words: str) -> None:
    await asyncio.to_thread(eventually, lambda: set(words) <= set(lines(path)))


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_jobs_start_in_the_order_of_their_priority(kind: str, tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager(InMemoryJobStore() if kind == "memory" else None, max_background_jobs=1) as jobs:
        ids = [await submit(jobs, fb.hold_named, log, "first", gate)]
        await heard(log, "+first")
        ids += [await submit(jobs, fb.said, log, str(n), priority=n) for n in (0, 5, -5, 5)]
        gate.touch()
        for job_id in ids:
            assert (await ended(jobs, job_id)).status is JobState.COMPLETED
    assert lines(log) == ["+first", "-first", "5", "5", "0", "-5"]


async def test_a_closure_waits_in_the_same_order(tmp_path: Path):
    log, gate = str(tmp_path / "log"), tmp_path / "gate"
    async with manager(max_background_jobs=1) as jobs:
        await submit(jobs, fb.hold_named, log, "first", gate)
        await heard(Path(log), "+first")
        low = await submit(jobs, fb.said, log, "low")
        high = await jobs.submit_request(
            Request(lambda: fb.said(log, "high"), options=JobOptions(priority=1))
        )
        gate.touch()
        assert (await ended(jobs, high.id)).result == "high"
        await ended(jobs, low)
    assert lines(log)[-2:] == ["high", "low"]


async def test_a_job_with_a_time_starts_then(tmp_path: Path):
    async with manager() as jobs:
        at = utc_now() + timedelta(seconds=0.7)
        later = await submit(jobs, fb.said, tmp_path / "log", "later", run_at=at)
        waiting = await jobs.get(later)
        assert (waiting.message or "").startswith("waiting until ")
        job = await ended(jobs, later)
        assert job.started_at is not None
        assert job.started_at >= at


async def test_a_job_starts_after_those_it_waits_for(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        first = await submit(jobs, fb.hold_named, log, "a", gate)
        second = await submit(jobs, fb.said, log, "b")
        third = await submit(jobs, fb.said, log, "c", after=[first, second])
        await ended(jobs, second)
        assert (await jobs.get(third)).message == f"waiting for job {first} and 1 more to end"
        gate.touch()
        assert (await ended(jobs, third)).result == "c"
    assert lines(log)[-1] == "c"


async def test_a_failed_predecessor_skips_what_depends_on_it(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        gate = tmp_path / "gate"
        hold = await submit(jobs, fb.hold_named, log, "hold", gate)
        failing = await submit(jobs, fb.fail, after=[hold])
        skipped = await submit(jobs, fb.said, log, "skipped", after=[failing])
        further = await submit(jobs, fb.said, log, "further", after=[skipped])
        anyway = await submit(jobs, fb.said, log, "anyway", after=[failing], run_after_failure=True)
        gate.touch()
        job = await ended(jobs, skipped)
        assert (job.status, job.error_kind) == (JobState.FAILED, "skipped")
        assert f"job {failing}" in (job.error or "")
        assert (await ended(jobs, further)).error_kind == "skipped"
        assert (await ended(jobs, anyway)).result == "anyway"
        late = await submit(jobs, fb.said, log, "late", after=[failing])
        assert (await ended(jobs, late)).error_kind == "skipped"
    assert "skipped" not in lines(log)


async def test_a_cancelled_predecessor_cancels_what_depends_on_it(tmp_path: Path):
    async with manager() as jobs:
        first = await submit(jobs, fb.hold_named, tmp_path / "log", "a", tmp_path / "gate")
        chain = [first]
        for _ in range(3):
            chain.append(await submit(jobs, fb.said, tmp_path / "log", "x", after=[chain[-1]]))
        await jobs.cancel(first)
        for job_id in chain:
            assert (await ended(jobs, job_id)).status is JobState.CANCELLED


async def test_a_predecessor_that_was_lost_with_its_server_holds_back_nothing(tmp_path: Path):
    gone = ProcessIdentity(2**22 + 1, 1, "another boot")
    async with manager() as jobs:
        lost = Job(new_job_id(), "lost", JobState.RUNNING, utc_now(), owner=gone, worker=gone)
        jobs.store.create(lost)
        after = await submit(jobs, fb.said, tmp_path / "log", "x", after=[lost.id])
        assert (await ended(jobs, after)).error_kind == "skipped"
        assert (await jobs.get(lost.id)).error_kind == "server_died"


async def test_an_unknown_predecessor_is_refused():
    async with manager() as jobs:
        with pytest.raises(JobNotFound):
            await submit(jobs, bodies.pid, after=[new_job_id()])
        assert await jobs.list() == ([], False)


async def test_a_resource_is_never_taken_twice(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        with pytest.raises(InvalidInput, match="takes 1 of the resource 'gpu', and there are 0"):
            await submit(jobs, fb.said, log, "no", resources={"gpu": 1})
        Queues(jobs.store).resource("gpu", 1)
        first = await submit(jobs, fb.hold_named, log, "a", gate, resources={"gpu": 1})
        await heard(log, "+a")
        second = await submit(jobs, fb.said, log, "b", resources={"gpu": 1})
        free = await submit(jobs, fb.said, log, "free")
        assert (await ended(jobs, free)).result == "free"
        waiting = await jobs.get(second)
        assert waiting.message == "waiting for the resource 'gpu': it takes 1, 0 of 1 are free"
        gate.touch()
        assert (await ended(jobs, second)).result == "b"
        await ended(jobs, first)
    assert lines(log).index("-a") < lines(log).index("b")


async def test_a_resource_taken_in_a_container_is_taken_until_it_is_silent(tmp_path: Path):
    own = identify(os.getpid())
    assert own is not None
    there = replace(own, pid_namespace="pid:[1]")
    options = JobOptions(resources={"gpu": 1})
    async with manager() as jobs:
        Queues(jobs.store).resource("gpu", 1)
        facts: dict[str, Any] = {"owner": there, "worker": there, "background": True, "options": options}
        far = Job(new_job_id(), "far", JobState.RUNNING, utc_now(), **facts)
        jobs.store.create(far)
        waiting = await submit(jobs, fb.said, tmp_path / "log", "x", resources={"gpu": 1})
        free = await submit(jobs, fb.said, tmp_path / "log", "free")
        assert (await ended(jobs, free)).result == "free"
        job = await jobs.get(waiting)
        assert (job.status, job.message) == (
            JobState.PENDING,
            "waiting for the resource 'gpu': it takes 1, 0 of 1 are free",
        )
        silent_since = utc_now() - timedelta(seconds=90)
        jobs.store.update(far.id, lambda found: found.evolve(missed_at=silent_since))
        assert (await ended(jobs, waiting)).result == "x"
        assert (await jobs.get(far.id)).error_kind == "lost"


@pytest.mark.parametrize("options", [{"key": "user 1"}, {"max_concurrency": 1}], ids=["key", "kind"])
async def test_jobs_of_one_key_or_kind_run_one_at_a_time(options: dict[str, Any], tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager(max_background_jobs=4) as jobs:
        ids = [await submit(jobs, fb.said, log, str(n), **options) for n in range(4)]
        for job_id in ids:
            assert (await ended(jobs, job_id)).status is JobState.COMPLETED
    assert sorted(lines(log)) == ["0", "1", "2", "3"]


async def test_a_job_over_its_rate_waits_and_holds_up_no_other(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        first = await submit(jobs, fb.said, log, "1", rate="1/hour")
        await ended(jobs, first)
        held = await submit(jobs, fb.said, log, "2", rate="1/hour")
        other = await submit(jobs, fb.said, log, "other")
        assert (await ended(jobs, other)).result == "other"
        # a reader may have what it has seen of the home a moment ago
        message = await asyncio.to_thread(eventually, lambda: jobs.blocking.get(held).message)
        assert (await jobs.get(held)).status is JobState.PENDING
        assert re.fullmatch(r"waiting for its rate: 1 an hour, the next starts in \d+ s", message), message


async def test_jobs_start_as_their_rate_lets_them(tmp_path: Path):
    async with manager() as jobs:
        ids = [await submit(jobs, fb.said, tmp_path / "log", str(n), rate="1/second") for n in range(3)]
        starts = [(await ended(jobs, job_id)).started_at for job_id in ids]
    gaps = [(late - early).total_seconds() for early, late in pairwise(filter(None, starts))]
    assert len(gaps) == 2
    assert min(gaps) > 0.9, "a start is counted before its record is written"


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        queues = Queues(jobs.store)
        queues.pause("images")
        waiting = await submit(jobs, fb.said, log, "image", queue="images")
        other = await submit(jobs, fb.said, log, "other")
        await ended(jobs, other)
        assert (await jobs.get(waiting)).message == "its queue 'images' is paused"
        queues.resume("images")
        assert (await ended(jobs, waiting)).result == "image"


async def test_a_full_or_drained_queue_refuses_in_a_sentence(tmp_path: Path):
    async with manager() as jobs:
        queues = Queues(jobs.store)
        queues.pause("images")
        queues.bound("images", 2)
        for _ in range(2):
            await submit(jobs, bodies.pid, queue="images")
        with pytest.raises(InvalidInput, match="queue 'images' is full: 2 jobs wait, 2 may"):
            await submit(jobs, bodies.pid, queue="images")
        queues.drain("other")
        with pytest.raises(InvalidInput, match="being drained"):
            await submit(jobs, bodies.pid, queue="other")
        assert len((await jobs.list())[0]) == 2


@pytest.mark.parametrize("kind", ["named", "closure"])
async def test_a_body_that_fails_runs_again_as_often_as_allowed(kind: str, tmp_path: Path):
    log = str(tmp_path / "log")
    body = fb.fail_until if kind == "named" else lambda *args: fb.fail_until(*args)  # noqa: PLW0108
    async with manager() as jobs:
        options = JobOptions(retry=Retry(3, on=ValueError, wait=0.1))
        job = await jobs.submit_request(Request(body, (log, 3), options=options))
        done = await ended(jobs, job.id)
        assert (done.status, done.result, done.attempt) == (JobState.COMPLETED, 3, 3)
        assert [attempt["attempt"] for attempt in done.attempts] == [1, 2]
        assert done.attempts[0]["error"].startswith("ValueError: attempt 1 fails")
        assert done.attempts[0]["error_kind"] == "exception"
    assert len(lines(log)) == 3


async def test_a_failure_that_is_not_named_is_final(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        options = JobOptions(retry=Retry(3, on=[OSError, "zipfile.BadZipFile"], wait=0))
        job = await jobs.submit_request(Request(fb.fail_until, (log, 3), options=options))
        assert (await ended(jobs, job.id)).status is JobState.FAILED
        by_class = JobOptions(retry=Retry(2, on=Exception, wait=0))
        job = await jobs.submit_request(Request(fb.fail_until, (log, 9), options=by_class))
        assert (await ended(jobs, job.id)).attempt == 2
    assert len(lines(log)) == 3


async def test_a_lost_worker_is_an_attempt_only_where_that_is_said(tmp_path: Path):
    log, other = str(tmp_path / "log"), str(tmp_path / "other")
    async with manager() as jobs:
        again = JobOptions(retry=Retry(2, wait=0, lost_workers=True))
        job = await jobs.submit_request(Request(fb.die_once, (log,), options=again))
        done = await ended(jobs, job.id)
        assert (done.result, done.attempts[0]["error_kind"]) == ("lived", "worker_died")
        job = await jobs.submit_request(
            Request(fb.die_once, (other,), options=JobOptions(retry=Retry(2, wait=0)))
        )
        assert (await ended(jobs, job.id)).error_kind == "worker_died"
    assert (len(lines(log)), len(lines(other))) == (2, 1)


@pytest.mark.parametrize(("way", "attempts"), [("raise", 2), ("result", 2), ("snooze", 0)])
async def test_a_job_of_a_kind_runs_again_by_the_policy_of_its_kind(way: str, attempts: int, tmp_path: Path):
    async with manager() as jobs:
        token = await jobs.submit(Flaky(str(tmp_path / "log"), way))
        done = await ended(jobs, token)
        assert (await jobs.get_result(token)).data == 3
        assert len(done.attempts) == attempts


async def test_a_command_that_fails_runs_again(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        command = CommandJob(f"echo x >> {log}; test $(wc -l < {log}) = 2")
        done = await ended(jobs, await jobs.submit(command, retry=Retry(2, wait=0)))
        assert (done.status, done.attempt) == (JobState.COMPLETED, 2)


async def test_a_limit_is_an_attempt_only_where_it_is_named(tmp_path: Path):
    async with manager(cancel_grace_seconds=0.1) as jobs:
        for on, attempts in ((None, 1), ("time_limit", 2)):
            log = str(tmp_path / f"log {on}")
            job = FunctionJob(bodies.sleep_and_count, log, 60)
            token = await jobs.submit(job, timeout_seconds=0.3, retry=Retry(2, on=on, wait=0))
            done = await ended(jobs, token)
            assert (done.status, done.error_kind) == (JobState.FAILED, "time_limit")
            assert done.attempt == attempts


async def test_a_body_may_snooze_or_cancel_its_own_job(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        job = await jobs.submit_request(Request(fb.snooze_once, (log,), options=JobOptions()))
        done = await ended(jobs, job.id)
        assert (done.result, done.attempt) == ("awake", 1)
        job = await jobs.submit_request(Request(fb.snooze_once, (log + " 2",)))
        assert (await ended(jobs, job.id)).result == "awake"
        job = await jobs.submit_request(Request(fb.of_no_use))
        cancelled = await ended(jobs, job.id)
        assert (cancelled.status, cancelled.error) == (JobState.CANCELLED, "the file is gone")


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_caller_is_told_that_a_body_cancelled_its_job(recorded: bool):
    async with manager(record_after_seconds=0.01 if recorded else LONG_S) as jobs:
        request = Request(fb.cancel_with_record, kwargs={"recorded": recorded})
        with pytest.raises(JobCancelled, match=r"^job \w+ was cancelled: the file is gone$"):
            await jobs.run(request, budget_s=LONG_S)
        states = [job.status for job in (await jobs.list())[0]]
        assert states == ([JobState.CANCELLED] if recorded else [])


SNOOZING = """
import asyncio, os, sys
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import lines
async def main():
    when, log, gate = sys.argv[1:]
    async with JobManager() as jobs:
        request = Request(fb.snooze_at_gate, (log, gate))
        if when == "handed over":
            token = (await jobs.run(request, budget_s=0.01)).job_id
        else:
            token = (await jobs.submit_request(request)).id
        while not lines(log):
            await asyncio.sleep(0.01)
        if when == "awake":
            open(gate, "w").close()
            while (await jobs.get(token)).not_before is None:
                await asyncio.sleep(0.01)
        else:  # the worker must know that it is to finish alone
            while (await jobs.get(token)).usage is None:
                await asyncio.sleep(0.01)
        print(token, flush=True)
        os._exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["files", "sqlite"])
@pytest.mark.parametrize("when", ["awake", "running", "handed over"])
def test_a_job_without_options_that_snoozes_outlives_its_server(
    when: str, kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    log, gate = tmp_path / "log", tmp_path / "gate"
    told = run_python("-c", SNOOZING, when, log, gate)
    assert told.returncode == 0, told.stderr
    gate.touch()

    async def main() -> None:
        async with manager() as jobs:
            done = await ended(jobs, told.stdout.strip())
            assert (done.status, done.result, done.attempt) == (JobState.COMPLETED, "awake", 1)

    run(main())
    assert len(lines(log)) == 2


@pytest.mark.parametrize(
    ("body", "value", "name"),
    [
        (fb.snooze_for, None, "seconds"),
        (fb.snooze_for, 1e300, "seconds"),
        (fb.of_no_use_because, 5, "reason"),
    ],
)
async def test_a_body_that_asks_for_what_has_no_meaning_fails(body: Any, value: Any, name: str):
    async with manager() as jobs:
        job = await jobs.submit_request(Request(body, (value,), options=JobOptions()))
        failed = await ended(jobs, job.id)
        assert failed.status is JobState.FAILED
        assert (failed.error or "").startswith(f"InvalidInput: {name} is {value!r}; it must be ")


WAITING = """
import asyncio, sys
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import framework_bodies as fb
async def main():
    async with JobManager() as jobs:
        options = JobOptions(retry=Retry(2, wait=1, lost_workers=True))
        job = await jobs.submit_request(Request(fb.fail_until, (sys.argv[1], 2), options=options))
        while not (await jobs.get(job.id)).attempts:
            await asyncio.sleep(0.01)
        print(job.id)
asyncio.run(main())
"""


def test_an_attempt_is_made_by_another_server_where_the_first_is_gone(tmp_path: Path, home: Path):
    log = tmp_path / "log"
    job_id = run_python("-c", WAITING, str(log)).stdout.strip()
    assert len(lines(log)) == 1

    async def main() -> None:
        async with manager() as jobs:
            assert (await ended(jobs, job_id)).result == 2

    run(main())


async def test_a_queued_job_can_be_cancelled_while_its_server_lives(tmp_path: Path):
    async with manager() as jobs:
        later = await submit(jobs, bodies.pid, run_at=utc_now() + timedelta(hours=1))
        assert (await jobs.cancel(later)).status is JobState.CANCELLED
        assert lists_with_jobs(jobs.store) == ()


async def test_a_job_that_cannot_be_started_fails_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    async with manager(max_background_jobs=1) as jobs:
        engine = await jobs._engine()
        new_run = engine.new_run

        def refuse_first(request: Request, *args: Any) -> Any:
            if request.label == "bad":
                raise InvalidInput("its limit cannot be kept")
            return new_run(request, *args)

        monkeypatch.setattr(engine, "new_run", refuse_first)
        bad = await jobs.submit_request(Request(bodies.pid, label="bad"))
        good = await submit(jobs, fb.said, tmp_path / "log", "good")
        failed = await ended(jobs, bad.id)
        assert (failed.error or "").startswith("InvalidInput: its limit cannot be kept")
        assert (await ended(jobs, good)).result == "good"


async def test_an_attempt_that_was_settled_elsewhere_does_not_end_the_next_one(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        retry = Retry(2, wait=0, lost_workers=True)
        job_id = await submit(jobs, fb.hold_named, log, "x", gate, retry=retry)
        await heard(log, "+x")
        died = Outcome(failure=Failure("WorkerDied", "it was stopped for long", kind="worker_died"))
        assert settle(jobs.store, job_id, died).attempt == 2
        gate.touch()
        done = await ended(jobs, job_id)
        assert (done.status, done.attempt) == (JobState.COMPLETED, 2)
    assert lines(log) == ["+x", "-x", "+x", "-x"]


async def test_a_server_forgets_a_job_that_another_one_has_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager(max_background_jobs=1) as jobs:
        job_id = await submit(jobs, fb.said, log, "x")
        engine = await jobs._engine()

        async def full(*_: Any) -> Started:
            gate.touch()
            engine.slots.drop(job_id)
            await asyncio.to_thread(jobs.store.update, job_id, elsewhere)
            return Started.NOT_YET

        def elsewhere(job: Job) -> Job:
            return job.evolve(status=JobState.RUNNING, started_at=utc_now(), owner=None, worker=here)

        here = processes.identify(os.getpid())
        monkeypatch.setattr(engine.slots, "acquire", full)
        await asyncio.to_thread(eventually, gate.exists)
        await asyncio.to_thread(eventually, lambda: not jobs._live)
        assert (await jobs.get(job_id)).status is JobState.RUNNING
        settle(jobs.store, job_id, Outcome(value="y"))
        assert (await ended(jobs, job_id)).result == "y"


async def test_a_job_that_is_cancelled_as_its_attempt_fails_is_cancelled(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        job_id = await submit(jobs, fb.hold_and_fail, log, "x", gate, retry=Retry(2, wait=600))
        await heard(log, "+x")
        run = jobs._live[job_id]
        gate.touch()
        await asyncio.to_thread(eventually, lambda: run.state >= RunState.FINALISING)
        assert (await jobs.cancel(job_id)).status is JobState.CANCELLED


async def test_a_caller_who_waits_gets_the_failure_of_its_attempt(tmp_path: Path):
    async with manager(record_after_seconds=0.01) as jobs:
        options = JobOptions(retry=Retry(3, wait=0))
        request = Request(fb.record_and_fail, (str(tmp_path / "log"),), options=options)
        with pytest.raises(ValueError, match="after its record"):
            await jobs.run(request, budget_s=LONG_S)
        (job,), _ = await jobs.list()
        assert job.status is JobState.FAILED


async def test_a_cancel_whose_process_was_killed_is_carried_out(tmp_path: Path):
    async with manager() as jobs:
        later = await submit(jobs, bodies.pid, run_at=utc_now() + timedelta(hours=1))
        follows = await submit(jobs, bodies.pid, after=[later])
        jobs.store.update(later, lambda job: job.evolve(ending="cancelled"))
        await asyncio.to_thread(eventually, lambda: job_of(jobs, follows).status.terminal)
        assert job_of(jobs, later).status is JobState.CANCELLED
        assert job_of(jobs, follows).status is JobState.CANCELLED


def job_of(jobs: JobManager, job_id: str) -> Job:
    """Return a job as its record has it, without a read that settles it."""
    job = jobs.store.get(job_id)
    assert job is not None
    return job


async def test_the_end_of_a_manager_leaves_the_jobs_of_another_one_alone(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager(max_background_jobs=1) as jobs:
        await submit(jobs, fb.hold_named, log, "first", gate)
        await heard(log, "+first")
        async with manager(max_background_jobs=1) as other:
            own = await other.submit_request(Request(lambda: "own"))
            waiting = await jobs.submit_request(Request(lambda: "kept"))
        assert (await ended(jobs, own.id)).error_kind == "server_died"
        gate.touch()
        assert (await ended(jobs, waiting.id)).result == "kept"


async def test_closures_of_another_manager_hold_up_none(tmp_path: Path):
    async with manager() as jobs, manager() as idle:
        engine = await idle._engine()
        await engine.slots.close()
        await idle.submit_request(Request(lambda: "never"))
        waiting = await jobs.submit_request(Request(lambda: "done"))
        assert (await ended(jobs, waiting.id)).result == "done"


async def test_no_job_starts_once_its_queue_is_paused(monkeypatch: pytest.MonkeyPatch, home: Path):
    tried = list[bool]()

    def start(*args: Any) -> Started:
        other = FileJobStore(home, lock_s=0.01)
        with pytest.raises(StoreLocked):
            Queues(other).pause("default")
        tried.append(True)
        return start_record(*args)

    monkeypatch.setattr(slots, "start_record", start)
    async with manager() as jobs:
        await ended(jobs, await submit(jobs, bodies.pid))
    assert tried


async def test_a_job_that_is_due_on_a_full_disk_is_not_tried_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(*_: Any) -> Job:
        raise StoreError("the disk is full")

    async with manager() as jobs:
        engine = await jobs._engine()
        await engine.slots.close()
        await submit(jobs, bodies.pid, run_at=utc_now() - timedelta(seconds=1))
        with monkeypatch.context() as full:
            full.setattr(jobs.store, "update", refuse)
            look = await asyncio.to_thread(engine.slots._choose)
        assert engine.slots._delay_s(look) == slots._IDLE_LOOK_S


async def test_a_loop_leaves_a_job_alone_that_another_loop_has_started():
    async with manager() as jobs:
        engine = await jobs._engine()
        await engine.slots.close()
        job = await jobs.submit_request(Request(bodies.pid))
        assert engine.submissions.can_start(job)
        quicker = engine.new_run(Request(bodies.pid), None, job.id)
        engine._adopt(job)
        assert jobs._live.pop(job.id) is quicker


def test_a_delay_is_a_time_from_now_on():
    before = utc_now()
    options = JobOptions.delayed(60, queue="q")
    assert options.run_at is not None
    assert timedelta(seconds=60) <= options.run_at - before < timedelta(seconds=90)
    assert options.queue == "q"


@pytest.mark.parametrize("delay", [-1, float("nan"), True, "5", None, 1e300])
def test_a_delay_that_is_no_time_is_refused(delay: Any):
    with pytest.raises(InvalidInput, match="delay is "):
        JobOptions.delayed(delay)


async def test_a_refusal_after_its_caller_has_left_is_not_reported():
    gate, reported = threading.Event(), list[Any]()

    def refuse() -> None:
        gate.wait(60)
        raise slots.Full("waiting for its turn")

    async with manager() as jobs:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        engine = await jobs._engine()
        waiting = asyncio.create_task(engine.services.in_store(refuse))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        gate.set()
    gc.collect()
    assert reported == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", None),
        ("after", 5),
        ("resources", None),
        ("resources", ["gpu"]),
        ("cache_seconds", 1e300),
        ("keep_seconds", 1e300),
        ("token_seconds", float("inf")),
    ],
)
def test_an_option_of_another_type_or_beyond_the_calendar_is_refused(name: str, value: Any):
    with pytest.raises(InvalidInput, match=f"{name} is "):
        JobOptions(**{name: value})


def test_a_retry_after_what_is_no_exception_is_refused():
    wrong: Any = 5
    with pytest.raises(InvalidInput, match="on is 5; it must be exception classes"):
        Retry(2, on=wrong)
