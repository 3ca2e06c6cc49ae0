"""Outcomes as data: whatever a body ends with, the front can read it."""

from __future__ import annotations

import pickle
import threading

import pytest

from python_mcp_server.errors import RemoteError, WorkerDied
from python_mcp_server.jobs.delivery import rebuild
from python_mcp_server.model import Outcome
from python_mcp_server.pool import outcomes
from tests.helpers import bodies


def failure(body):
    with pytest.raises(BaseException) as caught:  # noqa: PT011  each body has its own
        body()
    return outcomes.failure_of(caught.value)


def test_an_exception_that_travels_is_raised_as_itself_with_the_workers_traceback():
    error = rebuild(failure(bodies.raise_value_error))
    assert type(error) is ValueError
    assert error.args == ("seven is right out",)
    assert "raise_value_error" in "".join(error.__notes__)


@pytest.mark.parametrize(
    "body", [bodies.raise_unpicklable, bodies.raise_broken_rebuild, bodies.raise_system_exit]
)
def test_an_exception_that_does_not_travel_becomes_a_remote_error_with_its_name(body):
    found = failure(body)
    assert found.pickled is None
    error = rebuild(found)
    assert isinstance(error, RemoteError)
    assert error.type_name == found.type_name


def test_an_exception_without_a_text_says_so():
    assert failure(bodies.raise_broken_text).message == "<its text cannot be made: RuntimeError>"


def test_a_value_that_cannot_travel_becomes_a_failure_that_names_its_type():
    found = outcomes.decode(outcomes.encode(Outcome(threading.Lock())))
    assert found.failure is not None
    assert "_thread.lock" in found.failure.message


def test_a_result_that_cannot_be_rebuilt_becomes_a_failure():
    found = outcomes.decode(b"no pickle at all")
    assert found.failure is not None
    assert "cannot be rebuilt" in found.failure.message


def test_a_worker_that_died_is_raised_with_its_exit_code():
    from python_mcp_server.pool.deaths import death

    error = rebuild(death(-11))
    assert isinstance(error, WorkerDied)
    assert (error.exit_code, "SIGSEGV" in str(error)) == (-11, True)
    assert isinstance(pickle.loads(pickle.dumps(error)), WorkerDied)
