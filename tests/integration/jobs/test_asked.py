"""What the API is given and cannot use is refused with a sentence, and nothing is done."""

from __future__ import annotations

import math
from typing import Any

import pytest

from python_mcp_server import FunctionJob, JobManager
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.settings import Settings
from tests.helpers import bodies
from tests.helpers.managers import LONG_S, manager

IDS: list[Any] = [None, 5, b"x", [1]]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("list", {"status": 5}),
    ("list", {"status": "lost"}),
    ("list", {"limit": "x"}),
    ("list", {"limit": 1.5}),
    ("list", {"before": 5}),
    ("list_jobs", {"limit": "x"}),
    ("submit_graph", {"graph": None}),
    ("stats", {"window_seconds": "x"}),
    ("stats", {"window_seconds": math.nan}),
    ("stats", {"by": 5}),
    ("prune", {"max_age_hours": "x"}),
    ("prune", {"max_age_hours": math.nan}),
]
OF_A_JOB: list[tuple[str, dict[str, Any]]] = [
    ("items", {"offset": "x"}),
    ("items", {"offset": 1.5}),
    ("items", {"limit": "x"}),
    ("items", {"where": "x"}),
    ("items", {"pattern": 5}),
    ("items", {"wait_s": "x"}),
    ("wait", {"timeout_s": "x"}),
    ("wait", {"timeout_s": None}),
    ("wait", {"timeout_s": math.nan}),
    ("output", {"limit": "x"}),
    ("output", {"offset": "x"}),
]


async def test_readers_refuse_what_they_cannot_use():
    async with manager() as jobs:
        token = await jobs.submit(FunctionJob(bodies.add, 1, 2))
        await jobs.wait(token, LONG_S)
        for name, given in CALLS:
            with pytest.raises(InvalidInput):
                await getattr(jobs, name)(**given)
        for name, given in OF_A_JOB:
            with pytest.raises(InvalidInput):
                await getattr(jobs, name)(token, **given)
        with pytest.raises(InvalidInput):
            await anext(jobs.events(after=5))  # type: ignore[arg-type]
        assert [job.id for job in (await jobs.list(status="completed"))[0]] == [token]  # type: ignore[arg-type]


@pytest.mark.parametrize("token", IDS)
async def test_what_is_no_id_is_refused(token: Any):
    async with manager() as jobs:
        for name in ("get_status", "get_result", "cancel_job", "get", "cancel"):
            with pytest.raises(InvalidInput, match="the job is"):
                await getattr(jobs, name)(token)
        with pytest.raises(InvalidInput, match="the job is"):
            await jobs.wait(token, 1)
        for read in (jobs.blocking.get, jobs.blocking.cancel):
            with pytest.raises(InvalidInput, match="the job is"):
                read(token)
        if not isinstance(token, list):
            with pytest.raises((InvalidInput, JobNotFound)):
                await jobs.items(token)


def test_a_manager_refuses_what_is_no_store_and_no_settings():
    for store in ("sqlite:///x", 5):
        with pytest.raises(InvalidInput, match="it must be a JobStore"):
            JobManager(store=store)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="it must be Settings"):
        JobManager(settings=5)  # type: ignore[arg-type]
    assert JobManager(settings=Settings.from_environ()).settings
