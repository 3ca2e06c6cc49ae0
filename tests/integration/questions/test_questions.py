"""What a body asks is in its job's record, and whoever answers first has answered: from this process or
another one, also after the end of the server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, QuestionNotOpen, StoreError
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.questions.model import InputAnswer
from python_mcp_server.store.files import FileJobStore
from tests.helpers import eventually, question_bodies
from tests.helpers.managers import LONG_S, handed_over, lines, manager
from tests.helpers.survival import ended, look, server
from tests.helpers.warm_manager import WarmManager

BLUE = InputAnswer("accept", {"answer": "blue"})


def number(n: int) -> InputAnswer:
    return InputAnswer("accept", {"n": n})


def keys_of(job: Job) -> set[str]:
    return {question.key for question in job.open_questions}


def asks(home: Path, job_id: str, *keys: str) -> Job:
    """Wait until a job asks exactly this, as another process sees it."""

    def seen() -> Job | None:
        job = look(home, job_id)
        return job if keys_of(job) == {*keys} else None

    return eventually(seen)


async def asking_now(jobs: JobManager, job_id: str, *keys: str) -> Job:
    """Wait until a job asks exactly this, as its own process sees it."""
    while keys_of(job := await jobs.get(job_id)) != {*keys}:
        assert not job.status.terminal, job.error
        await asyncio.sleep(0.01)
    return job


async def result(jobs: JobManager, job_id: str) -> Any:
    job, _ = await jobs.wait(job_id, LONG_S)
    assert job.status is JobState.COMPLETED, job.error
    return job.result


def test_a_question_hands_the_call_over_and_the_first_answer_counts(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        asked = await jobs.run(Request(question_bodies.colour), budget_s=LONG_S)
        assert (asked.handed_over, asked.status) == (True, JobState.INPUT_REQUIRED)
        assert "'colour': Which colour?" in str(asked.message)
        record = FileJobStore(warm.home).get(asked.job_id)
        assert record is not None
        assert (record.status, [each.key for each in record.questions]) == (asked.status, ["colour"])
        assert record.background

        with pytest.raises(InvalidInput, match="lacks 'answer'"):
            await jobs.answer(asked.job_id, {"colour": InputAnswer("accept", {})})
        both = {"colour": BLUE, "shape": BLUE}
        with pytest.raises(QuestionNotOpen, match=r"no open question 'shape'.*open: 'colour'"):
            await jobs.answer(asked.job_id, both)
        taken = await jobs.answer(asked.job_id, {"colour": BLUE})
        assert taken.status is JobState.RUNNING
        with pytest.raises(QuestionNotOpen):
            await jobs.answer(asked.job_id, {"colour": BLUE})
        assert await result(jobs, asked.job_id) == ["accept", "blue"]
        with pytest.raises(QuestionNotOpen, match="has ended as completed"):
            await jobs.answer(asked.job_id, {"colour": BLUE})
        kept = FileJobStore(warm.home).get(asked.job_id)
        assert kept is not None
        assert kept.questions == ()
        assert (await jobs.answer(asked.job_id, {"colour": BLUE}, lenient=True)).status == kept.status

    warm.run(main)


@pytest.mark.parametrize(
    ("body", "keys"),
    [(question_bodies.threads_ask, ("one", "two")), (question_bodies.tasks_ask, ("n", "n-2"))],
)
def test_each_of_several_questions_is_answered_from_another_process_too(
    warm: WarmManager, body: Any, keys: tuple[str, str]
):
    async def main(jobs: JobManager) -> None:
        job = await jobs.submit_request(Request(body))
        await asking_now(jobs, job.id, *keys)
        stranger = JobManager(FileJobStore(warm.home))
        half = await asyncio.to_thread(stranger.blocking.answer, job.id, {keys[1]: number(2)})
        assert half.status is JobState.INPUT_REQUIRED
        await asking_now(jobs, job.id, keys[0])  # its owner sees it
        whole = await asyncio.to_thread(stranger.blocking.answer, job.id, {keys[0]: InputAnswer("decline")})
        assert whole.status is JobState.RUNNING
        assert await result(jobs, job.id) == [None, {"n": 2}]

    warm.run(main)


@pytest.mark.skipif(os.name != "posix", reason="the main thread of a body hears a signal")
@pytest.mark.parametrize(
    "body", [question_bodies.colour, question_bodies.threads_ask, question_bodies.tasks_ask]
)
async def test_a_body_that_waits_hears_its_cancel(body: Any, tmp_path: Path):
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        starts = tmp_path / "starts"
        asked = await jobs.run(Request(body, (str(starts),)), budget_s=LONG_S)
        job = await jobs.cancel(asked.job_id)
        assert (job.status, job.questions) == (JobState.CANCELLED, ())
        assert lines(starts) == ["started", "cleaned up"]
        with pytest.raises(QuestionNotOpen, match="has ended as cancelled"):
            await jobs.answer(asked.job_id, {asked.questions[0].key: BLUE})


def test_a_question_is_withdrawn_at_its_time_limit_and_without_a_waiter(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        late = await handed_over(jobs, question_bodies.hurried, 0.3, budget_s=LONG_S)
        assert late.questions[0].expires_at is not None
        assert await result(jobs, late.job_id) == "nobody answered the question 'question-1' within 0.3 s"

        job = await jobs.submit_request(Request(question_bodies.gives_up))
        await asking_now(jobs, job.id, "quick")
        assert [each.key for each in look(warm.home, job.id).questions] == ["quick"]
        await jobs.answer(job.id, {"quick": InputAnswer("cancel")})
        assert await result(jobs, job.id) == "cancel"

    warm.run(main)


async def test_an_inline_body_can_ask_and_an_unrecorded_question_is_an_error():
    class Full(FileJobStore):
        def update(self, job_id: str, change: Any) -> Job:
            def checked(job: Job) -> Job:
                changed = change(job)
                if changed.open_questions:
                    raise StoreError("the disk is full")
                return changed

            return super().update(job_id, checked)

    async with manager() as jobs:
        asked = await jobs.run(Request(question_bodies.tasks_ask, isolation="inline"), budget_s=LONG_S)
        await asking_now(jobs, asked.job_id, "n", "n-2")
        await jobs.answer(asked.job_id, {"n": number(1), "n-2": number(2)})
        assert await result(jobs, asked.job_id) == [{"n": 1}, {"n": 2}]
        home = jobs.store.home
    async with manager(Full(home)) as jobs:
        said = await jobs.run(Request(question_bodies.fails_to_ask), budget_s=LONG_S)
        assert said.value == "StoreError: the disk is full"


@pytest.mark.skipif(os.name != "posix", reason="signals and sessions are those of POSIX")
def test_the_questions_of_a_killed_servers_jobs_are_still_answered(home: Path, tmp_path: Path):
    starts = str(tmp_path / "starts")
    calls = (
        ["colour"],
        ["asks_after", str(tmp_path)],
        ["threads_ask", starts],
        ["hurried_after", str(tmp_path)],
    )
    with server(*calls) as killed:
        open_before, asks_later, doomed, hurried = killed.ids
        asks(home, open_before, "colour")
        asks(home, doomed, "one", "two")
        eventually(lambda: len(lines(tmp_path / "starts")) == 3)
        killed.kill()
    stranger = JobManager(FileJobStore(home))
    answered = stranger.blocking.answer(open_before, {"colour": BLUE})
    assert answered.status is JobState.RUNNING
    assert ended(home, open_before).result == ["accept", "blue"]
    (tmp_path / "on").touch()
    asks(home, asks_later, "colour")
    assert look(home, asks_later).status is JobState.INPUT_REQUIRED
    stranger.blocking.answer(asks_later, {"colour": InputAnswer("decline")})
    assert ended(home, asks_later).result == ["decline", None]
    assert stranger.blocking.cancel(doomed).status is JobState.CANCELLED
    assert ended(home, hurried).result.startswith("nobody answered")
