"""Quotas of clients, held by several processes, over kills, for every way in which a job is made."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import Graph, InMemoryJobStore
from python_mcp_server.errors import InvalidInput, QuotaExceeded
from python_mcp_server.jobs import spending
from python_mcp_server.jobs.firing import ScheduledWork
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.quotas import Quotas
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.schedules import BlockingSchedules
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.limits import Limits
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually
from tests.helpers import framework_bodies as fb
from tests.helpers.command_line import command
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import python, run_python
from tests.helpers.stores import store_of, url_in

STORES = ("file", "sqlite")


def of(client: str, body: Any = bodies.pid, *args: Any, **how: Any) -> Request:
    return Request(
        body, tuple(str(arg) if isinstance(arg, Path) else arg for arg in args), client=client, **how
    )


def made_for(client: str) -> Job:
    """Return the record of a new job of a client."""
    return Job(new_job_id(), "made", JobState.PENDING, utc_now(), client=client, background=True)


def call(*words: str) -> Any:
    """Return what `quotas` answers as JSON."""
    told = command("quotas", words[0], "--json", *words[1:])
    assert (told.returncode, told.stderr) == (0, ""), told
    return json.loads(told.stdout)


async def ended(jobs: JobManager, job_id: str) -> Job:
    job, timed_out = await jobs.wait(job_id, LONG_S)
    assert not timed_out, job
    return job


SUBMITTER = """
import asyncio, sys
from pathlib import Path
from python_mcp_server.errors import QuotaExceeded
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies, eventually

async def submit(jobs):
    try:
        await jobs.submit_request(Request(bodies.pid, client="ada"))
    except QuotaExceeded:
        return 0
    return 1

