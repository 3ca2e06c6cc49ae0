"""Hooks hear each transition of each job of the home once, whichever process makes it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.hooks import Check
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.store.events import JobEvent
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.journal import JournalReader, Position
from tests.helpers import bodies
from tests.helpers.managers import LONG_S, call, handed_over, manager
from tests.helpers.programs import python
from tests.helpers.waiting import eventually

OTHER = """
import asyncio, sys
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from tests.helpers import bodies

async def main():
    manager = JobManager()
    jobs = [await manager.submit_request(Request(bodies.add, (1, n))) for n in range(3)]
    print(*[job.id for job in jobs], flush=True)
    for job in jobs:
        await manager.wait(job.id, 60)
    waiting = Request(bodies.count_and_wait, (sys.argv[1] + ".starts", sys.argv[1]))
    slow = await manager.submit_request(waiting)
    while (await manager.get(slow.id)).status != "running":
        await asyncio.sleep(0.01)
    print(slow.id, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""

WRITER = """
import sys
from pathlib import Path
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore

store = FileJobStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    job = Job(new_job_id(), "label", JobState.PENDING, utc_now())
    store.create(job)
    for state in (JobState.RUNNING, JobState.INPUT_REQUIRED, JobState.RUNNING, JobState.COMPLETED):
        store.update(job.id, lambda job: job.evolve(status=state))
"""


async def until(look: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, look)


def numbers_of(events: list[JobEvent]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events:
        found.setdefault(event.job_id, []).append(event.number)
    return found


async def test_a_hook_hears_a_job_from_its_creation_to_its_end(home: Path):
    heard, done = list[JobEvent](), asyncio.Event()

    async def hear(event: JobEvent) -> None:
        heard.append(event)
        await asyncio.sleep(0)
        if event.kind.is_end:
            done.set()

    async with manager() as made:
        made.on("*", hear)
        job = await made.submit_request(Request(bodies.add, (1, 2)))
        await asyncio.wait_for(done.wait(), LONG_S)
    assert [event.kind for event in heard] == ["created", "started", "completed"]
    assert {event.job_id for event in heard} == {job.id}
    assert heard[-1].ran_s is not None


async def test_a_hook_that_raises_stops_neither_itself_nor_others(
    home: Path, caplog: pytest.LogCaptureFixture
):
    heard = list[str]()

    def fail(event: JobEvent) -> None:
        raise ValueError(f"no {event.job_id}")

    async with manager() as made:
        made.on("ended", fail)
        made.on("ended", lambda event: heard.append(event.job_id))
        jobs = [await made.submit_request(Request(bodies.add, (1, 2))) for _ in range(2)]
        for job in jobs:
            await made.wait(job.id, LONG_S)
    assert sorted(heard) == sorted(job.id for job in jobs)
    assert all(f"no {job.id}" in caplog.text for job in jobs)


async def test_a_hook_hears_only_its_events_until_it_is_removed(home: Path):
    completed, failed, other = list[str](), list[str](), list[str]()
    async with manager() as made:
        made.on("completed", lambda event: completed.append(event.job_id))
        made.on("*", lambda event: other.append(event.job_id), kind="another tool")
        hook = made.on("failed", lambda event: failed.append(event.job_id))
        first = await made.submit_request(Request(bodies.raise_value_error))
        await made.wait(first.id, LONG_S)
        await until(lambda: failed == [first.id])
        hook.remove()
        second = await made.submit_request(Request(bodies.raise_value_error))
        third = await made.submit_request(Request(bodies.add, (1, 2)))
        for job in (second, third):
            await made.wait(job.id, LONG_S)
    assert (completed, failed, other) == ([third.id], [first.id], [])


async def test_each_attempt_and_its_end_is_an_event(home: Path):
    heard = list[JobEvent]()
    async with manager() as made:
        made.on("*", heard.append)
        options = JobOptions(retry=Retry(attempts=2, wait=0))
        job = await made.submit_request(Request(bodies.raise_value_error, (), options=options))
        await made.wait(job.id, LONG_S)
    assert [event.kind for event in heard] == ["created", "started", "retried", "started", "failed"]
    assert [event.attempt for event in heard] == [1, 1, 2, 2, 2]


async def test_a_fast_call_is_no_event_and_a_long_one_is(home: Path):
    heard = list[JobEvent]()
    async with manager(record_after_seconds=LONG_S) as made:
        made.on("*", heard.append)
        await call(made, bodies.add, 1, 2)
        long = await handed_over(made, bodies.sleep_long, str(home / "starts"))
        await made.cancel(long.job_id)
    assert [(event.kind, event.job_id) for event in heard] == [
        ("created", long.job_id),
        ("cancelled", long.job_id),
    ]
    assert heard[-1].background


async def test_an_unknown_event_is_refused(home: Path):
    async with manager() as made:
        with pytest.raises(InvalidInput, match="the event is 'finished'; it must be one of created"):
            made.on("finished", print)
        wrong: Any = None
        with pytest.raises(InvalidInput, match="the event is 'None'; it must be one of created"):
            made.on(wrong, print)
        with pytest.raises(InvalidInput, match="the hook is None; it must be a function"):
            made.on("*", wrong)


async def test_a_program_goes_on_after_the_cursor_that_it_kept(home: Path):
    async with manager() as made:
        stream = made.events()
        jobs = [await made.submit_request(Request(bodies.add, (1, n))) for n in range(2)]
        for job in jobs:
            await made.wait(job.id, LONG_S)
        first = await anext(stream)
        await stream.aclose()
        rest = list[JobEvent]()
        async for event in made.events(first.cursor):
            rest.append(event)
            if len(rest) == 5:
                break
    assert numbers_of([first, *rest]) == {job.id: [1, 2, 3] for job in jobs}


async def test_hooks_hear_the_jobs_of_another_process_also_once_it_is_killed(home: Path, tmp_path: Path):
    heard, go = list[JobEvent](), tmp_path / "go"
    async with manager() as made:
        made.on("*", heard.append)
        with python("-c", OTHER, go) as other:
            assert other.stdout is not None
            line, slow = [await asyncio.to_thread(other.stdout.readline) for _ in range(2)]
            await until(lambda: Counter(event.kind.value for event in heard)["completed"] == 3)
            other.kill()
        go.touch()
        await made.wait(slow.strip(), LONG_S)
        await until(lambda: Counter(event.kind.value for event in heard)["completed"] == 4)
    assert numbers_of(heard) == {job_id: [1, 2, 3] for job_id in (*line.split(), slow.strip())}


async def test_a_killed_writers_last_event_is_told_by_the_check(home: Path):
    heard, store = list[JobEvent](), FileJobStore(home)
    async with manager() as made:
        made.on("*", heard.append)
        job = Job(new_job_id(), "label", JobState.PENDING, utc_now(), background=True)
        made.store.create(job)
        await until(lambda: len(heard) == 1)
        store.journal._append = lambda _: None  # type: ignore[method-assign]
        store.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED))
        await until(lambda: len(heard) == 2)
    assert [event.kind for event in heard] == ["created", "cancelled"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_each_transition_is_one_event_however_many_writers_are_killed(home: Path):
    store = FileJobStore(home)
    check, reader = Check(store), JournalReader(store.journal, Position(1, 0))
    check.round()
    for _ in range(6):
        with python("-c", WRITER, home) as one, python("-c", WRITER, home) as two:
            for writer in (one, two):
                assert writer.stdout is not None
                writer.stdout.readline()
            count = len(store.list(limit=10_000)[0])
            while len(store.list(limit=10_000)[0]) < count + 10:
                pass
            one.kill()
            two.kill()
    check.round()
    jobs = store.list(limit=10_000)[0]
    for job in jobs:
        store.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED))  # the next writer
    told = numbers_of(reader.read_all())
    ended = [store.get(job.id) for job in jobs]
    expected = {job.id: list(range(1, job.event.number + 1)) for job in ended if job and job.event}
    assert told == expected


async def test_a_hook_in_which_something_is_cancelled_is_called_again(
    caplog: pytest.LogCaptureFixture,
):
    told = list[str]()

    async def hook(event: JobEvent) -> None:
        told.append(event.job_id)
        inner = asyncio.create_task(asyncio.sleep(LONG_S))
        inner.cancel()
        await inner

    async with manager() as jobs:
        jobs.on("completed", hook)
        ids = [(await jobs.submit_request(Request(bodies.add, (1, n)))).id for n in range(3)]
        await until(lambda: set(ids) <= set(told))
    assert caplog.text.count("a hook failed at the event completed") == 3


async def test_a_hook_under_way_is_cancelled_with_its_task():
    begun = asyncio.Event()

    async def hook(_: JobEvent) -> None:
        begun.set()
        await asyncio.sleep(10 * LONG_S)

    async with manager() as jobs:
        handle = jobs.on("*", hook)
        await jobs.submit_request(Request(bodies.add, (1, 2)))
        await begun.wait()
        assert handle.task is not None
        handle.task.cancel()
        await asyncio.wait({handle.task})
        assert handle.task.cancelled()
