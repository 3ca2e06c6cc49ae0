"""What tools and resources show of a job is bounded, and is made beside the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobProgress, JobState
from python_mcp_server.server import job_tools, job_view, resources
from python_mcp_server.server.job_tools import JobTools
from python_mcp_server.server.job_view import view_of
from python_mcp_server.server.resources import JobResources
from python_mcp_server.server.tasks import wire
from python_mcp_server.server.tasks.wire import TaskLookup
from python_mcp_server.store.contract import IN_PAGES, SHOWN_RESULT_BYTES
from tests.helpers.records import a_job

Ask = Callable[[JobManager, str], Coroutine[Any, Any, Any]]


async def shown(manager: JobManager, job_id: str) -> Any:
    book = TaskLookup(manager)
    job = await book.find(job_id)
    assert job is not None
    return await book.show(job, asks=False)


ASKED: dict[str, tuple[Any, str, Ask]] = {
    "status": (job_tools, "view_of", lambda manager, job_id: JobTools(manager).job_status(job_id)),
    "wait": (job_tools, "view_of", lambda manager, job_id: JobTools(manager).wait_job(job_id)),
    "list": (job_tools, "list_answer", lambda manager, _: JobTools(manager).list_jobs()),
    "job resource": (resources, "view_of", lambda manager, job_id: JobResources(manager).job(job_id)),
    "output resource": (resources, "excerpt", lambda manager, job_id: JobResources(manager).stdout(job_id)),
    "task": (wire, "detailed", shown),
}


@pytest.mark.parametrize("name", ASKED)
async def test_an_answer_is_made_while_the_event_loop_serves_others(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
):
    module, function, ask = ASKED[name]
    begun, served = threading.Event(), threading.Event()
    make: Callable[..., Any] = getattr(module, function)

    def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        assert served.wait(60), "the event loop serves nobody meanwhile"
        return make(*args, **kwargs)

    monkeypatch.setattr(module, function, slow)
    async with JobManager() as manager:
        job = a_job(JobState.COMPLETED).evolve(result=[1])
        manager.store.create(job)
        asking = asyncio.create_task(ask(manager, job.id))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        served.set()
        assert await asking is not None
    manager.store.close()


def test_a_result_up_to_the_bound_is_shown_and_a_larger_one_is_named():
    job = a_job(JobState.COMPLETED).evolve(result="x" * (SHOWN_RESULT_BYTES - 2))
    assert view_of(job) == job.to_json()
    large = view_of(job.evolve(result="x" * (SHOWN_RESULT_BYTES - 1), result_note="a note"))
    assert large["result"] is None
    assert large["result_note"] == f"a note; result of {SHOWN_RESULT_BYTES + 1} bytes; {IN_PAGES}"


def hostile() -> Job:
    """Return a job each part of which is larger than any client takes."""
    long = "€\ud800" * 2_000_000
    return a_job(JobState.FAILED).evolve(
        error=long, message=long, result={long: long}, result_note=long, progress=JobProgress(1, 2, long)
    )


def test_every_text_of_a_hostile_record_is_cut():
    view = view_of(hostile())
    assert len(json.dumps(view)) < 50_000
    assert view["error"].startswith("€\ufffd")
    assert json.loads(job_view.text_of(view)) == view


async def test_stuck_pictures_and_output_of_one_job_keep_no_other_waiting(home: Path):
    over = threading.Event()
    begun: list[str] = []

    def stuck(turn: str) -> None:
        begun.append(turn)
        over.wait(60)

    async with JobManager() as manager:
        job = a_job(JobState.COMPLETED)
        manager.store.create(job)
        turns = [job.id, f"view of {job.id}", "pictures in /hung"]
        calls = [
            asyncio.create_task(manager.aside(turn, lambda turn=turn: stuck(turn)))
            for turn in turns
            for _ in range(40)
        ]
        while len(begun) < 2 * len(turns):
            await asyncio.sleep(0.001)
        other = a_job(JobState.COMPLETED)
        manager.store.create(other)
        assert (await JobTools(manager).job_status(other.id)).structured_content
        assert len(begun) == 2 * len(turns)
        over.set()
        await asyncio.gather(*calls)
    manager.store.close()
