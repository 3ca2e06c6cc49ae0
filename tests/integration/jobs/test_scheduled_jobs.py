"""Schedules of a home with several servers, which come, are killed, and go."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore, InvalidInput, JobManager, scheduled
from python_mcp_server.jobs import health
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.schedules import BlockingSchedules
from python_mcp_server.model import Job, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.helpers import eventually, run_python
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import environment, python

SERVER = """
import asyncio, sys
from python_mcp_server import JobManager
from python_mcp_server.functions import default_manager
import {module}
async def main():
    async with {manager} as jobs:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@contextmanager
def server(
    module: str = "tests.helpers.framework_bodies", manager: str = "JobManager()", **env: str
) -> Iterator[subprocess.Popen[str]]:
    """A server with the bodies of a module, which ends with the block."""
    with python("-c", SERVER.format(module=module, manager=manager), env=environment(**env)) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()
        process.wait(LONG_S)


def fired(store: FileJobStore, name: str) -> list[tuple[datetime, Job]]:
    """The times of a schedule that have a job, in their order."""
    jobs = [job for job in store.list(None, 10_000)[0] if job.schedule and job.schedule["name"] == name]
    return sorted(((datetime.fromisoformat(str(job.schedule["time"])), job) for job in jobs), key=str)  # type: ignore[index]


def test_each_time_has_one_job_though_servers_are_killed(home: Path, tmp_path: Path):
    store, log = FileJobStore(home), tmp_path / "log"
    names = ["a", "b", "c"]
    for name in names:
        call = Request(fb.said, (str(log), name))
        BlockingSchedules(store).add(call, cron="* * * * * *", name=name, missed="all", overlap="start")

    def have(count: int) -> bool:
        return all(len(fired(store, name)) >= count for name in names)

    with ExitStack() as stack:
        first = stack.enter_context(server())
        stack.enter_context(server())
        for count in (2, 4, 6):
            eventually(lambda count=count: have(count))
            first.kill()
            first.wait()
            first = stack.enter_context(server())
        eventually(lambda: have(8))
        for name in names:
            BlockingSchedules(store).pause(name)
        eventually(lambda: not store.live())
    for name in names:
        found = sorted(when for when, _ in fired(store, name))  # a killed server's is completed later
        assert max(Counter(found).values()) == 1
        steps = {second - first for first, second in pairwise(found)}
        assert steps == {timedelta(seconds=1)}
        assert len(fired(store, name)) == len(set(BlockingSchedules(store).get(name).jobs))


def test_a_function_is_scheduled_by_each_server_that_has_it(home: Path, tmp_path: Path):
    ticks = tmp_path / "ticks"
    how: dict[str, Any] = {"manager": "default_manager()", "TICKS": str(ticks)}
    with server("tests.helpers.scheduled_bodies", **how), server("tests.helpers.scheduled_bodies", **how):
        eventually(lambda: len(lines(ticks)) >= 2)
    store = FileJobStore(home)
    [made] = BlockingSchedules(store).list()
    assert (made.name, made.timetable.tz) == ("tick", "Europe/Berlin")
    before = len(made.jobs)
    with server("tests.helpers.scheduled_bodies", **how):
        eventually(lambda: len(BlockingSchedules(store).get(made.id).jobs) > before)
    assert len(BlockingSchedules(store).list()) == 1
    assert max(Counter(when for when, _ in fired(store, "tick")).values()) == 1


def test_a_function_of_the_main_program_is_refused():
    code = "from python_mcp_server import scheduled\n@scheduled('* * * * *')\ndef f(): pass"
    told = run_python("-c", code).stderr
    assert "InvalidInput: f is of the main program" in told


async def test_a_declared_schedule_that_is_wrong_does_not_stop_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with manager() as jobs:
        scheduled(at=utc_now() - timedelta(hours=1), name="wrong", manager=jobs)(fb.fail)
        scheduled(every=3600, name="right", manager=jobs)(fb.fail)
        job = await jobs.submit_request(Request(fb.said, (str(tmp_path / "log"), "on")))
        assert (await jobs.wait(job.id, LONG_S))[0].result == "on"
        assert [each.name for each in await jobs.schedules.list()] == ["right"]
    assert "the schedule wrong was not made: at is " in caplog.text


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_a_schedule_of_a_running_manager_starts_in_its_time(kind: str, tmp_path: Path):
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        at = utc_now() + timedelta(seconds=1)
        made = await jobs.schedules.add(Request(fb.said, (str(tmp_path / "log"), "on")), at=at, name="once")
        assert await jobs.schedules.next_times("once") == [at]
        job_id = await first_job(jobs, made.id)
        job, timed_out = await jobs.wait(job_id, LONG_S)
        assert not timed_out
        assert job.started_at is not None
        assert job.started_at >= at
        assert job.result == "on"
        assert (await jobs.schedules.get(made.id)).next_time(utc_now()) is None
        ran = await jobs.schedules.run_now("once")
        assert (await jobs.wait(ran.id, LONG_S))[0].result == "on"
        assert (await jobs.schedules.remove("once")).id == made.id
        with pytest.raises(InvalidInput, match="there is no schedule 'once'"):
            await jobs.schedules.pause("once")


async def first_job(jobs: JobManager, schedule: str) -> str:
    while not (made := (await jobs.schedules.get(schedule)).jobs):
        await asyncio.sleep(0.05)
    return made[0]


async def test_a_schedule_whose_function_has_vanished_waits_and_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "vanishing.py").write_text("def work():\n    return 'did'\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("vanishing")
    monkeypatch.setattr(health, "_IDLE", timedelta())
    async with manager() as jobs:
        await jobs.schedules.add(Request(module.work), every=3600, name="nightly")
    work = module.work
    monkeypatch.delattr(module, "work")
    async with manager() as jobs:
        left = await jobs.schedules.run_now("nightly")
        other = await jobs.submit_request(Request(fb.said, (str(tmp_path / "log"), "other")))
        assert (await jobs.wait(other.id, LONG_S))[0].result == "other"
        assert (await jobs.get(left.id)).message == "waiting for a server of this home that has its code"
        (problem,) = (await jobs.health()).problems
        assert (problem.check, left.id in problem.detail) == ("queue", True)
        module.work = work  # type: ignore[attr-defined]
        assert (await jobs.wait(left.id, LONG_S))[0].result == "did"
        assert (await jobs.health()).problems == ()
    (tmp_path / "vanishing.py").unlink()
    async with manager() as jobs:
        (problem,) = (await jobs.health()).problems
        assert (problem.text, "nightly" in problem.detail) == ("what a schedule runs is gone", True)