async def main():
    async with JobManager() as jobs:
        await jobs.list()
        print("ready", flush=True)
        eventually(Path(sys.argv[1]).exists)
        print(sum(await asyncio.gather(*(submit(jobs) for _ in range(15)))), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", STORES)
def test_processes_that_submit_at_once_make_exactly_as_many_jobs(
    kind: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    Quotas(store_of(home)).set("ada", jobs=25)
    gate = tmp_path / "gate"
    with ExitStack() as programs:
        started = [programs.enter_context(python("-c", SUBMITTER, gate)) for _ in range(4)]
        for program in started:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        gate.touch()
        told = [program.communicate(timeout=LONG_S) for program in started]
    accepted = [int(out) for out, _ in told]
    assert sum(accepted) == 25, told
    store = store_of(home)
    assert len(store.list(limit=1000)[0]) == 25
    assert Quotas(store).spent("ada").jobs == 25


KILLED = """
import os, signal
from datetime import timedelta
from python_mcp_server.jobs.firing import ScheduledWork
from python_mcp_server.model import utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store

store = open_store(Settings.from_environ())
store.create = lambda job: os.kill(os.getpid(), signal.SIGKILL)
ScheduledWork(store, lambda: utc_now() + timedelta(days=1)).fire()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("kind", STORES)
def test_a_job_that_was_counted_before_a_kill_counts_once(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    store = store_of(home)
    Quotas(store).set("ada", jobs=1)
    BlockingSchedules(store).add(of("ada"), every=80_000, name="daily")
    killed = run_python("-c", KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Quotas(store).spent("ada").jobs == 1
    assert store.list()[0] == []
    with pytest.raises(QuotaExceeded):  # whether the job is there or not, no further one was allowed
        write_queued(store, made_for("ada"))
    ScheduledWork(store).fire()
    assert [job.client for job in store.list()[0]] == ["ada"]
    assert Quotas(store).spent("ada").jobs == 1


def test_a_time_that_is_over_the_quota_makes_no_job_and_says_why(home: Path):
    store = store_of(home)
    Quotas(store).set("ada", jobs=0)
    schedules = BlockingSchedules(store)
    schedules.add(of("ada"), every=80_000, name="daily")
    ScheduledWork(store, lambda: utc_now() + timedelta(days=1)).fire()
    assert store.list()[0] == []
    assert "has spent its quota" in json.dumps(schedules.get("daily").to_json(utc_now()))


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_each_job_of_a_client_in_the_background_counts(kind: str):
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        await jobs.quotas.set("*", jobs=2)
        for client in ("ada", "eve"):
            for _ in range(2):
                await jobs.submit_request(of(client))
            with pytest.raises(
                QuotaExceeded, match=f"client '{client}' .* 2 of 2 jobs in 1h; submit it again"
            ):
                await jobs.submit_request(of(client))
        await jobs.submit(bodies.pid)  # the program itself has no quota
        assert [spent.jobs for spent in (await jobs.quotas.list()).spent] == [2, 2]
        assert await jobs.quotas.remove("*")
        await jobs.submit_request(of("ada"))


async def test_a_repeated_submission_spends_nothing():
    async with manager() as jobs:
        await jobs.quotas.set("ada", jobs=1)
        once = of("ada", options=JobOptions(idempotency_key="once"))
        assert (await jobs.submit_request(once)).id == (await jobs.submit_request(once)).id
        assert (await jobs.quotas.spent("ada")).jobs == 1


async def test_a_graph_that_does_not_fit_spends_nothing(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        await jobs.quotas.set("ada", jobs=3)
        await jobs.submit_request(of("ada"))
        for fits in (False, True):
            graph = Graph()
            for number in range(2 if fits else 3):
                graph.add(f"job-{number}", of("ada", fb.said, log, str(fits)))
            if not fits:
                with pytest.raises(QuotaExceeded, match="3 of 3 jobs"):
                    await jobs.submit_graph(graph)
                assert (await jobs.quotas.spent("ada")).jobs == 1
                continue
            made = await jobs.submit_graph(graph)
            for job_id in made.jobs.values():
                await ended(jobs, job_id)
        assert (await jobs.quotas.spent("ada")).jobs == 3, "the job of the graph itself does not count"
    assert lines(log) == ["True", "True"]


async def test_a_retry_of_a_dead_letter_counts_for_its_client():
    async with manager() as jobs:
        dead = await jobs.submit_request(of("ada", fb.fail, options=JobOptions()))
        await ended(jobs, dead.id)
        await jobs.quotas.set("ada", jobs=1)
        again = await jobs.dead_letters.retry(dead.id)
        await ended(jobs, again.id)
        with pytest.raises(QuotaExceeded):
            await jobs.dead_letters.retry(again.id)
        assert [job.id for job in (await jobs.dead_letters.list())[0]] == [again.id]


async def test_the_cpu_time_of_each_attempt_counts_once(tmp_path: Path):
    async with manager(sample_seconds=LONG_S) as jobs:  # no run is long enough for a second sample
        await jobs.quotas.set("ada", cpu_seconds=1000)
        retry = JobOptions(retry=Retry(2, wait=0))
        request = of("ada", fb.burn_and_fail_once, tmp_path / "log", options=retry)
        job = await ended(jobs, (await jobs.submit_request(request)).id)
        assert (job.status, job.attempt) == (JobState.COMPLETED, 2)
        assert 1.0 <= (await jobs.quotas.spent("ada")).cpu_seconds < 1.9


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_a_call_that_lasts_counts_and_closes_the_gate_for_the_next(kind: str, tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    store = InMemoryJobStore() if kind == "memory" else None
    async with manager(store, record_after_seconds=0.05) as jobs:
        await jobs.quotas.set("ada", jobs=1)
        lasting = asyncio.ensure_future(jobs.run(of("ada", fb.hold_named, log, "a", gate), budget_s=LONG_S))
        while not (await jobs.quotas.spent("ada")).jobs:
            await asyncio.sleep(0.01)
        gate.touch()
        assert (await lasting).value == "a", "a call that runs is not ended for a quota"
        with pytest.raises(QuotaExceeded, match="1 of 1 jobs"):
            await jobs.run(of("ada", fb.said, log, "never"), budget_s=LONG_S)
        assert (await jobs.run(of("eve", fb.said, log, "eve"), budget_s=LONG_S)).value == "eve"
        await jobs.quotas.set("ada", jobs=2)
        assert (await jobs.run(of("ada", fb.said, log, "again"), budget_s=LONG_S)).value == "again"
    assert lines(log) == ["+a", "-a", "eve", "again"]


async def test_a_job_that_runs_closes_the_gate_for_calls(tmp_path: Path):
    async with manager() as jobs:
        await jobs.quotas.set("ada", cpu_seconds=0.2)
        job = await jobs.submit_request(of("ada", bodies.spin, tmp_path / "starts"))

        async def call_again_and_again() -> None:
            while True:
                await jobs.run(of("ada"), budget_s=LONG_S)

        with pytest.raises(QuotaExceeded, match=r"of 0\.2 CPU seconds in 1h"):
            await call_again_and_again()
        assert (await jobs.cancel(job.id)).status is JobState.CANCELLED


async def test_a_fast_call_is_not_counted_and_opens_no_file(monkeypatch: pytest.MonkeyPatch):
    async with manager(record_after_seconds=LONG_S) as jobs:  # on a busy machine, no call is fast
        await jobs.quotas.set("*", jobs=1, cpu_seconds=1, memory_mb=1)
        await jobs.run(of("ada"), budget_s=LONG_S)
        for name in ("read_rules", "Ledgers"):
            monkeypatch.setattr(spending, name, lambda *_: 1 / 0)
        for _ in range(3):
            await jobs.run(of("ada"), budget_s=LONG_S)
        monkeypatch.undo()
        assert (await jobs.quotas.spent("ada")).jobs == 0


async def test_a_handed_over_call_counts_as_a_job(tmp_path: Path):
    async with manager() as jobs:
        await jobs.quotas.set("ada", jobs=1)
        gate = tmp_path / "gate"
        result = await jobs.run(of("ada", fb.hold_named, tmp_path / "log", "a", gate), budget_s=0.05)
        assert result.handed_over
        with pytest.raises(QuotaExceeded):
            await jobs.submit_request(of("ada"))
        gate.touch()
        await ended(jobs, result.job_id)


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_jobs_wait_for_the_memory_of_their_client_only(kind: str, tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    limits = {"limits": Limits(memory_limit_mb=600)}
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        await jobs.quotas.set("ada", memory_mb=1000)
        with pytest.raises(InvalidInput, match="the job may take 1001 MB of memory, and the quota"):
            await jobs.submit_request(of("ada", limits=Limits(memory_limit_mb=1001)))
        first = await jobs.submit_request(of("ada", fb.hold_named, log, "first", gate, **limits))
        await asyncio.to_thread(eventually, lambda: "+first" in lines(log))
        second = await jobs.submit_request(of("ada", fb.said, log, "second", **limits))
        others = [await jobs.submit_request(of("eve", fb.said, log, "eve", **limits))]
        others.append(await jobs.submit_request(of("ada", fb.said, log, "without a limit")))
        for job in others:
            assert (await ended(jobs, job.id)).status is JobState.COMPLETED
        waiting = await jobs.get(second.id)
        assert waiting.message == (
            "waiting for memory of its client's quota: it may take 600 MB, 600 of 1000 MB are taken"
        )
        gate.touch()
        for job in (first, second):
            assert (await ended(jobs, job.id)).status is JobState.COMPLETED
    assert lines(log)[-2:] == ["-first", "second"]


def test_the_command_line_sets_shows_and_removes_quotas(home: Path):
    FileJobStore(home).close()
    assert call("set", "*", "--jobs", "100", "--cpu-seconds", "500") == {
        "client": "*",
        "quota": {"jobs": 100, "cpu_seconds": 500.0, "per": "1h"},
    }
    assert command("quotas", "set", "ada", "--memory-mb", "1500", "--jobs", "1", "--per", "7d").stdout == (
        "ada: 1 jobs in 7d, 1500 MB at once\n"
    )
    write_queued(store_of(home), made_for("ada"))
    found = call("show", "ada")
    assert (found["spent"]["jobs"], found["quota"]["per"]) == (1, "7d")
    assert found["refusal"] in command("quotas", "show", "ada").stdout
    assert [each["client"] for each in call("list")["spent"]] == ["ada"]
    assert "100 jobs and 500 CPU seconds in 1h" in command("quotas", "list").stdout
    assert call("remove", "ada") == {"client": "ada", "removed": True}
    assert call("remove", "ada")["removed"] is False
    assert command("quotas", "show", "eve").stdout.startswith("quota: 100 jobs and 500 CPU seconds in 1h\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("set", "ada"), "a quota has no bound; give jobs"),
        (("set", "ada", "--jobs", "5", "--per", "1y"), "--per is '1y'; it must be a time such as"),
        (("set", "ada", "--cpu-seconds", "nan"), "--cpu-seconds is nan; it must be a number"),
        (("set", "", "--jobs", "5"), "the client is ''; it must be a line of 1 to 1000 characters"),
    ],
)
def test_a_wrong_quota_is_refused_in_one_sentence(words: tuple[str, ...], sentence: str, home: Path):
    FileJobStore(home).close()
    told = command("quotas", *words)
    assert told.returncode == 2
    assert told.stderr.startswith(f"python-mcp-server: {sentence}"), told.stderr
    assert told.stderr.count("\n") == 1
