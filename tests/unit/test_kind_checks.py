"""Values of a kind, a graph, a retry or a schedule that have no meaning are refused at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from python_mcp_server import AsyncJob, CommandJob, FunctionJob, Graph, JobManager, Retry, scheduled
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.request import Request, request_of
from tests.helpers import bodies


class Kind(AsyncJob):
    async def execute(self) -> None:
        pass


def changed(**attributes: Any) -> Kind:
    job = Kind("kind")
    for name, value in attributes.items():
        setattr(job, name, value)
    return job


@pytest.mark.parametrize(
    "attributes",
    [
        {"grace_s": "x"},
        {"grace_s": -5},
        {"grace_s": math.nan},
        {"isolation": "thread"},
        {"isolation": None},
        {"isolation": ["inline"]},
        {"timeout_seconds": "5"},
        {"timeout_seconds": -1},
        {"timeout_seconds": True},
    ],
)
def test_a_kind_with_a_value_without_meaning_is_refused(attributes: dict[str, Any]):
    (name,) = attributes
    with pytest.raises(InvalidInput, match=f"{name} is"):
        request_of(changed(**attributes))


@pytest.mark.parametrize("job", [CommandJob("true"), FunctionJob(len, "x"), Kind("kind")])
@pytest.mark.parametrize("seconds", [-1, "5", math.nan])
def test_a_time_limit_without_meaning_is_refused(job: AsyncJob, seconds: Any):
    with pytest.raises(InvalidInput, match="timeout_seconds"):
        request_of(job, timeout_seconds=seconds)


def test_an_exception_by_a_wrong_name_is_refused():
    with pytest.raises(InvalidInput, match="on has 'valueerror'; the exception is 'ValueError'"):
        Retry(2, on="valueerror")
    with pytest.raises(InvalidInput, match="on has ''"):
        Retry(2, on=[""])
    for known in ("ValueError", "time_limit", "my.Error", "too_cold"):
        assert Retry(2, on=known).on == (known,)
    stored = {"delays": [1], "on": ["valueerror"], "lost_workers": False}
    assert Retry.from_json(stored).on == ("valueerror",)


@pytest.mark.parametrize("label", [None, 5, b"x"])
def test_a_graph_with_a_label_that_is_no_text_is_refused(label: Any):
    with pytest.raises(InvalidInput, match="the graph's label"):
        Graph(label)


@pytest.mark.parametrize(
    "given", [{"args": 5}, {"args": "ab"}, {"kwargs": [1]}, {"after": 5}, {"after": "a"}]
)
def test_a_job_of_a_graph_with_wrong_arguments_is_refused(given: dict[str, Any]):
    (name,) = given
    graph = Graph()
    with pytest.raises(InvalidInput, match=f"{name} is"):
        graph.add("a", bodies.pid, **given)
    with pytest.raises(InvalidInput, match="no job"):
        graph.ordered()


def test_options_that_are_none_are_refused():
    with pytest.raises(InvalidInput, match="it must be JobOptions"):
        Request(bodies.pid, options={"queue": "low"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how",
    [
        {"every": 2, "options": {"queue": "low"}},
        {"every": 0},
        {"every": "x"},
        {"cron": "x"},
        {"cron": 5},
        {"every": 2, "tz": "x"},
        {"every": 2, "missed": "x"},
        {"every": 2, "overlap": "x"},
        {"every": 2, "name": 5},
        {},
    ],
)
def test_a_schedule_without_meaning_is_refused_at_its_definition(how: dict[str, Any]):
    manager = JobManager()
    with pytest.raises(InvalidInput):
        scheduled(**how, manager=manager)(bodies.pid)
    assert manager.declared == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"command": ""}, "the command is empty"),
        ({"command": "  "}, "the command is empty"),
        ({"command": []}, "the command is empty"),
        ({"command": None}, "command is None"),
        ({"command": 5}, "command is 5"),
        ({"command": {"a"}}, "command is"),
        ({"command": b"ls"}, "command is b'ls'"),
        ({"command": [1, 2]}, "has 1"),
        ({"command": ["echo", "a\0b"]}, "NUL"),
        ({"command": ["echo", "\ud800"]}, "the character '\\\\ud800'"),
        ({"command": "true", "env": {"A": 1}}, "env_vars\\['A'\\] is of type int"),
        ({"command": "true", "env": {"": "x"}}, "has the name ''"),
        ({"command": "true", "env": [1]}, "env is of type list"),
        ({"command": "true", "cwd": 5}, "cwd is 5"),
    ],
)
def test_a_command_that_no_program_can_be_is_refused(given: dict[str, Any], told: str):
    with pytest.raises(InvalidInput, match=told):
        CommandJob(**given)
