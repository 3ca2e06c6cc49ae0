"""Jobs that failed for good: found, run again with the same or other arguments, and removed."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import AsyncJob, CommandJob, FunctionJob, InMemoryJobStore
from python_mcp_server.errors import InvalidInput, JobExpired
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from tests.helpers import framework_bodies as fb
from tests.helpers import job_kinds, run
from tests.helpers.command_line import command
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import run_python


async def ended(jobs: JobManager, job_id: str) -> Job:
    job, timed_out = await jobs.wait(job_id, LONG_S)
    assert not timed_out, job
    return job


async def failed(jobs: JobManager, body: Any, *args: Any, tool: str = "", **options: Any) -> str:
    request = Request(
        body,
        tuple(str(arg) if isinstance(arg, Path) else arg for arg in args),
        tool=tool,
        options=JobOptions(**options),
    )
    job = await ended(jobs, (await jobs.submit_request(request)).id)
    assert job.status is JobState.FAILED
    return job.id


def dead(store: Any, job_id: str, **facts: Any) -> str:
    """Put a dead letter into a store, and return its id."""
    body = {
        "body": "tests.helpers.framework_bodies:fail",
        "args": [],
        "kwargs": {},
        "file": None,
        "cwd": None,
    }
    known: dict[str, Any] = {"options": JobOptions(), "call": body, "error_kind": "exception"} | facts
    ends = {"completed_at": utc_now(), "background": True}
    store.create(Job(job_id, "made", JobState.FAILED, utc_now(), **ends, **known))
    return job_id


def call(*words: str | Path, code: int = 0) -> Any:
    told = command("jobs", "dead", *words, *([] if words[0] == "show" else ["--json"]))
    assert (told.returncode, told.stderr) == (code, ""), told
    return json.loads(told.stdout)


async def test_a_failed_job_runs_again_with_its_options_and_its_history(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        options = {"queue": "images", "priority": 3, "retry": Retry(2, wait=0)}
        first = await failed(jobs, fb.fail_until, log, 3, **options)
        job = await jobs.get(first)
        assert job.to_json()["retryable"] is True
        (letter,), more = await jobs.dead_letters.list()
        assert (letter.id, more) == (first, False)
        done = await ended(jobs, (await jobs.dead_letters.retry(first)).id)
        assert (done.result, done.attempt, done.options) == (3, 1, JobOptions(**options))
        assert [each["error"].splitlines()[0] for each in done.attempts] == [
            "ValueError: attempt 1 fails",
            "ValueError: attempt 2 fails",
        ]
        assert done.attempts[1]["job_id"] == first
        assert "retryable" not in done.to_json()
        assert await jobs.dead_letters.list() == ([], False)
        with pytest.raises(JobExpired, match=f"it was run again as {done.id}"):
            await jobs.get(first)
    assert len(lines(log)) == 3


async def test_arguments_are_changed_for_a_retry(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        first = await failed(jobs, fb.fail_unless, log, "worse")
        again = await jobs.dead_letters.retry(first, args=[log], kwargs={"also": "!"})
        assert (await ended(jobs, again.id)).status is JobState.FAILED
        last = await jobs.dead_letters.retry(again.id, args=[log, "good"])
        done = await ended(jobs, last.id)
        assert (done.result, len(done.attempts)) == ("good!", 2)
    assert lines(log) == ["worse", "bad!", "good!"]


async def test_a_job_whose_own_result_says_that_it_failed_runs_again():
    async with manager() as jobs:
        token = await jobs.submit(FunctionJob(fb.verdict, "bad"), queue="images")
        assert (await ended(jobs, token)).to_json()["retryable"] is True
        again = (await jobs.dead_letters.retry(token, args=["worse"])).id
        await ended(jobs, again)
        result = await jobs.get_result(again)
        assert (result.error or "").startswith("ValueError: worse"), "nothing is left of the former result"
        last = await ended(jobs, (await jobs.dead_letters.retry(again, args=["good"])).id)
        assert (last.result, len(last.attempts)) == ("good", 2)


@pytest.mark.parametrize("killed", [False, True])
async def test_the_retry_has_the_idempotency_key_of_the_failed_job(killed: bool):
    async with manager() as jobs:
        first = await failed(jobs, fb.fail, idempotency_key="k", queue="images")
        await jobs.queues.pause("images")
        if killed:  # after the new job was written, and before the failed one was removed
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(type(jobs.store), "remove", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    await jobs.dead_letters.retry(first)
        again = await jobs.dead_letters.retry(first)
        same = Request(fb.fail, options=JobOptions(idempotency_key="k", queue="images"))
        assert (await jobs.submit_request(same)).id == again.id
        other = Request(fb.said, ("a", "b"), options=JobOptions(idempotency_key="k"))
        with pytest.raises(InvalidInput, match="for another call"):
            await jobs.submit_request(other)


async def test_an_argument_that_no_record_may_hold_is_refused(tmp_path: Path):
    async with manager() as jobs:
        first = await failed(jobs, fb.fail)
        wrong: list[dict[str, Any]] = [
            {"args": [b"bytes"]},
            {"args": [float("nan")]},
            {"kwargs": {"password": "hunter2hunter2"}},
            {"args": ["x" * 300_000]},
        ]
        for changed in wrong:
            with pytest.raises(InvalidInput, match="the arguments cannot be kept in a record"):
                await jobs.dead_letters.retry(first, **changed)
        assert (await jobs.dead_letters.get(first)).id == first


async def test_arguments_that_do_not_fit_are_refused(tmp_path: Path):
    async with manager() as jobs:
        first = await failed(jobs, fb.fail_unless, str(tmp_path / "log"), "worse")
        wrong: list[dict[str, Any]] = [{"kwargs": {"bogus": 1}}, {"args": []}, {"kwargs": {"log": "twice"}}]
        for changed in wrong:
            with pytest.raises(InvalidInput, match="the arguments do not fit"):
                await jobs.dead_letters.retry(first, **changed)
        assert (await jobs.dead_letters.get(first)).id == first


async def test_arguments_of_a_job_of_a_class_are_its_attributes():
    async with manager() as jobs:
        token = await jobs.submit(job_kinds.Fails(1), queue="images")
        await ended(jobs, token)
        wrong: list[dict[str, Any]] = [{"kwargs": {"bogus": 1}}, {"args": [2]}]
        for changed in wrong:
            with pytest.raises(InvalidInput, match="are attributes by name: name, value"):
                await jobs.dead_letters.retry(token, **changed)
        again = await ended(jobs, (await jobs.dead_letters.retry(token, kwargs={"value": 2})).id)
        assert "no 2" in (again.error or "")


def test_a_retry_at_the_command_line_says_what_the_job_waits_for(home: Path):
    jobs = JobManager()
    ours = {"body": "python_mcp_server.tools.commands:run_command_job", "args": [["true"], "/"]}
    plain = {"kwargs": {}, "file": None, "cwd": None}
    first, second = dead(jobs.store, new_job_id()), dead(jobs.store, new_job_id(), call=ours | plain)
    told = command("jobs", "dead", "retry", first)
    assert "has loaded the module tests.helpers.framework_bodies" in told.stderr
    assert "no server of this home is up" in command("jobs", "dead", "retry", second).stderr
    assert "it was run again as" in command("jobs", "show", first).stderr


@pytest.mark.parametrize("changed", [{"args": "text"}, {"args": 5}, {"kwargs": ["name"]}])
async def test_arguments_of_another_type_are_refused(changed: dict[str, Any]):
    async with manager() as jobs:
        first = await failed(jobs, fb.fail)
        with pytest.raises(InvalidInput, match="args is "):
            await jobs.dead_letters.retry(first, **changed)
        assert (await jobs.dead_letters.get(first)).id == first


async def test_only_a_failed_job_with_its_spec_is_a_dead_letter(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        plain = await ended(jobs, (await jobs.submit_request(Request(fb.fail))).id)
        done = await ended(
            jobs, (await jobs.submit_request(Request(fb.said, (log, "a"), options=JobOptions()))).id
        )
        closure = await failed(jobs, lambda: fb.fail())  # noqa: PLW0108
        secret = Request(fb.fail_unless, (log,), {"also": "--token=hunter2hunter2"}, options=JobOptions())
        hidden = await ended(jobs, (await jobs.submit_request(secret)).id)
        reasons = {
            plain.id: "because it was submitted without options",
            done.id: "is completed; only a job that failed for good is run again",
            closure: "because only this program has its code",
            hidden.id: "because a text looks like a secret",
        }
        for job_id, reason in reasons.items():
            with pytest.raises(InvalidInput, match=reason):
                await jobs.dead_letters.retry(job_id)
        assert (await jobs.get(closure)).to_json()["retryable"] is False
        assert await jobs.dead_letters.list() == ([], False)


async def test_a_skipped_job_runs_again_without_its_predecessors(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        first = (await jobs.submit_request(Request(fb.fail, options=JobOptions()))).id
        gate.touch()
        options = JobOptions(after=(first,))
        second = (await jobs.submit_request(Request(fb.said, (str(log), "ran"), options=options))).id
        assert (await ended(jobs, second)).error_kind == "skipped"
        again = await jobs.dead_letters.retry(second)
        done = await ended(jobs, again.id)
        assert (done.result, done.attempts) == ("ran", ())


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_all_that_fit_are_run_again_or_dropped(kind: str):
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        await jobs.queues.pause("images")
        images = {"options": JobOptions(queue="images")}
        names = [new_job_id(utc_now() + timedelta(seconds=n)) for n in range(4)]
        ours = [dead(jobs.store, names[n], **images, tool=tool) for n, tool in enumerate("aba")]
        other = dead(jobs.store, names[3], error_kind="worker_died")
        assert list(await jobs.dead_letters.retry_all(kind="a", queue="images")) == [ours[0], ours[2]]
        assert await jobs.dead_letters.retry_all(error_kind="lost") == {}
        assert [job.id for job in (await jobs.dead_letters.list())[0]] == [other, ours[1]]
        assert await jobs.dead_letters.drop_all(error_kind="worker_died") == 1
        await jobs.dead_letters.drop(ours[1])
        assert await jobs.dead_letters.list() == ([], False)
        (_, images_now) = (await jobs.queues.list()).queues
        assert images_now.ready == 2


def test_a_long_list_is_read_page_by_page(home: Path):
    jobs = JobManager()
    now = utc_now()
    ids = [dead(jobs.store, new_job_id(now - timedelta(minutes=20 * n))) for n in range(90)]
    found, before, more = list[str](), None, True
    while more:
        page, more = jobs.blocking.dead_letters.list(limit=7, before=before)
        found += [job.id for job in page]
        before = found[-1]
    assert found == ids
    with pytest.raises(InvalidInput, match="limit is 0"):
        jobs.blocking.dead_letters.list(limit=0)
    with pytest.raises(InvalidInput, match="before is 'x'"):
        jobs.blocking.dead_letters.list(before="x")


def test_the_command_line_lists_shows_retries_and_drops(tmp_path: Path):
    log = str(tmp_path / "log")

    async def main() -> None:
        async with manager() as jobs:
            first = await failed(jobs, fb.fail_unless, log, "worse", tool="check")
            second = dead(jobs.store, new_job_id(), tool="other")
            assert [each["id"] for each in call("list")["jobs"]] == [second, first]
            assert [each["id"] for each in call("list", "--kind", "check")["jobs"]] == [first]
            assert first in command("jobs", "dead", "list").stdout
            shown = call("show", first[:12])
            assert (shown["args"], shown["job"]["retryable"]) == ([log, "worse"], True)
            changed = json.dumps([log, "good"])
            made = call("retry", first, "--arguments", changed)["retried"][first]
            assert (await ended(jobs, made)).result == "good"
            assert call("drop", "--all", "--queue", "default") == {"dropped": 1}
            assert call("retry", "--all") == {"retried": {}}
            assert command("jobs", "dead", "list").stdout == "no job that failed for good can be run again\n"

    run(main())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("retry",), "give the IDs of jobs, or --all"),
        (("drop", "--all", "x"), "give the IDs of jobs, or --all"),
        (("retry", "x", "--kind", "a"), "--kind, --queue and --error-kind go with --all"),
        (("retry", "--all", "--arguments", "{}x"), "--arguments is '{}x'; it must be JSON"),
        (("retry", "--all", "--arguments", "3"), "--arguments is 3; it must be an object or an array"),
        (("retry", "--all", "--arguments", "[1]"), "--arguments and --all exclude each other"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence(words: tuple[str, ...], sentence: str, home: Path):
    told = command("jobs", "dead", *words)
    assert told.returncode == 2
    assert sentence in told.stderr


KILLED = """
import os, signal, sys
from python_mcp_server.jobs import dead_letters
from python_mcp_server.jobs.manager import JobManager
where, job_id = sys.argv[1:]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
jobs = JobManager()
if where == "before":
    dead_letters.write_queued = kill
