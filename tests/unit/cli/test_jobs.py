from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import pytest

from python_mcp_server.cli import jobs as jobs_module
from python_mcp_server.cli.follow import Copy, Progress, Screen, copy_output
from python_mcp_server.cli.jobs import find_job, wait_for_job
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.questions.model import Question

ONE, OTHER = f"samea{0:025}1ne1", f"sameb{0:025}tw22"


@pytest.fixture
def manager() -> JobManager:
    made = JobManager()
    for name in (ONE, OTHER):
        made.store.create(Job(name, name, JobState.PENDING, utc_now()))
    return made


@pytest.mark.parametrize("typed", [ONE, "samea", "SameA0", "1ne1"])
def test_a_job_is_found_by_its_id_or_by_an_end_of_it(manager: JobManager, typed: str) -> None:
    assert find_job(manager, typed).id == ONE


@pytest.mark.parametrize("typed", ["same", "s"])
def test_a_beginning_that_fits_two_jobs_is_refused(manager: JobManager, typed: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{typed}', which fits several jobs"):
        find_job(manager, typed)


def test_a_beginning_finds_a_job_behind_any_number_of_newer_ones(
    manager: JobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_RECENT_JOBS", 1)
    old = new_job_id(utc_now() - timedelta(days=400))
    manager.store.create(Job(old, "old", JobState.PENDING, utc_now()))
    assert find_job(manager, old[:5]).id == old


@pytest.mark.parametrize("typed", ["nobody", "1ne", "", "../../etc"])
def test_an_end_that_is_too_short_or_fits_none_finds_nothing(manager: JobManager, typed: str) -> None:
    with pytest.raises(JobNotFound):
        find_job(manager, typed)


def never(_job: Job, question: Question) -> None:
    raise AssertionError(f"it does not ask {question.message}")


def test_a_waiting_caller_is_told_once_of_each_question(manager: JobManager) -> None:
    questions = tuple(Question(key, f"{key}?", {"properties": {}}, "2026-01-01T00:00:00Z") for key in "ab")
    job_id = new_job_id()
    manager.store.create(Job(job_id, "asking", JobState.INPUT_REQUIRED, utc_now(), questions=questions))
    told: list[str] = []
    wait_for_job(manager, job_id, 0.5, lambda _, question: told.append(question.message), lambda _: None)
    assert told == ["a?", "b?"]


def test_waiting_for_a_job_that_does_not_end_ends_with_the_time(manager: JobManager) -> None:
    seen: list[Job] = []
    job, timed_out = wait_for_job(manager, ONE, 0.0, never, seen.append)
    assert (job.id, timed_out) == (ONE, True)
    assert [job.id for job in seen] == [ONE]


@pytest.mark.parametrize(("offset", "limit"), [(-1, None), (0, 0), (0, -5)])
def test_an_impossible_page_is_refused(manager: JobManager, offset: int, limit: int | None) -> None:
    with pytest.raises(InvalidInput, match="or more"):
        copy_output(manager, ONE, "stdout", offset=offset, limit=limit, follow=False)


def test_a_pipe_gets_a_line_of_progress_now_and_then(
    manager: JobManager, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {0: "", 1: "1", 2: "2\x1b", 7: "3\x1b", 20: "3\x1b", 30: "", 31: "4"}
    now = [0]
    screen = Screen(None, Progress(lambda _job: "a bar", lambda _job: told[now[0]]), lambda: now[0])
    for now[0] in told:
        screen.show(manager.blocking.get(ONE))
    assert capsys.readouterr().err == "1\n3 \n4\n"


def test_a_copy_goes_on_where_it_was_and_changes_no_byte(tmp_path: Path) -> None:
    path, out = tmp_path / "stdout", io.BytesIO()
    copy = Copy(path, out)  # type: ignore[arg-type]
    assert copy.read() == b""
    path.write_bytes(b"\xff\x00one\r\n")
    copy.write(copy.read())
    with path.open("ab") as file:
        file.write(b"two\xe2")
    copy.write(copy.read())
    assert out.getvalue() == b"\xff\x00one\r\ntwo\xe2"
    assert copy.read() == b""
