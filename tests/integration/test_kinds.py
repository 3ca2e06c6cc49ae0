"""Jobs of the framework: submitted, followed and cancelled by their tokens, in worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server import (
    AsyncJob,
    CommandJob,
    FunctionJob,
    InMemoryJobStore,
    InvalidInput,
    JobManager,
    JobNotFound,
    JobResult,
    Limits,
    ResultNotReady,
)
from python_mcp_server.jobs.request import request_of
from python_mcp_server.options import JobOptions, Retry
from tests.helpers import eventually, job_kinds, python, run_python
from tests.helpers.managers import LONG_S, lines, manager

posix = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
FAMILY = Path(__file__).parents[1] / "helpers" / "family.py"


async def result_of(jobs: JobManager, job: Any, *args: Any, **kwargs: Any) -> JobResult:
    """Submit a job, wait for its end, and return its result."""
    token = await jobs.submit(job, *args, **kwargs)
    _, timed_out = await jobs.wait(token, LONG_S)
    assert not timed_out
    return await jobs.get_result(token)


async def begun(path: Path) -> str:
    """Wait until a job has noted its start, and return the note."""
    return (await asyncio.to_thread(eventually, lambda: lines(path)))[0]


async def test_a_job_is_followed_by_its_token_to_its_result():
    async with manager() as jobs:
        job = job_kinds.Resize(["a.png", "b.png"])
        assert (job.id, job.state, job.get_progress()) == (None, None, None)
        token = await jobs.submit(job)
        assert job.id == token
        seen = [status async for status in jobs.watch(token)]
        done = {"current": 2, "total": 2, "message": "b.png", "percentage": 100.0}
        assert seen[-1] == {"token": token, "state": "completed", "progress": done}
        assert {status["state"] for status in seen} <= {"queued", "running", "completed"}
        result = await jobs.get_result(token)
        assert (result.success, result.data, result.error) == (True, 2, None)
        assert result.metadata["pid"] != os.getpid()
        assert (job.state, job.is_cancelled) == ("completed", False)
        progress = job.get_progress()
        assert progress is not None
        assert progress.percentage == 100


async def test_a_job_shows_in_the_records_under_the_name_of_its_kind():
    async with manager() as jobs:
        tokens = [
            await jobs.submit(job_kinds.Resize([]), label="the small ones"),
            await jobs.submit(job_kinds.double, 1),
            await jobs.submit(CommandJob("true")),
        ]
        shown = [(await jobs.wait(token, LONG_S))[0] for token in tokens]
    told = [(job.tool, job.label) for job in shown]
    assert told == [("resize", "the small ones"), ("double", "double"), ("command", "true")]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (5, JobResult(success=True, data=5)),
        (JobResult(success=True), JobResult(success=True)),
        (JobResult(success=True, data=[1], error="one was left out"),) * 2,
        (JobResult(success=False, data=[1], error="two are missing", metadata={"missing": 2}),) * 2,
        (JobResult(success=False),) * 2,
        ({1, 2}, JobResult(success=True, data=[1, 2])),
        (
            JobResult(success=False, data=Path("x"), error="no", metadata={"at": Path("y")}),
            JobResult(success=False, data="x", error="no", metadata={"at": "y"}),
        ),
    ],
)
async def test_a_result_is_read_as_it_was_returned(value: Any, result: JobResult):
    async with manager() as jobs:
        token = await jobs.submit(job_kinds.Answer(value))
        job, _ = await jobs.wait(token, LONG_S)
        assert await jobs.get_result(token) == result
        assert job.status.value == ("completed" if result.success else "failed")
        assert job.error_kind == (None if result.success else "unsuccessful")
    async with manager() as others:
        assert await others.get_result(token) == result
        assert others.store.retrieve(token) == result


async def test_a_job_that_raises_has_failed_and_its_result_says_why():
    async with manager() as jobs:
        token = await jobs.submit(job_kinds.Answer(ValueError("not this one")))
        await jobs.wait(token, LONG_S)
        result, status = await jobs.get_result(token), await jobs.get_status(token)
        assert not result.success
        assert (result.error or "").startswith("ValueError: not this one")
        assert result.metadata == {"error_kind": "exception"}
        assert (status["state"], status["error_kind"]) == ("failed", "exception")


async def test_functions_are_jobs_too():
    async with manager() as jobs:
        assert await result_of(jobs, job_kinds.double, 4, plus=1) == JobResult(success=True, data=9)
        assert (await result_of(jobs, job_kinds.double_later, 4)).data == 8
        assert (await result_of(jobs, FunctionJob(lambda n: n + 1, 4))).data == 5
        assert (await result_of(jobs, job_kinds.decorated, 4)).data == 8
        assert (await result_of(jobs, job_kinds.Twice(job_kinds.double, 4))).data == [8, 8]
        assert await result_of(jobs, job_kinds.verdict, 1) == JobResult(success=True, data=[1])
        small = await result_of(jobs, job_kinds.verdict, 0)
        assert small == JobResult(success=False, data=[0], error="0 is too small")


async def test_a_job_with_slots_or_other_data_reaches_its_worker_whole():
    class Local(AsyncJob):
        def __init__(self, data: Any) -> None:
            super().__init__("local")
            self.data = data

        async def execute(self) -> str:
            return repr(self.data)

    async with manager() as jobs:
        assert (await result_of(jobs, job_kinds.Slotted(3))).data == 3
        assert (await result_of(jobs, Local((1, {2})))).data == "(1, {2})"


# ---- commands


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may still be waited for."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@posix
async def test_a_command_answers_its_output_and_succeeds_with_code_0(tmp_path: Path):
    async with manager() as jobs:
        shell = await result_of(jobs, CommandJob('echo "$WORD"; pwd', cwd=tmp_path, env={"WORD": "a b"}))
        assert (shell.success, shell.data["stdout"]) == (True, f"a b\n{tmp_path}\n")
        plain = await result_of(jobs, CommandJob(["echo", "$WORD; x"]))
        assert plain.data["stdout"] == "$WORD; x\n"
        failed = await result_of(jobs, CommandJob("echo no >&2; exit 3"))
        assert (failed.success, failed.error) == (False, "the command exited with code 3")
        assert (failed.data["stderr"], failed.data["exit_code"]) == ("no\n", 3)
        built = await result_of(jobs, job_kinds.Build("echo built"))
        assert built == JobResult(success=True, data="BUILT\n", metadata={"steps": 1})


@posix
async def test_a_command_at_its_time_limit_has_failed_with_its_output():
    async with manager() as jobs:
        token = await jobs.submit(CommandJob("echo begun; sleep 600", timeout_seconds=0.5))
        job, _ = await jobs.wait(token, LONG_S)
        result = await jobs.get_result(token)
        assert (job.status.value, job.error_kind) == ("failed", "time_limit")
        assert result.error == "the command was ended at its time limit of 0.5 s"
        assert result.data["stdout"] == "begun\n"


@posix
async def test_a_cancelled_command_may_clean_up_and_leaves_no_process(tmp_path: Path):
    notes = tmp_path / "notes"
    script = f"""
        trap 'echo told >> {notes}' TERM
        {sys.executable} {FAMILY} plain session daemon deaf >> {notes} &
        while true; do sleep 1; done
    """
    async with manager() as jobs:
        token = await jobs.submit(CommandJob(script))
        await asyncio.to_thread(eventually, lambda: len(lines(notes)) == 6)
        pids = [int(line.split()[1]) for line in lines(notes)]
        assert await jobs.cancel_job(token)
        assert lines(notes)[6:] == ["told"]
        assert not [pid for pid in pids if lives(pid)]
        assert await jobs.get_result(token) == JobResult(
            success=False, error="cancelled", metadata={"error_kind": "cancelled"}
        )
        assert not await jobs.cancel_job(await ended_token(jobs))


async def ended_token(jobs: JobManager) -> str:
    token = await jobs.submit(job_kinds.double, 1)
    await jobs.wait(token, LONG_S)
    return token


# ---- cancelling


async def test_a_cancelled_job_is_interrupted_where_it_waits(tmp_path: Path):
    notes = tmp_path / "notes"
    async with manager() as jobs:
        job = job_kinds.Hold(str(notes), str(tmp_path / "gate"))
        token = await jobs.submit(job)
        pid = (await begun(notes)).split()[1]
        assert lines(notes) == [f"started {pid} as {token}, running"]
        assert not job.is_cancelled
        await AsyncJob.cancel(job)
        assert lines(notes)[1:] == ["cleaned up, cancelled: True"]
        assert not lives(int(pid))
        assert (job.state, job.is_cancelled) == ("cancelled", True)


@pytest.mark.parametrize(("kind", "said"), [(job_kinds.Busy, "saw it"), (job_kinds.Deaf, "interrupted")])
async def test_a_job_that_never_awaits_hears_of_its_cancel(kind: Any, said: str, tmp_path: Path):
    notes = tmp_path / "notes"
    async with manager(cancel_grace_seconds=LONG_S) as jobs:
        token = await jobs.submit(kind(str(notes)))
        await begun(notes)
        assert await jobs.cancel_job(token)
        assert lines(notes)[1:] == [said]
        assert (await jobs.get_result(token)).error == "cancelled"


# ---- inline


async def test_an_inline_job_runs_in_this_process_and_is_cancelled_there(tmp_path: Path):
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    async with manager() as jobs:
        held, cancelled = (job_kinds.InlineHold(str(notes), str(gate)) for _ in range(2))
        first = await jobs.submit(held)
        assert (await begun(notes)) == f"started {os.getpid()} as {first}, running"
        second = await jobs.submit(cancelled)
        assert await jobs.cancel_job(second)
        gate.touch()
        await jobs.wait(first, LONG_S)
        assert (await jobs.get_result(first)).data == "held"
        assert (held.state, cancelled.state) == ("completed", "cancelled")


# ---- progress


@pytest.mark.parametrize("kind", [job_kinds.Counting, job_kinds.InlineCounting])
async def test_a_job_that_overrides_get_progress_is_asked(kind: Any, tmp_path: Path):
    gate = tmp_path / "gate"
    async with manager(sample_seconds=0.05) as jobs:
        token = await jobs.submit(kind(str(gate)))
        status = await jobs.get_status(token)
        async for status in jobs.watch(token):
            if status["progress"]["current"] == 1:
                assert status["progress"]["percentage"] == 25
                gate.touch()
        assert status["progress"] == {"current": 4, "total": 4, "message": "counted", "percentage": 100}
        assert status["state"] == "completed"


async def test_a_get_progress_that_raises_costs_the_job_nothing(tmp_path: Path):
    (tmp_path / "gate").touch()
    async with manager() as jobs:
        assert await result_of(jobs, job_kinds.Unasked(str(tmp_path / "gate"))) == JobResult(True, 4)


# ---- limits


async def test_a_job_has_the_time_limit_of_its_kind_or_of_its_submit():
    async with manager() as jobs:
        late = await result_of(jobs, job_kinds.Short())
        assert (late.success, late.metadata) == (False, {"error_kind": "time_limit"})
        assert late.error == "ended at its time limit of 0.2 s"
        assert (await result_of(jobs, job_kinds.Short(), timeout_seconds=0)).data == "late"
        assert (await result_of(jobs, job_kinds.Short(), timeout_seconds=LONG_S)).data == "late"
        own = Limits(timeout_seconds=LONG_S)
        assert (await result_of(jobs, job_kinds.Short(), limits=own)).data == "late"
        wrong: Any = 5
        with pytest.raises(InvalidInput, match="limits is 5; it must be Limits"):
            await jobs.submit(job_kinds.Short(), limits=wrong)
        with pytest.raises(InvalidInput, match="timeout_seconds is -1"):
            await jobs.submit(job_kinds.Short(), timeout_seconds=-1)


def test_a_job_that_names_no_time_limit_has_five_minutes():
    asked = [request_of(job) for job in (job_kinds.Resize([]), FunctionJob(print), CommandJob("true"))]
    assert [request.limits and request.limits.timeout_seconds for request in asked] == [300, 300, None]
    assert asked[2].args[2] == 300
    assert request_of(CommandJob("true", timeout_seconds=0)).args[2] == 0
    assert request_of(CommandJob("true", limits=Limits(timeout_seconds=5))).args[2] == 5


def test_a_job_is_queued_as_its_kind_says_or_its_submit():
    class Image(job_kinds.Resize):
        queue, priority, retry = "images", 5, Retry(attempts=3)

    kind = JobOptions(queue="images", priority=5, retry=Retry(attempts=3))
    assert request_of(job_kinds.Resize([])).options is None
    assert request_of(Image([])).options == kind
    assert request_of(Image([]), priority=7, after=["x"]).options == replace(kind, priority=7, after=("x",))
    with pytest.raises(InvalidInput, match=r"^submit has no option 'prio'; it has label, .*priority"):
        request_of(Image([]), prio=7)
    with pytest.raises(InvalidInput, match=r"^priority is 1000; it must be a whole number from -100 to 100"):
        request_of(Image([]), priority=1000)


async def test_only_so_many_jobs_run_at_once(tmp_path: Path):
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    async with JobManager(max_concurrent_jobs=1) as jobs:
        first = await jobs.submit(job_kinds.Hold(str(notes), str(gate)))
        await begun(notes)
        second = await jobs.submit(job_kinds.double, 2)
        assert (await jobs.get_status(second))["state"] == "queued"
        for word, token in (("queued", second), ("pending", second), ("running", first)):
            assert [status["token"] for status in await jobs.list_jobs(word)] == [token]
        with pytest.raises(ResultNotReady, match="because it is queued; wait"):
            await jobs.get_result(second)
        with pytest.raises(ValueError, match="because it is running"):
            await jobs.get_result(first)
        gate.touch()
        await jobs.wait(second, LONG_S)
        assert [status["token"] for status in await jobs.list_jobs()] == [second, first]
        assert [status["token"] for status in await jobs.list_jobs("completed", 1)] == [second]


# ---- restarts


async def test_a_queued_job_of_a_closed_manager_is_started_by_the_next(tmp_path: Path):
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    async with manager(max_background_jobs=1) as closing:
        first = await closing.submit(job_kinds.Hold(str(notes), str(gate)))
        await begun(notes)
        second = await closing.submit(job_kinds.Resize(["a"]))
        third = await closing.submit(job_kinds.double, 3)
    async with manager(max_background_jobs=1) as opened:
        gate.touch()
        for token in (first, second, third):
            await opened.wait(token, LONG_S)
        results = [(await opened.get_result(token)).data for token in (first, second, third)]
        assert results == ["held", 1, 6]


PROGRAM = """
import asyncio, json, sys
from python_mcp_server import AsyncJob, JobManager, JobResult

