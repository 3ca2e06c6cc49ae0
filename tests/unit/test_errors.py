"""The error tree: its shape, its sentences, and that each error survives the way between processes."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from python_mcp_server import errors
from python_mcp_server.cancelled import JobCancelled

FACTS: dict[type[BaseException], tuple[object, ...]] = {
    errors.JobNotFound: ("0abc",),
    errors.QuotaExceeded: ("it is spent", "client:ada", datetime(2026, 11, 30, tzinfo=UTC)),
    errors.JobExpired: (
        "0abc",
        datetime(2026, 11, 30, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
        "client:a",
    ),
    errors.AnswerTimeout: ("colour", 2.5),
    errors.RemoteError: ("app.Odd", "it broke", "Traceback ..."),
    errors.JobFailed: ("the server went away", "server_died"),
    errors.WorkerDied: ("the worker was killed by signal 9", "memory_limit", -9),
    errors.ResultNotReady: ("an-id", "running"),
    errors.WorkerUnavailable: ("no worker process could be started: no memory", "no_worker"),
    errors.LimitExceeded: ("stopped after 3 s", "time_limit"),
    errors.StoreLocked: ("the lock was not free within 10 s", 4711),
    errors.UvRefused: ("No solution found", True),
}


def tree(root: type[errors.PythonMcpError]) -> Iterator[type[errors.PythonMcpError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = [*tree(errors.PythonMcpError), JobCancelled]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_facts_through_pickling(kind: type[BaseException]) -> None:
    error = kind(*FACTS.get(kind, ("one sentence",)))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


class DiskTrouble(errors.PythonMcpError, OSError):
    """What an author may derive."""


def test_an_error_that_is_an_error_of_the_system_keeps_its_number() -> None:
    error = DiskTrouble(28, "No space left on device", "/data")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.errno, copy.filename, str(copy)) == (error.errno, error.filename, str(error))


def test_every_error_with_facts_of_its_own_has_a_sample_here() -> None:
    with_facts = {kind for kind in tree(errors.PythonMcpError) if "__init__" in vars(kind)}
    assert with_facts <= FACTS.keys()


def test_the_drawing_at_the_head_names_every_error() -> None:
    assert errors.__doc__ is not None
    for kind in tree(errors.PythonMcpError):
        assert f" {kind.__name__}" in errors.__doc__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InvalidInput, ValueError),
        (errors.JobNotFound, LookupError),
        (errors.QuestionNotOpen, LookupError),
        (errors.NotInJob, RuntimeError),
        (errors.AnswerTimeout, TimeoutError),
        (errors.StoreLocked, TimeoutError),
        (errors.PoolClosed, RuntimeError),
        (errors.WorkerUnavailable, RuntimeError),
    ],
)
def test_an_error_can_be_caught_as_the_builtin_that_it_is(
    kind: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)


def test_a_job_that_is_not_found_is_named() -> None:
    assert str(errors.JobNotFound("0abc")) == "Job 0abc not found"


def test_a_remote_error_without_a_message_is_its_type() -> None:
    assert str(errors.RemoteError("app.Odd", "")) == "Odd"


def test_no_handler_of_ordinary_exceptions_swallows_a_cancel() -> None:
    assert not issubclass(JobCancelled, Exception)
    assert issubclass(JobCancelled, asyncio.CancelledError)
