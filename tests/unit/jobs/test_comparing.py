"""Calls whose arguments are no plain JSON are compared, and an idempotency key is kept for one of them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import CommandJob, FunctionJob, InMemoryJobStore
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.comparing import call_text
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.jobs.sameness import same_or_new
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from tests.helpers.programs import environment, run_python


@dataclass
class Order:
    number: int


class Colour(Enum):
    RED = 1
    BLUE = 2


def pay(amount: Any) -> Any:
    return amount


def bound(n: int) -> Request:
    return Request(Order(n).__eq__, (1,))


def lambda_of(n: int) -> Request:
    return Request(lambda: n)


CALLS: list[Any] = [
    lambda n: Request(pay, ({n, "a"},)),
    lambda n: Request(pay, ([(n,)],)),
    lambda n: Request(pay, (frozenset({n}),)),
    lambda n: Request(pay, (Order(n),)),
    lambda n: Request(pay, ({n: b"x"},)),
    lambda n: Request(pay, (Decimal(n),)),
    lambda n: Request(pay, (deque([n]),)),
    lambda n: Request(pay, (Colour(n),)),
    lambda n: Request(pay, (datetime(2026, 1, n, tzinfo=UTC),)),
    lambda n: Request(pay, (Path(str(n)),)),
    lambda n: Request(partial(pay, {n})),
    lambda n: request_of(CommandJob("echo $X", env={"X": str(n)})),
    lambda n: request_of(FunctionJob(pay, {n})),
    bound,
    lambda_of,
]


def submitted(store: InMemoryJobStore, request: Request) -> str:
    options = JobOptions(idempotency_key="k")
    job = Job(new_job_id(), "x", JobState.PENDING, utc_now(), background=True, options=options)
    return same_or_new(store, job, request, lambda: store.create(job)).id


@pytest.mark.parametrize("call", CALLS)
def test_a_key_with_other_arguments_is_refused_where_they_are_no_json(call: Any):
    store = InMemoryJobStore()
    first = submitted(store, call(1))
    assert submitted(store, call(1)) == first
    with pytest.raises(InvalidInput, match="take a new key for other arguments"):
        submitted(store, call(2))


@pytest.mark.parametrize("value", [threading.Lock(), (each for each in ()), [[threading.Lock()]]])
def test_a_key_for_arguments_that_cannot_be_compared_is_refused(value: Any):
    store = InMemoryJobStore()
    with pytest.raises(InvalidInput, match="cannot be compared with others"):
        submitted(store, Request(pay, (value,)))
    assert store.list() == ([], 0)


def test_arguments_that_hold_themselves_are_refused_with_a_key():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidInput, match="RecursionError"):
        call_text(Request(pay, (endless,)))


def test_equal_calls_have_the_same_text_in_every_process():
    code = (
        "from python_mcp_server.jobs.comparing import call_text\n"
        "from python_mcp_server.jobs.request import Request\n"
        "from functools import partial\n"
        "words = {'abc', 'def', 'ghi', 'jkl'}\n"
        "args = (dict.fromkeys(words), lambda x: x in {'a', 'b'})\n"
        "print(call_text(Request(partial(print, words), args)))\n"
    )
    told = {run_python("-c", code, env=environment(PYTHONHASHSEED=seed)).stdout for seed in "12345"}
    assert len(told) == 1
    assert "abc" in told.pop()
