"""The decorator and the module functions, called directly."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import JobManager, smart_async
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.smart_async import (
    STATE,
    cancel_job,
    get_job_status,
    initialize_state,
    job_status,
    list_jobs,
    prune_jobs,
)
from tests.helpers import bodies, run, run_python
from tests.helpers.managers import LONG_S, lines


@pytest.fixture(autouse=True)
def fresh_state(home: Path) -> None:
    initialize_state(home)


async def wait(job_id: str) -> None:
    from python_mcp_server.smart_async import default_manager

    _, timed_out = await default_manager().wait(job_id, LONG_S)
    assert not timed_out


async def test_a_direct_call_takes_both_kinds_of_arguments():
    assert await bodies.decorated(2) == 3
    assert await bodies.decorated(2, right=3) == 5
    assert await bodies.decorated_async(left=1) == 2


def test_the_decorated_function_keeps_its_signature_plus_two_parameters():
    def names(function: Any) -> list[str]:  # there is one more where mcp is loaded
        return [name for name in inspect.signature(function).parameters if name != "mcp_context"]

    assert names(bodies.decorated) == ["left", "right", "async_mode", "job_label"]
    assert bodies.decorated.__doc__ == "Add two numbers."
    assert names(bodies.own_budget) == ["async_mode", "job_label"]
    assert run(bodies.own_budget(async_mode="plain")) == "plain"


class Shop:
    price = 3

    @smart_async
    def sells(self, n: int) -> int:
        return n * self.price

    @classmethod
    @smart_async
    def prices(cls, n: int) -> int:
        return n * cls.price

    @staticmethod
    @smart_async
    async def counts(n: int) -> int:
        return n

    async def __call__(self, n: int) -> int:
        return n * self.price

    def gives(self, n: int) -> int:
        return n + self.price


async def test_every_kind_of_callable_runs_in_a_worker():
    assert await Shop().sells(2) == 6
    assert await Shop.prices(2) == 6  # type: ignore[call-overload]
    assert await Shop.counts(2) == 2
    assert await smart_async(Shop())(2) == 6
    assert await smart_async(Shop().gives)(2) == 5
    assert await smart_async(partial(Shop().gives, 4))() == 7
    assert await smart_async(lambda n: n + 1)(2) == 3
    assert await smart_async(divmod)(7, 2) == (3, 1)


def test_inside_a_worker_a_decorated_function_runs_its_body_directly():
    value, here, there = run(bodies.calls_another(1))
    assert (value, here == there, here == os.getpid()) == (2, True, False)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_budget_that_is_no_positive_number_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_BUDGET", value)
    with pytest.raises(InvalidInput, match=f"MY_BUDGET is '{value}'; it must be a positive number"):
        run(bodies.own_budget())


def test_a_decorator_with_an_unknown_choice_is_refused():
    with pytest.raises(InvalidInput, match="isolation is 'thread'"):
        smart_async(isolation="thread")


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ({"async_mode": "yes"}, "async_mode is 'yes'; it must be True or False"),
        ({"job_label": 3}, "the job's label is 3; it must be a text"),
    ],
)
async def test_a_wrong_value_for_an_added_parameter_is_refused(added: Any, sentence: str):
    with pytest.raises(InvalidInput, match=sentence):
        await bodies.decorated(1, **added)


async def test_async_mode_answers_a_pending_job_at_once(tmp_path: Path):
    answer = await bodies.slow(str(tmp_path / "starts"), 0.1, async_mode=True, job_label="mine")
    assert set(answer) == {"job_id", "status"}
    assert answer["status"] == "pending"
    await wait(answer["job_id"])
    job = get_job_status(answer["job_id"])["job"]
    assert (job["label"], job["tool"], job["result"]) == ("mine", "slow", "done with 0")


def test_past_the_budget_the_answer_is_a_job_handle(tmp_path: Path, home: Path):
    async def main() -> str:
        await bodies.decorated(1)
        answer: Any = await bodies.slow(str(tmp_path / "starts"), 2.0, env_vars={"TOKEN": "hunter2hunter2"})
        assert answer["message"] == "Task exceeded 0.3s time budget; running in background"
        job_id = answer["job_id"]
        first = await asyncio.to_thread(get_job_status, job_id, True)
        assert first["job"]["status"] == "running"
        assert first["job"]["progress"] == {"current": 1, "total": 2, "message": "half"}
        await wait(job_id)
        second = get_job_status(job_id, incremental=True)
        third = get_job_status(job_id, incremental=True)
        assert "tick\n" in second["new_stdout"]
        assert third["new_stdout"] == third["new_stderr"] == ""
        assert (second["job"]["status"], second["job"]["result"]) == ("completed", "done with 1")
        assert second["job"]["usage"]["peak_rss_mb"] > 1
        return job_id

    job_id = run(main())
    assert lines(tmp_path / "starts") == ["started"]
    assert job_id in STATE.jobs
    assert STATE.persistence_dir == home
    assert job_status(job_id) == get_job_status(job_id)
    records = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in records if b"hunter2hunter2" in path.read_bytes()] == []


def test_listing_pruning_and_unknown_ids(tmp_path: Path):
    async def main() -> str:
        answer = await bodies.slow(str(tmp_path / "starts"), 0.0, async_mode=True)
        await wait(answer["job_id"])
        return answer["job_id"]

    job_id = run(main())
    listed = list_jobs()
    assert ([job["id"] for job in listed["jobs"]], listed["total"], listed["more"]) == ([job_id], 1, False)
    assert list_jobs("running")["jobs"] == list_jobs(before=job_id)["jobs"] == []
    with pytest.raises(InvalidInput, match="status_filter is 'done'"):
        list_jobs("done")
    assert prune_jobs() == {"removed": 0, "remaining": 1}
    assert prune_jobs(keep_completed=False, max_age_hours=0) == {"removed": 1, "remaining": 0}
    assert get_job_status(job_id)["error"].startswith(f"Job {job_id} has expired")
    assert cancel_job("nobody") == {"error": "Job nobody not found"}
    with pytest.raises(JobNotFound):
        JobManager().blocking.get("nobody")


async def test_a_cancel_by_the_function_leaves_no_process_and_says_so(tmp_path: Path):
    answer: Any = await bodies.slow(str(tmp_path / "starts"), LONG_S)
    told = await asyncio.to_thread(cancel_job, answer["job_id"])
    assert told["status"] == "cancelled"
    again = cancel_job(answer["job_id"])
    assert "had already ended as cancelled" in again["message"]


async def test_an_inline_body_runs_here_and_is_handed_over_and_cancelled_too():
    assert await bodies.inline_wait(0) == os.getpid()
    answer: Any = await bodies.inline_wait(0.4)
    assert answer["status"] == "running"
    await wait(answer["job_id"])
    assert get_job_status(answer["job_id"])["job"]["result"] == os.getpid()
    pending = await bodies.inline_wait(0.0, async_mode=True)
    await wait(pending["job_id"])
    assert get_job_status(pending["job_id"])["job"]["result"] == os.getpid()
    endless: Any = await bodies.inline_wait(LONG_S)
    told = await asyncio.to_thread(cancel_job, endless["job_id"])
    assert told["status"] == "cancelled"


class Busy(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__("busy")
        self.lock = lock


async def test_nothing_of_an_inline_body_is_pickled():
    lock, user = threading.Lock(), ContextVar("user", default="nobody")

    @smart_async(isolation="inline", default_timeout=LONG_S)
    async def borrow(held: threading.Lock, fails: bool) -> tuple[threading.Lock, str]:
        with held, lock:
            await asyncio.sleep(0)
            if fails:
                raise Busy(held)
        return lock, user.get()

    user.set("somebody")
    held = threading.Lock()
    value, name = await borrow(held, False)
    assert (value is lock, name) == (True, "somebody")
    with pytest.raises(Busy) as caught:
        await borrow(held, True)
    assert caught.value.lock is held
    assert len(caught.value.__notes__) == 1
    handle = await borrow(held, False, async_mode=True)
    await wait(handle["job_id"])
    assert get_job_status(handle["job_id"])["job"]["status"] == "completed"


def test_two_runs_of_a_program_share_the_default_manager():
    assert [run(bodies.decorated(number)) for number in range(2)] == [1, 2]


PROGRAM = """
import asyncio
from python_mcp_server import smart_async

OFFSET = 40

@smart_async
def body(n):
    return helper(n)

def helper(n):
    return n + OFFSET

if __name__ == "__main__":
    def main():
        @smart_async()
        def closure(n):
            return body.__wrapped__(n) + 1
        async def both():
            return await body(2), await closure(2)
        return both()
    print(asyncio.run(main()))
"""


def test_a_program_runs_its_own_functions_and_closures_by_value(tmp_path: Path):
    path = tmp_path / "a program.py"
    path.write_text(PROGRAM)
    ended = run_python(path)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("(42, 43)\n", "", 0)
