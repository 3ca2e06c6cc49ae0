"""Jobs as tasks: what the wire of the extension shows, from nothing but the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NotRequired

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from python_mcp_server.errors import InvalidInput, PythonMcpError
from python_mcp_server.jobs.request import rebuild
from python_mcp_server.jobs.settle import settle
from python_mcp_server.jsonable import jsonable
from python_mcp_server.model import Failure, Job, JobProgress, JobState, Outcome, new_job_id, utc_now
from python_mcp_server.pool.outcomes import failure_of
from python_mcp_server.server.app import create_server
from python_mcp_server.server.sdk.adapter import adapt
from python_mcp_server.server.sdk.private import low_level
from python_mcp_server.server.tasks.extension import TasksExtension
from python_mcp_server.server.tasks.negotiation import Offer, offering, require_tasks_for
from python_mcp_server.server.tasks.subscriptions import Listening
from python_mcp_server.server.tasks.wire import detailed, poll_interval_ms, result_of, summary
from python_mcp_server.smart_async import smart_async
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers.managers import manager

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENDED = BEGAN + timedelta(seconds=9)
JOB_ID = new_job_id()
RECENT = "io.modelcontextprotocol/tasks"


def a_job(status: JobState = JobState.RUNNING, **facts: Any) -> Job:
    return Job(JOB_ID, "sums", status, BEGAN, tool="sums", started_at=BEGAN, **facts)


def ended(outcome: Outcome) -> Job:
    """The job as its record says it ended."""
    store = InMemoryJobStore()
    store.create(a_job())
    return settle(store, JOB_ID, outcome)


class Report(BaseModel):
    number: int = Field(alias="theNumber")
    note: str | None = None
    when: datetime = BEGAN


class Pair(TypedDict):
    left: int
    right: NotRequired[str]


@dataclass
class Point:
    x: int
    names: list[str]


def an_int() -> int:
    return 3


def a_text() -> str:
    return "text"


def a_list() -> list[str]:
    return ["a", "b"]


def a_tuple() -> tuple[int, str]:
    return 1, "a"


def a_set() -> set[int]:
    return {3}


def a_dict() -> dict[str, Any]:
    return {"n": None, "m": [1]}


def a_typed_dict() -> Pair:
    return {"left": 1}


def a_dataclass() -> Point:
    return Point(1, ["a"])


def a_model() -> Report:
    return Report(theNumber=1)


def models() -> list[Report]:
    return [Report(theNumber=1), Report(theNumber=2, note="two")]


def a_model_or_none() -> Report | None:
    return None


def nothing() -> None:
    return None


def undeclared():  # type: ignore[no-untyped-def]
    return {"n": 1}


def not_what_it_says() -> int:
    return "no number"  # type: ignore[return-value]


KINDS = (
    an_int, a_text, a_list, a_tuple, a_set, a_dict, a_typed_dict, a_dataclass, a_model, models,
    a_model_or_none, nothing, undeclared, not_what_it_says,
)  # fmt: skip


@pytest.mark.parametrize("body", KINDS, ids=lambda body: body.__name__)
def test_the_result_of_a_record_is_what_the_call_would_have_answered(body: Any):
    seen = adapt(body)
    job = ended(Outcome(body()))
    assert result_of(job, seen) == seen.answer(body())


def raised(error: BaseException) -> Failure:
    try:
        raise error  # noqa: TRY301  for its traceback
    except BaseException as caught:  # noqa: BLE001  a test of all kinds
        return failure_of(caught)


class Odd(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


FAILURES = (
    ValueError("the body said no"),
    KeyError("a\n\nkey"),
    AssertionError(),
    Odd("this", "that"),
    InvalidInput("size is -1; it must be positive"),
    ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    RuntimeError("x" * 3_000),
)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_the_failure_of_a_record_reads_as_the_call_would_have_answered(error: Exception):
    failure = raised(error)
    assert result_of(ended(Outcome(failure=failure)), None) == adapt(an_int).error(rebuild(failure))


def test_a_tool_error_has_the_words_that_the_sdk_puts_around_it():
    job = ended(Outcome(failure=raised(ToolError("not today"))))
    result = result_of(job, None)
    assert result.is_error
    assert result.content[0].text == "Error executing tool sums: not today"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["worker_died", "memory_limit", "server_died"])
def test_a_job_that_died_has_completed_with_an_error_result(kind: str):
    task = detailed(a_job(JobState.FAILED, completed_at=ENDED, error="it died", error_kind=kind))
    assert task["status"] == "completed"
    assert task["result"]["isError"]
    assert task["result"]["content"] == [{"type": "text", "text": "it died"}]
    assert "error" not in task


def test_an_error_of_the_protocol_is_the_only_failed_task():
    job = ended(Outcome(failure=raised(MCPError(-32005, "not now", {"again": "later"}))))
    task = detailed(job)
    assert task["status"] == "failed"
    assert task["error"] == {"code": -32005, "message": "not now", "data": {"again": "later"}}
    assert task["statusMessage"] == "not now"
    assert "result" not in task


def test_a_protocol_error_survives_its_record_and_data_without_json():
    job = ended(Outcome(failure=raised(MCPError(-32005, "not now", {"when": BEGAN}))))
    assert Job.from_record(job.to_record()).rpc_error == {
        "code": -32005,
        "message": "not now",
        "data": {"when": str(BEGAN)},
    }


def test_a_result_that_is_not_json_is_shown_as_text_with_the_reason():
    def undeclared():  # type: ignore[no-untyped-def]
        return range

    job = ended(Outcome(undeclared()))
    shown = result_of(job, adapt(undeclared))
    assert [each.text for each in shown.content] == [  # type: ignore[union-attr]
        "\"<class 'range'>\"",
        "(a value of type type has no form in JSON, so its text stands for it)",
    ]
    assert not shown.is_error
    assert result_of(job, adapt(an_int)).is_error  # a client would look for what the schema promises


def test_a_lost_result_is_an_error_where_the_tool_declares_a_type():
    seen = adapt(an_int)
    lost = a_job(JobState.COMPLETED, result_note="its file is damaged", reply=dict(seen.replies().form))
    result = result_of(lost, seen)
    assert result.is_error
    assert "its file is damaged" in result.content[0].text  # type: ignore[union-attr]


def test_a_job_of_a_tool_that_this_server_does_not_know_is_shown_as_it_is():
    value = jsonable({"n": 1}).value
    shown = result_of(a_job(JobState.COMPLETED, result=value), None)
    assert shown.structured_content == {"n": 1}
    assert shown.content[0].text == '{\n  "n": 1\n}'  # type: ignore[union-attr]
    assert result_of(a_job(JobState.COMPLETED, result="said"), None).content[0].text == "said"  # type: ignore[union-attr]


STATES = [
    (JobState.PENDING, {"message": "waiting for a free worker"}, "working", "waiting for a free worker"),
    (JobState.RUNNING, {"progress": JobProgress(1, 4, "adding")}, "working", "adding (1 of 4)"),
    (JobState.RUNNING, {"progress": JobProgress(2.5)}, "working", "2.5"),
    (JobState.RUNNING, {"progress": JobProgress(1_234_567, 2e6)}, "working", "1234567 of 2000000"),
    (JobState.RUNNING, {"ending": "cancelled"}, "working", "being cancelled"),
    (JobState.RUNNING, {}, "working", None),
    (JobState.INPUT_REQUIRED, {}, "input_required", None),
    (JobState.CANCELLED, {"completed_at": ENDED}, "cancelled", None),
]


@pytest.mark.parametrize(("state", "facts", "status", "message"), STATES)
def test_each_state_has_its_status_and_says_what_it_is_at(
    state: JobState, facts: dict[str, Any], status: str, message: str | None
):
    task = summary(a_job(state, **facts))
    assert (task["status"], task.get("statusMessage")) == (status, message)
    assert task["ttlMs"] is None
    assert task["createdAt"] == "2026-01-02T03:04:05+00:00"
    assert ("pollIntervalMs" in task) == (not state.terminal)


def test_only_what_belongs_to_the_status_is_told_beside_it():
    assert {"result", "error", "inputRequests"}.isdisjoint(detailed(a_job()))
    questions = {"q": {"method": "elicitation/create", "params": {}}}
    assert detailed(a_job(JobState.INPUT_REQUIRED), None, questions)["inputRequests"] == questions
    assert "result" not in summary(a_job(JobState.COMPLETED, result=1, completed_at=ENDED))


@pytest.mark.parametrize(
    ("age_s", "least_ms", "most_ms"), [(0, 100, 100), (10, 1000, 2000), (9999, 5000, 5000)]
)
def test_the_older_a_job_the_longer_a_client_should_wait(age_s: float, least_ms: int, most_ms: int):
    job = Job("j-1", "sums", JobState.RUNNING, utc_now() - timedelta(seconds=age_s))
    assert least_ms <= poll_interval_ms(job) <= most_ms


def test_a_task_without_the_extension_on_its_server_is_refused():
    class Everything:
        protocol_version = "2026-07-28"
        request_id = 1

        class session:  # noqa: N801
            class client_capabilities:  # noqa: N801
                extensions = {RECENT: {}}  # noqa: RUF012

    asking: Any = Everything()
    with pytest.raises(InvalidInput, match="extensions=\\[TasksExtension\\(\\)\\]"):
        require_tasks_for("sums", asking)
    with offering(Offer(None)):
        require_tasks_for("sums", asking)


async def test_the_jobs_of_another_home_are_no_tasks_here():
    elsewhere = manager(InMemoryJobStore())
    async with manager() as ours, elsewhere as theirs:
        offer = Offer(lambda asked: asked is ours)
        offer.accept(theirs, "j-1")
        assert offer.job_id == ""
        offer.accept(ours, "j-2")
        assert offer.job_id == "j-2"


def test_a_call_becomes_a_task_by_the_job_that_its_answer_names():
    offer = Offer(lambda _manager: True)
    handle = CallToolResult(content=[], structured_content={"job_id": "j-1", "status": "running"})
    assert not offer.accepted_in(handle)
    any_manager: Any = None
    offer.accept(any_manager, "j-1")
    assert offer.accepted_in(handle)
    assert offer.accepted_in(handle.model_copy())
    assert not offer.accepted_in(CallToolResult(content=[], structured_content={"job_id": "j-2"}))
    assert not offer.accepted_in(CallToolResult(content=[]))
    assert not offer.accepted_in([])


def test_a_server_has_one_such_extension_theirs_where_they_bring_one():
    tasks = TasksExtension()
    theirs = create_server(extensions=[tasks], middleware=[tasks.listening])
    for server in (create_server(), theirs):
        assert low_level(server).extensions == {RECENT: {}}
        assert sum(isinstance(each, Listening) for each in server.middleware) == 1
    assert tasks.listening in theirs.middleware


def test_what_task_may_be_is_said_where_it_is_something_else():
    with pytest.raises(PythonMcpError, match="task is 'sometimes'; it must be one of auto, required, never"):
        smart_async(task="sometimes")
