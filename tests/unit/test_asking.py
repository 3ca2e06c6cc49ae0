"""What a body asks waits for its answer, in threads and on loops, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, DeclinedElicitation
from pydantic import BaseModel

from python_mcp_server import context
from python_mcp_server.asking import request_input
from python_mcp_server.body_context import BodyContext, Elicited
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import AnswerTimeout, InvalidInput, NotInJob, StoreError
from python_mcp_server.questions.model import EXPIRED, InputAnswer, QuestionEvent
from python_mcp_server.questions.open import OpenQuestions
from tests.helpers import eventually

YES = InputAnswer("accept", {"answer": "yes"})


class Front:
    """Answers what a body asks, with what it was given."""

    def __init__(self, *answers: InputAnswer | str) -> None:
        self.heard: list[QuestionEvent] = []
        self.cancelled = False
        self.inquiries = OpenQuestions(self.tell, lambda: self.cancelled)
        self._answers = list(answers)

    def tell(self, said: QuestionEvent) -> None:
        self.heard.append(said)
        if (said.question is not None or said.expired) and self._answers:
            answer = self._answers.pop(0)
            given = (None, answer) if isinstance(answer, str) else (answer, None)
            self.inquiries.resolve(said.key, *given)

    @contextmanager
    def job(self) -> Iterator[None]:
        """Be inside a job whose questions come here."""
        job = context.JobContext("j-1", "asks", "", lambda _progress: None, lambda: self.inquiries)
        token = context.enter_job(job, whole_process=True)
        try:
            yield
        finally:
            context.leave_job(token)


def test_outside_of_a_job_no_question_can_be_asked():
    with pytest.raises(NotInJob, match="from inside a job"):
        request_input("Anybody?")
    token = context.enter_job(context.JobContext("j", "j", "", lambda _progress: None), whole_process=False)
    with pytest.raises(NotInJob, match="reach no user"):
        request_input("Anybody?")
    context.leave_job(token)


def test_plain_code_gets_the_answer_and_the_question_is_done_with():
    front = Front(YES, InputAnswer("decline"))
    with front.job():
        answer = request_input("Sure?")
        assert (answer.accepted, answer.text) == (True, "yes")
        declined = request_input("Really?", key="sure")
        assert (declined.accepted, declined.text, declined.content) == (False, None, None)
    assert [(said.key, said.question is None) for said in front.heard] == [
        ("question-1", False), ("question-1", True), ("sure", False), ("sure", True),
    ]  # fmt: skip
    assert front.inquiries.state() == ((), frozenset())


def test_a_key_is_never_used_twice():
    front = Front(*[YES] * 5)
    with front.job():
        for key in ("a", "a", None, "a-2", "question-1"):
            request_input("Sure?", key=key)
    keys = [said.key for said in front.heard if said.question]
    assert keys == ["a", "a-2", "question-1", "a-2-2", "question-1-2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"message": " "}, "message is ' '; it must be a text"),
        ({"message": "x" * 9_000}, "message has 9000 characters"),
        ({"message": "?", "key": "a b"}, "key is 'a b'; it must be 1 to 64 letters"),
        ({"message": "?", "timeout_seconds": -1}, "timeout_seconds is -1"),
        ({"message": "?", "timeout_seconds": 1e12}, "timeout_seconds is 1000000000000.0; it may be at most"),
        ({"message": "?", "schema": 3}, "schema is 3"),
    ],
)
def test_an_invalid_question_is_refused_before_it_is_asked(arguments: dict[str, Any], says: str):
    front = Front()
    with front.job(), pytest.raises(InvalidInput) as refused:
        request_input(**arguments)
    assert says in str(refused.value)
    assert front.heard == []


def test_the_owner_of_the_record_decides_if_an_answer_came_in_time():
    front = Front()
    with front.job():
        _later(front, EXPIRED, when=lambda said: said.expired)
        with pytest.raises(AnswerTimeout, match=r"within 0\.05 s"):
            request_input("Anybody?", timeout_seconds=0.05)
        _later(front, YES, when=lambda said: said.expired)
        assert request_input("Anybody?", timeout_seconds=0.05).accepted
        _later(front, "the disk is full", when=lambda said: said.question is not None)
        with pytest.raises(StoreError, match="the disk is full"):
            request_input("Anybody?")


def _later(front: Front, answer: InputAnswer | str, when: Any) -> None:
    """Answer the next question from another thread, once this was heard of it."""
    begin = len(front.heard)

    def reply() -> None:
        said = eventually(lambda: [each for each in front.heard[begin:] if when(each)])[0]
        given = (None, answer) if isinstance(answer, str) else (answer, None)
        front.inquiries.resolve(said.key, *given)

    threading.Thread(target=reply, daemon=True).start()


def test_a_waiting_thread_gets_the_cancel_and_the_end_of_its_body():
    for end, error in ((lambda f: setattr(f, "cancelled", True), JobCancelled), (_close, NotInJob)):
        front, raised = Front(), list[BaseException]()

        def wait(front: Front = front, raised: list[BaseException] = raised) -> None:
            try:
                request_input("Anybody?")
            except BaseException as caught:  # noqa: BLE001  the test looks at it
                raised.append(caught)

        with front.job():
            thread = threading.Thread(target=wait)
            thread.start()
            eventually(lambda front=front: front.heard)
            end(front)
            thread.join(30)
        assert [type(each) for each in raised] == [error]


def _close(front: Front) -> None:
    front.inquiries.close()


async def test_on_a_loop_the_answer_is_awaited_and_several_are_open_at_once():
    front = Front()

    with front.job():
        both = asyncio.gather(request_input("One?", key="one"), request_input("Two?", key="two"))
        while len(front.inquiries.state()[0]) < 2:
            await asyncio.sleep(0)
        front.inquiries.resolve("two", InputAnswer("cancel"))
        front.inquiries.resolve("one", YES)
        assert await both == [YES, InputAnswer("cancel")]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(request_input("Three?", key="three"), 0.01)
        assert front.heard[-1] == QuestionEvent("three")
        front.inquiries.resolve("three", YES)  # too late, and no harm


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_cannot_ask():
    front = Front(YES)
    with front.job():
        pid = os.fork()
        if pid == 0:
            try:
                request_input("Anybody?")
            except InvalidInput:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


class Colour(BaseModel):
    colour: str


async def test_the_stand_in_of_the_context_elicits_as_the_sdk_does(monkeypatch: pytest.MonkeyPatch):
    blue = InputAnswer("accept", {"colour": "blue"})
    front = Front(blue, InputAnswer("decline"), InputAnswer("cancel"), blue, InputAnswer("accept", {}))

    with front.job():
        said = await BodyContext().elicit("Which?", Colour)
        assert isinstance(said, AcceptedElicitation)
        assert said.data == Colour(colour="blue")
        assert isinstance(await BodyContext().elicit("Which?", Colour), DeclinedElicitation)
        assert isinstance(await BodyContext().elicit("Which?", Colour), CancelledElicitation)
        monkeypatch.delitem(__import__("sys").modules, "mcp.server.elicitation")
        assert await BodyContext().elicit("Which?", Colour) == Elicited("accept", Colour(colour="blue"))
        with pytest.raises(ValueError, match="the answer does not fit Colour"):
            await BodyContext().elicit("Which?", Colour)