else:
    jobs.store.remove = kill
jobs.blocking.dead_letters.retry(job_id)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_retry_that_is_killed_runs_the_job_once(where: str, tmp_path: Path, home: Path):
    log = str(tmp_path / "log")

    async def main() -> None:
        async with manager() as jobs:
            first = await failed(jobs, fb.fail_until, log, 2)
            killed = run_python("-c", KILLED, where, first)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            again = await jobs.dead_letters.retry(first)
            assert (await ended(jobs, again.id)).result == 2
            assert len((await jobs.list())[0]) == 1

    run(main())
    assert len(lines(log)) == 2


def test_a_dead_letter_of_a_killed_server_is_found_by_another(tmp_path: Path, home: Path):
    log = str(tmp_path / "log")

    async def main() -> None:
        async with manager() as jobs:
            lost = await failed(jobs, fb.die_once, log)
            assert (await jobs.get(lost)).error_kind == "worker_died"
        async with manager() as jobs:
            again = await jobs.dead_letters.retry(lost)
            done = await ended(jobs, again.id)
            assert (done.result, done.attempts[0]["error_kind"]) == ("lived", "worker_died")

    run(main())


async def test_a_keyword_that_does_not_exist_is_refused_in_a_sentence():
    async with manager() as jobs:
        calls: list[Any] = [
            lambda: jobs.dead_letters.list(kin="a"),
            lambda: jobs.dead_letters.retry_all(kin="a"),
            lambda: jobs.dead_letters.drop_all(kin="a"),
            lambda: jobs.schedules.add(fb.fail, evry=5, kin="a"),
        ]
        for call_it in calls:
            with pytest.raises(InvalidInput, match=r"has no parameter '(kin|evry)'; it has "):
                await call_it()
        with pytest.raises(InvalidInput, match="limit is 'x'; it must be a whole number"):
            await jobs.dead_letters.list(limit="x")  # type: ignore[arg-type]


