"""The JSON of a result is read in pages, wherever the store keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.output import LinePage, OutputPage, Wanted
from python_mcp_server.model import JobState
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers.records import a_job


@pytest.fixture(params=["memory", "files"])
def made(request: pytest.FixtureRequest, home: Path) -> Iterator[JobManager]:
    store: JobStore = InMemoryJobStore() if request.param == "memory" else FileJobStore(home)
    yield JobManager(store)
    store.close()


@pytest.mark.parametrize("items", [3, 5_000, 50_000])
async def test_the_pages_of_a_result_together_are_its_json(made: JobManager, items: int):
    result: Any = [{"number": number, "text": "ä"} for number in range(items)]
    job = a_job(JobState.COMPLETED).evolve(result=result)
    made.store.create(job)
    text, page = "", LinePage("", 0, 0, eof=False)
    while not page.eof:
        page = await made.lines(job.id, Wanted("result", page.next_offset, 500_000))
        text += page.text
    assert json.loads(text) == result
    assert page.total_bytes == page.next_offset == len(text)
    end = await made.output(job.id, "result", -3, 100)
    assert end == OutputPage('"}]', len(text), len(text), eof=True)
    await made.close()


async def test_a_job_without_a_result_has_an_empty_one(made: JobManager):
    for state, over in ((JobState.FAILED, True), (JobState.PENDING, False)):
        job = a_job(state)
        made.store.create(job)
        assert await made.lines(job.id, Wanted("result")) == LinePage("", 0, 0, eof=over)
    await made.close()


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.RUNNING])
async def test_a_file_of_the_body_named_as_one_is_no_result(made: JobManager, state: JobState):
    job = a_job(state).evolve(result=None)
    made.store.create(job)
    folder = made.store.folder(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text("{}")
    assert await made.lines(job.id, Wanted("result")) == LinePage("", 0, 0, eof=state.terminal)
    await made.close()


@pytest.mark.parametrize("wanted", [Wanted("result", line=1), Wanted("result", pattern="a")])
def test_a_result_is_not_read_by_lines(wanted: Wanted):
    with pytest.raises(InvalidInput, match="stream is 'result', which is one line of JSON"):
        wanted.check()