class Resize(AsyncJob):
    def __init__(self, paths):
        super().__init__("resize")
        self.paths = paths

    async def execute(self):
        for n, path in enumerate(self.paths, 1):
            if self.is_cancelled:
                return JobResult(success=False, error="cancelled")
            self.report_progress(n, len(self.paths), path)
        return JobResult(success=True, data=len(self.paths), metadata={"kind": "png"})

async def main():
    async with JobManager(max_concurrent_jobs=10) as manager:
        token = await manager.submit(Resize(["a", "b", "c"]))
        states = [status["state"] async for status in manager.watch(token)]
        print(json.dumps([token, states[-1], (await manager.get_status(token))["progress"]]))

if __name__ == "__main__":
    asyncio.run(main())
"""
READER = """
import asyncio, json, sys
from python_mcp_server import JobManager

async def main():
    async with JobManager() as manager:
        result = await manager.get_result(sys.argv[1])
        print(json.dumps([result.success, result.data, result.error, result.metadata]))

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["file", "text"])
def test_a_program_submits_its_own_kind_and_another_reads_the_result(how: str, tmp_path: Path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    done = run_python(path) if how == "file" else run_python("-c", PROGRAM)
    assert done.stderr == ""
    token, state, progress = json.loads(done.stdout)
    assert state == "completed"
    assert progress == {"current": 3, "total": 3, "message": "c", "percentage": 100.0}
    read = run_python("-c", READER, token)
    assert json.loads(read.stdout) == [True, 3, None, {"kind": "png"}]


SUBMITTER = """
import asyncio, sys
from python_mcp_server import CommandJob, JobManager
from tests.helpers.job_kinds import HoldAndFail

async def main():
    async with JobManager() as manager:
        command = CommandJob(f"trap 'echo told' TERM; touch {sys.argv[3]}; sleep 600")
        jobs = HoldAndFail(sys.argv[1], sys.argv[2]), command
        print(*[await manager.submit(job) for job in jobs], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@posix
def test_a_job_outlives_a_killed_program_and_ends_as_it_would_have(tmp_path: Path):
    notes, gate, up = (tmp_path / name for name in ("notes", "gate", "up"))
    with python("-c", SUBMITTER, notes, gate, up) as program:
        assert program.stdout is not None
        held, command = program.stdout.readline().split()
        eventually(lambda: lines(notes) and up.exists())
        program.kill()
        program.wait()
    gate.touch()
    jobs = JobManager()
    eventually(lambda: jobs.blocking.get(held).status.terminal)
    assert jobs.store.retrieve(held) == JobResult(False, [1], "not enough", {"of": 2})
    assert jobs.blocking.cancel(command).status.value == "cancelled"
    assert jobs.blocking.output(command).text == "told\n"
    jobs.store.close()


# ---- what is refused


async def test_what_is_no_job_is_refused_in_a_sentence():
    async with manager(InMemoryJobStore()) as jobs:
        with pytest.raises(InvalidInput, match=r"^Resize is a kind of job; give a job of it, as Resize\("):
            await jobs.submit(job_kinds.Resize)  # type: ignore[call-overload]
        with pytest.raises(InvalidInput, match=r"^<coroutine .*> is no function; give the function"):
            await jobs.submit(job_kinds.double_later(1))  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"^a job takes no arguments, and 1 were given"):
            await jobs.submit(job_kinds.Resize([]), 5)  # type: ignore[call-overload]
        job = job_kinds.Resize([])
        token = await jobs.submit(job)
        with pytest.raises(InvalidInput, match=f"^this job was submitted before, as {token}"):
            await jobs.submit(job)
        with pytest.raises(InvalidInput, match=r"^state is 'done'; it must be one of queued, running, comp"):
            await jobs.list_jobs("done")
        with pytest.raises(InvalidInput, match="the command is empty"):
            await jobs.run(CommandJob(" "), budget_s=LONG_S)
        for ask in (jobs.get_status, jobs.get_result, jobs.cancel_job):
            with pytest.raises(JobNotFound, match=r"^Job nowhere not found$") as error:
                await ask("nowhere")
            assert isinstance(error.value, ValueError)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InvalidInput, match=f"max_concurrent_jobs is {wrong}; it must be a whole number"):
            JobManager(max_concurrent_jobs=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="the name of a kind of job is ''; it must be a text"):
        AsyncJob.__init__(job, "")


async def test_a_job_runs_within_a_budget_too():
    async with manager() as jobs:
        result = await jobs.run(job_kinds.Resize(["a"]), budget_s=LONG_S)
        assert (result.value.success, result.value.data) == (True, 1)


async def test_a_get_progress_that_exits_fails_no_job():
    async with manager() as jobs:
        assert (await result_of(jobs, job_kinds.AskedToExit("asked"))).data == "done"


async def test_an_inline_body_that_raises_cancelled_error_has_failed():
    async with manager() as jobs:
        token = await jobs.submit(job_kinds.InlineCancelled("odd"))
        job, _ = await jobs.wait(token, LONG_S)
        assert (job.status, job.error_kind) == ("failed", "exception")


async def test_a_function_job_with_a_clean_up_may_ask_to_run_again(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        job = job_kinds.TidySnooze(job_kinds.snooze_once, str(log))
        assert (await result_of(jobs, job)).data == "done"
    assert lines(log) == ["called", "called"]


async def test_an_object_that_is_submitted_twice_at_one_instant_makes_one_job():
    async with manager() as jobs:
        job = job_kinds.Answer(1)
        tokens = await asyncio.gather(*(jobs.submit(job) for _ in range(3)), return_exceptions=True)
        made = [token for token in tokens if isinstance(token, str)]
        assert (made, len((await jobs.list())[0])) == ([job.id], 1)
        assert all("is being submitted" in str(error) for error in tokens if not isinstance(error, str))
        await jobs.wait(made[0], LONG_S)


async def test_an_object_whose_submission_was_refused_can_be_submitted():
    async with manager() as jobs:
        job = job_kinds.Answer(1)
        with pytest.raises(InvalidInput):
            await jobs.submit(job, resources={"gpu": 1})
        assert (await result_of(jobs, job)).data == 1


async def test_what_cannot_be_sent_to_a_worker_is_refused_at_its_submission():
    async with manager() as jobs:
        for job in (job_kinds.WithLock(), FunctionJob(len, threading.Lock())):
            with pytest.raises(InvalidInput, match="cannot be sent to a worker"):
                await jobs.submit(job)
            assert job.id is None
        assert await jobs.list() == ([], False)


async def test_a_command_in_a_missing_directory_is_refused_unless_it_waits(tmp_path: Path):
    async with manager() as jobs:
        place = tmp_path / "later"
        with pytest.raises(InvalidInput, match="is no directory"):
            await jobs.submit(CommandJob("pwd", cwd=place))
        first = await jobs.submit(CommandJob(["mkdir", str(place)]))
        assert (await result_of(jobs, CommandJob("pwd", cwd=place), after=[first])).success


async def test_a_program_that_is_missing_fails_its_job_with_one_sentence():
    async with manager() as jobs:
        told = await result_of(jobs, CommandJob(["no-such-program"]))
        assert "no-such-program" in (told.error or "")
        assert "Traceback" not in (told.error or "")


async def test_the_exception_of_a_cancel_is_in_the_output_of_its_job(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        token = await jobs.submit(job_kinds.BadCleanUp(str(log), str(tmp_path / "gate")))
        await begun(log)
        assert (await jobs.cancel(token)).status == "cancelled"
        assert "ValueError: no clean-up" in (await jobs.output(token, "stderr")).text