async def test_a_drained_queue_keeps_its_dead_letters():
    async with manager() as jobs:
        first = await failed(jobs, fb.fail, queue="images")
        await jobs.queues.drain("images")
        with pytest.raises(InvalidInput, match="being drained"):
            await jobs.dead_letters.retry(first)
        await jobs.queues.resume("images")
        assert list(await jobs.dead_letters.retry_all()) == [first]


MAIN = """
import asyncio
from python_mcp_server import AsyncJob, JobManager

class Resize(AsyncJob):
    queue = "images"

    def __init__(self):
        super().__init__("resize")

    async def execute(self):
        raise ValueError("no")

async def main():
    async with JobManager() as manager:
        token = await manager.submit(Resize())
        await manager.wait(token, 60)
        print(token)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_job_whose_class_is_in_the_main_file_cannot_be_run_again(tmp_path: Path):
    (tmp_path / "main.py").write_text(MAIN)
    told = run_python(str(tmp_path / "main.py"))
    retried = command("jobs", "dead", "retry", told.stdout.strip())
    assert "its class Resize is in the main file; define it in a module" in retried.stderr


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        (job_kinds.Fails({1, 2}), "its attribute value is a set that is not JSON"),
        (job_kinds.Fails({"password": "x"}), "password looks like a secret"),
        (CommandJob("TOKEN=x false"), "argv has what looks like a secret in it"),
        (FunctionJob(lambda: 1 / 0), "only this program has its code"),
    ],
)
async def test_a_job_that_cannot_be_run_again_says_the_cause(job: AsyncJob, cause: str):
    async with manager() as jobs:
        token = await jobs.submit(job, queue="images")
        await ended(jobs, token)
        with pytest.raises(InvalidInput, match=f"cannot be run again, because {cause}"):
            await jobs.dead_letters.retry(token)
