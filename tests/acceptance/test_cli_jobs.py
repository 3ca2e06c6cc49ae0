"""`jobs`, from a process that did not start them: this one, and a real command line where it matters."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.questions.model import Question
from python_mcp_server.tools.scripts import run_script_in_dir
from tests.helpers import eventually, python, run, run_python
from tests.helpers.command_line import command

JOBS = ("-m", "python_mcp_server", "jobs")
WAITING = """\
import os, sys, time
print("begin", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
print("end", flush=True)
"""


def call(*words: str, code: int = 0) -> Any:
    """Return what `jobs` answers as JSON; it must say nothing else."""
    told = command("jobs", *words, "--json")
    assert told.returncode == code, told
    return json.loads(told.stdout)


def stored(status: JobState, **facts: Any) -> str:
    job = Job(new_job_id(), "made", status, utc_now(), completed_at=utc_now(), **facts)
    JobManager().store.create(job)
    return job.id


@pytest.fixture
def running(tmp_path: Path) -> Generator[str]:
    """A script that runs in a `run` of its own, until there is a file named `go`."""
    (tmp_path / "waiting.py").write_text(WAITING)
    words = ("-m", "python_mcp_server", "run", "--cwd", tmp_path, tmp_path / "waiting.py")
    with python(*words) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            yield eventually(lambda: JobManager().blocking.list(JobState.RUNNING)[0])[0].id
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_running_job_is_listed_shown_and_read(running: str) -> None:
    listed = call("list", "--status", "running")
    assert [job["id"] for job in listed["jobs"]] == [running]
    assert (listed["total"], listed["more"]) == (1, False)
    assert call("show", running)["job"]["label"] == "waiting.py"
    page = call("output", running, "--limit", "3")
    assert page == {"text": "beg", "next_offset": 3, "total_bytes": 6, "eof": False}
    assert call("wait", running, "--timeout", "0", code=124)["timed_out"]
    for told in (run_python(*JOBS, "list").stdout, command("jobs", "show", running).stdout):
        assert running in told
        assert "waiting.py" in told


def test_following_shows_what_comes_until_the_end(running: str, tmp_path: Path) -> None:
    with python(*JOBS, "output", running, "--follow", "--offset", "2") as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "gin\n"
        (tmp_path / "go").touch()
        assert reader.stdout.read() == "end\n"
        assert reader.wait(60) == 0
    assert call("wait", running)["job"]["status"] == "completed"


def test_cancelling_from_here_ends_a_job_of_another_process(running: str) -> None:
    assert call("cancel", running)["status"] == "cancelled"
    assert call("show", running)["job"]["status"] == "cancelled"


def test_waiting_can_be_interrupted(running: str) -> None:
    with python(*JOBS, "wait", running) as waiter:
        eventually(lambda: "_asyncio" in Path(f"/proc/{waiter.pid}/maps").read_text())
        waiter.send_signal(signal.SIGINT)
        _, said = waiter.communicate(timeout=60)
    # where the signal met an import that compiles a text, CPython dies of it though it was handled
    assert waiter.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("status", "code"), [(JobState.COMPLETED, 0), (JobState.FAILED, 1), (JobState.CANCELLED, 1)]
)
def test_waiting_says_by_its_exit_code_how_a_job_ended(status: JobState, code: int) -> None:
    job_id = stored(status, error="ValueError: no\n\nTraceback ..." if status is JobState.FAILED else None)
    told = command("jobs", "wait", job_id)
    assert told.returncode == code
    assert told.stdout.startswith(f"{job_id} {status}")
    assert told.stdout.count("\n") == 1


def test_what_a_job_asks_and_how_it_failed_cannot_steer_the_terminal() -> None:
    asks = Question("a", "A?\x1b[2J", {"properties": {}, "required": []}, "2026-01-01T00:00:00Z")
    job_id = stored(JobState.INPUT_REQUIRED, questions=(asks,))
    told = command("jobs", "wait", job_id, "--timeout", "0")
    answer = f"answer with: python-mcp-server jobs answer {job_id[:10]} a ..."
    assert told.stderr.splitlines() == [f"{job_id} asks: A? [2J", answer]
    failed = stored(JobState.FAILED, error="ValueError: \x1b[2J")
    assert command("jobs", "wait", failed).stdout == f"{failed} failed: ValueError:  [2J\n"


def test_cancelling_a_finished_job_leaves_it_as_it_is() -> None:
    job_id = stored(JobState.COMPLETED)
    answer = call("cancel", job_id, code=1)
    assert (answer["job_id"], answer["status"]) == (job_id, "completed")


def test_no_line_of_a_table_in_a_pipe_is_filled_up_with_blanks() -> None:
    job_id = stored(JobState.COMPLETED, result={"stdout": "x" * 3000, "exit_code": 0})
    stored(JobState.FAILED, error="y" * 3000)
    for words in (("show", job_id), ("list",)):
        lines = command("jobs", *words).stdout.splitlines()
        assert len(lines) > 2
        assert [line for line in lines if line.endswith(" ")] == []


def test_a_list_tells_how_to_see_the_older_jobs() -> None:
    old, new = sorted(stored(JobState.COMPLETED) for _ in range(2))
    told = command("jobs", "list", "--limit", "1")
    assert new in told.stdout
    assert told.stderr == f"and more; --before {new} goes on\n"
    assert call("list", "--limit", "1")["next_before"] == new
    assert [job["id"] for job in call("list", "--before", new)["jobs"]] == [old]
    assert command("jobs", "list", "--before", old).stdout == "no older jobs\n"
    assert command("jobs", "list", "--before", old[:20]).stdout == "no older jobs\n"


def test_pruning_removes_what_is_not_kept() -> None:
    kept, failed, cancelled = map(stored, (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED))
    assert call("prune") == {"removed": 0, "remaining": 3}
    assert call("prune", "--max-age-hours", "0") == {"removed": 1, "remaining": 2}
    assert call("prune", "--max-age-hours", "0", "--drop-failed") == {"removed": 1, "remaining": 1}
    assert [job["id"] for job in call("list")["jobs"]] == [kept]
    assert {failed, cancelled} & {job["id"] for job in call("list")["jobs"]} == set()


def test_pruning_says_what_would_remove_the_rest() -> None:
    for status in (JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED):
        stored(status)

    def told(*words: str) -> list[str]:
        return command("jobs", "prune", *words).stdout.splitlines()

    assert told("--drop-completed") == [
        "0 removed, 3 remaining",
        "completed: --max-age-hours 0 would remove 2",
    ]
    rest = ["2 removed, 1 remaining", "--drop-failed would remove 1"]
    assert told("--drop-completed", "--max-age-hours", "0") == rest
    assert told("--drop-failed", "--max-age-hours", "0") == ["1 removed, 0 remaining"]


@pytest.mark.parametrize("what", ["show", "wait", "output", "cancel"])
def test_an_unknown_id_is_one_sentence_and_exit_code_1(what: str) -> None:
    JobManager()  # makes the home
    told = command("jobs", what, "nobody", "--json")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "python-mcp-server: Job nobody not found\n"


def test_output_is_the_bytes_that_the_job_wrote(tmp_path: Path) -> None:
    async def finished() -> str:
        async with JobManager() as manager:
            code = "import os; os.write(2, bytes(range(256)) * 100)"
            job = await manager.submit_request(
                Request(run_script_in_dir, (str(tmp_path),), {"script_content": code})
            )
            await manager.wait(job.id, 60)
            return job.id

    job_id = run(finished())
    target = tmp_path / "copy"
    with (
        target.open("wb") as file,
        python(*JOBS, "output", job_id, "--stream", "stderr", stdout=file) as reader,
    ):
        assert reader.wait(60) == 0
    assert target.read_bytes() == bytes(range(256)) * 100


def test_statistics_are_shown_as_a_table_and_as_json() -> None:
    for status in (JobState.COMPLETED, JobState.FAILED):
        stored(status, tool="add")
    found = call("stats", "--window", "60", "--by", "kind")
    assert (found["total"]["completed"], found["groups"][0]["name"]) == (1, "add")
    told = command("jobs", "stats")
    assert told.returncode == 0
    heading, add, every, now = told.stdout.splitlines()
    assert heading.split()[:3] == ["KIND", "ENDED", "FAILED"]
    assert (add.split()[:3], every.split()[:3]) == (["add", "2", "1"], ["all", "2", "1"])
    assert now == "now: 0 ready, 0 delayed, 0 waiting, 0 running"
