"""What people and clients answer with becomes an answer, or one sentence on why it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from python_mcp_server.cli import main, show
from python_mcp_server.cli.jobs import typed_answer
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.questions import answer_of
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.questions.forms import form_of
from python_mcp_server.questions.model import InputAnswer, Question
from python_mcp_server.server.tasks.wire import answers_of, detailed, requests_of
from tests.unit.cli.test_show import printed

JOB_ID = new_job_id()
ONE = form_of({"properties": {"n": {"type": "integer"}}, "required": ["n"]})
TEXT = form_of({"properties": {"s": {"type": "string"}}})
TWO = form_of({"properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}, "required": ["a"]})


def asks(form: dict[str, Any], key: str = "q") -> Question:
    return Question(key, f"What is {key}?", form, utc_now().isoformat())


def a_job(*questions: Question) -> Job:
    return Job(JOB_ID, "asks", JobState.INPUT_REQUIRED, utc_now(), started_at=utc_now(), questions=questions)


@pytest.mark.parametrize(
    ("form", "response", "action", "answer"),
    [
        (ONE, {"n": 1}, "accept", InputAnswer("accept", {"n": 1})),
        (ONE, 1, "accept", InputAnswer("accept", {"n": 1})),
        (ONE, None, "decline", InputAnswer("decline")),
        (ONE, None, "accept", InputAnswer("accept", {})),
        (ONE, {"action": "accept", "content": {"n": 1}}, "accept", InputAnswer("accept", {"n": 1})),
        (ONE, {"action": "cancel"}, "accept", InputAnswer("cancel")),
        (ONE, '{"n": 1}', "accept", InputAnswer("accept", {"n": 1})),
        (TWO, '{"a": "null"}', "accept", InputAnswer("accept", {"a": "null"})),
        (TEXT, "null", "accept", InputAnswer("accept", {"s": "null"})),
        (TEXT, '{"s": "x"}', "accept", InputAnswer("accept", {"s": '{"s": "x"}'})),
        (TWO, "x", "accept", InputAnswer("accept", "x")),  # type: ignore[arg-type]  # refused by the form
    ],
)
def test_an_answer_is_read_in_each_shape_that_people_and_models_give_it(
    form: dict[str, Any], response: Any, action: str, answer: InputAnswer
):
    assert answer_of(asks(form), response, action) == answer


@pytest.mark.parametrize(
    ("form", "words", "action", "text", "answer"),
    [
        (ONE, ("7",), "accept", None, InputAnswer("accept", {"n": 7})),
        (ONE, ("n=7",), "accept", None, InputAnswer("accept", {"n": 7})),
        (TWO, ("a=x=y", "b=yes"), "accept", None, InputAnswer("accept", {"a": "x=y", "b": True})),
        (TWO, (), "accept", '{"a": "x"}', InputAnswer("accept", {"a": "x"})),
        (TWO, (), "decline", None, InputAnswer("decline")),
        (TWO, ("x",), "accept", None, "VALUE is 'x'; this question wants a=... b=..."),
        (TWO, ("a=x",), "cancel", None, "--cancel is an answer by itself"),
        (TWO, ("a=x",), "accept", "{}", "exclude each other"),
        (TWO, (), "accept", "{", "--json-answer is '{'; it must be JSON"),
    ],
)
def test_typed_words_are_an_answer(
    form: dict[str, Any], words: tuple[str, ...], action: str, text: str | None, answer: Any
):
    if isinstance(answer, InputAnswer):
        assert typed_answer(asks(form), words, action, text) == answer
        return
    with pytest.raises(InvalidInput) as refused:
        typed_answer(asks(form), words, action, text)
    assert answer in str(refused.value)


def test_the_command_line_shows_what_a_job_asks_and_answers_it(capsys: pytest.CaptureFixture[str]):
    JobManager().store.create(a_job(asks(ONE), asks(TWO, "r")))

    def call(*words: str) -> int:
        with pytest.raises(SystemExit) as left:
            main(("jobs", *words))
        return int(left.value.code or 0)

    assert call("show", JOB_ID) == 0
    shown = capsys.readouterr().out
    assert "asks q" in shown
    assert "n (integer)" in shown
    assert "b (boolean, may be left out)" in shown
    assert call("answer", JOB_ID, "q", "seven") == 2
    assert "'n' of the answer is 'seven'; it must be an integer" in capsys.readouterr().err
    assert call("answer", JOB_ID, "q", "31415") == 0
    assert f"q of {JOB_ID} is answered; the job is input_required" in capsys.readouterr().out
    assert call("answer", JOB_ID, "q", "8") == 1
    assert "no open question 'q'" in capsys.readouterr().err
    assert call("answer", JOB_ID, "r", "--decline", "--json") == 0
    job = json.loads(capsys.readouterr().out)["job"]
    assert job["status"] == "running"
    assert "questions" not in job
    stored = JobManager().store.get(JOB_ID)
    assert stored is not None
    assert [each.answer for each in stored.questions] == [
        InputAnswer("accept", {"n": 31415}),
        InputAnswer("decline"),
    ]
    assert "31415" not in repr(stored.questions[0])  # answers are in no log


def test_a_list_of_jobs_says_what_each_asks():
    assert "asks q: What is q?" in printed(show.jobs_table([a_job(asks(ONE))]))


def test_a_task_shows_what_is_open_as_requests_of_the_protocol():
    answered = Question("done", "?", ONE, "2026", answer=InputAnswer("decline"))
    job = a_job(asks(ONE), answered)
    task = detailed(job, None, requests_of(job.open_questions))
    assert task["statusMessage"] == "What is q?"
    params = {"mode": "form", "message": "What is q?", "requestedSchema": ONE}
    assert task["inputRequests"] == {"q": {"method": "elicitation/create", "params": params}}


@pytest.mark.parametrize(
    ("responses", "says"),
    [
        ([], "inputResponses is []; it must be an object"),
        ({"q": "yes"}, "the response to 'q' must have an action: accept, decline, cancel"),
        ({"q": {"action": "maybe"}}, "the response to 'q' must have an action"),
    ],
)
def test_invalid_responses_are_refused(responses: Any, says: str):
    with pytest.raises(InvalidInput) as refused:
        answers_of(responses, [asks(ONE)])
    assert says in str(refused.value)


def test_responses_to_unasked_questions_are_ignored():
    said = {"q": {"action": "decline"}, "unknown": "odd"}
    assert answers_of(said, [asks(ONE)]) == {"q": InputAnswer("decline")}
    assert answers_of(None, [asks(ONE)]) == {}
