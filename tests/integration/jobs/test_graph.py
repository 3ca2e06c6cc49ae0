"""Graphs of jobs: submitted as one, with results as arguments, skipped and cancelled along their edges."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import Graph, InMemoryJobStore, Result
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.jobs import dead_letters
from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.graph import SubmittedGraph
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.queue import release
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.kinds import CommandJob
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, run
from tests.helpers import framework_bodies as fb
from tests.helpers.command_line import command
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.programs import run_python
from tests.helpers.queueing import server
from tests.helpers.stores import lists_with_jobs, url_in


async def ended(jobs: JobManager, job_id: str) -> Job:
    job, timed_out = await jobs.wait(job_id, LONG_S)
    assert not timed_out, job
    return job


def diamond(log: Path | str) -> Graph:
    """Return a graph whose jobs note their names; the last gets the results of all others."""
    graph, path = Graph("diamond"), str(log)
    graph.add("last", fb.noted, args=[path, "last", Result("left"), [{"right": Result("right")}]])
    graph.add("left", fb.noted, args=[path, "left"], kwargs={"first": Result("first")})
    graph.add("right", fb.said, args=[path, "right"], after=["first"])
    graph.add("first", fb.said, args=[path, "first"])
    return graph


@pytest.mark.parametrize("kind", ["files", "memory"])
async def test_results_are_arguments_of_the_jobs_that_follow(kind: str, tmp_path: Path):
    log = tmp_path / "log"
    async with manager(InMemoryJobStore() if kind == "memory" else None) as jobs:
        made = await jobs.submit_graph(diamond(log))
        last = await ended(jobs, made["last"])
        left = {"values": [], "named": {"first": "first"}}
        assert last.result == {"values": [left, [{"right": "right"}]], "named": {}}
        shown = last.to_json()["queueing"]
        assert (shown["graph"], shown["node"]) == (made.id, "last")
        assert shown["after"] == [made["left"], made["right"]]
        whole = await jobs.get(made.id)
        assert (whole.status, whole.label) == (JobState.COMPLETED, "diamond")
        assert whole.result == {"jobs": made.jobs}
    assert lines(log)[0] == "first"
    assert sorted(lines(log)) == ["first", "last", "left", "right"]


async def test_a_closure_and_a_program_are_jobs_of_a_graph(tmp_path: Path):
    async with manager() as jobs:
        graph = Graph()
        numbers = graph.add("numbers", lambda: [1, 2, 3])
        graph.add("total", lambda them: sum(them), args=[numbers])  # noqa: PLW0108
        graph.add("echo", CommandJob(["echo", "well"], cwd=str(tmp_path)), after=["total"])
        made = await jobs.submit_graph(graph)
        assert (await ended(jobs, made["echo"])).result["stdout"] == "well\n"
        assert (await jobs.get(made["total"])).result == 6


async def test_a_large_result_is_handed_on_whole():
    async with manager() as jobs:
        graph = Graph()
        graph.add("total", fb.total, args=[graph.add("many", fb.many, args=[200_000])])
        made = await jobs.submit_graph(graph)
        assert (await ended(jobs, made["total"])).result == sum(range(200_000))


async def test_the_result_of_any_job_is_an_argument_by_its_token(tmp_path: Path):
    log, gate = str(tmp_path / "log"), tmp_path / "gate"
    async with manager() as jobs:
        first = (await jobs.submit_request(Request(fb.hold_named, (log, "a", str(gate))))).id
        later = await jobs.submit_request(Request(fb.noted, (log, "b", Result(first))))
        assert later.waits_for == (first,)
        gate.touch()
        assert (await ended(jobs, later.id)).result == {"values": ["a"], "named": {}}
        other = {"$result": first}
        plain = await jobs.submit_request(Request(fb.noted, (log, "c", other), options=JobOptions()))
        assert (await ended(jobs, plain.id)).result["values"] == [other]


async def test_what_is_no_result_is_refused(tmp_path: Path):
    async with manager() as jobs:
        with pytest.raises(InvalidInput, match="Result has 'load'; it must be the token of a job"):
            await jobs.submit_request(Request(fb.said, (Result("load"), "x")))
        with pytest.raises(JobNotFound):
            await jobs.submit_request(Request(fb.said, (Result(new_job_id()), "x")))
        with pytest.raises(InvalidInput, match="Result has 3; it must be"):
            Result(3)  # type: ignore[arg-type]
        assert await jobs.list() == ([], False)
        with pytest.raises(InvalidInput, match="must be one of a job that is submitted"):
            await jobs.run(Request(fb.total, (Result(new_job_id()),)), budget_s=LONG_S)


async def test_a_result_that_cannot_be_an_argument_fails_in_a_sentence(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        graph = Graph()
        graph.add("odd", fb.not_json)
        graph.add("of_odd", fb.noted, args=[log, "x", Result("odd")])
        graph.add("failing", fb.fail)
        graph.add("of_failing", fb.noted, args=[log, "x", Result("failing")], run_after_failure=True)
        made = await jobs.submit_graph(graph)
        odd, failing = await ended(jobs, made["of_odd"]), await ended(jobs, made["of_failing"])
        assert f"the result of job {made['odd']} (odd) cannot be an argument" in (odd.error or "")
        assert f"the result of job {made['failing']} (failing) is an argument, and that job is failed" in (
            failing.error or ""
        )
        assert (odd.error_kind, odd.started_at) == ("exception", None)
    assert lines(log) == []


async def test_jobs_after_a_failed_one_are_skipped_unless_asked_otherwise(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        graph = Graph()
        graph.add("failing", fb.fail)
        graph.add("next", fb.said, args=[log, "next"], after=["failing"])
        graph.add("last", fb.said, args=[log, "last"], after=["next"])
        graph.add("tidy", fb.said, args=[log, "tidy"], after=["failing", "last"], run_after_failure=True)
        made = await jobs.submit_graph(graph)
        assert (await ended(jobs, made["tidy"])).result == "tidy"
        skipped = await ended(jobs, made["next"])
        assert skipped.error_kind == "skipped"
        assert f"job {made['failing']} (failing), which it waits for, failed" in (skipped.error or "")
    assert lines(log) == ["tidy"]


def wrong(change: Callable[[Graph], object]) -> str:
    graph = diamond("log")
    try:
        change(graph)
        graph.ordered()
    except InvalidInput as error:
        return str(error)
    raise AssertionError(graph)


def test_a_graph_that_is_not_valid_is_refused_in_a_sentence():
    def ring(graph: Graph) -> None:
        graph.add("a", bodies.pid, after=["c"])
        graph.add("b", bodies.pid, after=["a"])
        graph.add("c", bodies.pid, after=["b", "last"])

    assert wrong(ring) == ("the jobs of the graph wait for each other: c -> a -> b -> c; remove one step"), (
        "a ring is named"
    )
    itself = wrong(lambda graph: graph.add("a", bodies.pid, after=["a"]))
    assert itself == "the jobs of the graph wait for each other: a -> a; remove one step"
    assert "waits for 'frist', which is not in the graph; it has last" in wrong(
        lambda graph: graph.add("a", bodies.pid, after=["frist"])
    )
    assert "has a job 'left' already" in wrong(lambda graph: graph.add("left", bodies.pid))
    assert "after is 'left'; it must be a list" in wrong(
        lambda graph: graph.add("a", bodies.pid, after="left")
    )
    assert "the job's name is 'a b'" in wrong(lambda graph: graph.add("a b", bodies.pid))
    assert "has no option 'prority'" in wrong(lambda graph: graph.add("a", bodies.pid, prority=1))
    assert "priority is 'high'" in wrong(lambda graph: graph.add("a", bodies.pid, priority="high"))
    assert "it must be a job or a function" in wrong(lambda graph: graph.add("a", "pid"))  # type: ignore[arg-type]
    assert "a job has its arguments already" in wrong(
        lambda graph: graph.add("a", Request(bodies.pid), args=[1])
    )
    with pytest.raises(InvalidInput, match="the graph has no job"):
        Graph().ordered()


async def test_a_refused_job_leaves_nothing_of_its_graph(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        await jobs.queues.drain("old")
        wrong: list[dict[str, Any]] = [{"queue": "old"}, {"resources": {"gpu": 1}}, {"after": [new_job_id()]}]
        for refused in wrong:
            graph = diamond(log)
            options: dict[str, Any] = {"after": ["last"]} | refused
            graph.add("refused", bodies.pid, **options)
            with pytest.raises((InvalidInput, JobNotFound)):
                await jobs.submit_graph(graph)
        assert await jobs.list() == ([], False)
        assert lists_with_jobs(jobs.store) == ()
    assert lines(log) == []


def test_a_graph_is_drawn_with_the_states_of_its_jobs(tmp_path: Path, home: Path):
    log = tmp_path / "log"

    async def main() -> None:
        async with manager() as jobs:
            graph = diamond(log)
            graph.add("failing", fb.fail, after=["right"])
            graph.add("skipped", fb.said, args=[str(log), "x"], after=["failing"])
            made = await jobs.submit_graph(graph)
            for name in ("last", "skipped"):
                await ended(jobs, made[name])
            whole = command("jobs", "tree", made.id)
            drawn = [re.sub(r"^[│├└─ ]*| [0-9.]+ s(?=,|$)", "", line) for line in whole.stdout.splitlines()]
            ends = {"first": "completed", "right": "completed", "failing": "failed", "skipped": "failed"}
            assert drawn[0] == f"diamond {made.id}"
            assert {f"{made[name]} {name} {end}" for name, end in ends.items()} < set(drawn)
            (last,) = (line for line in drawn if made["last"] in line)
            assert last.split(", ")[-1] in {"also after left", "also after right"}
            assert command("jobs", "tree", made["left"]).stdout == whole.stdout
            told = json.loads(command("jobs", "tree", made["right"], "--json").stdout)
            assert told["graph"] == made.id
            nodes = {each["node"]: each for each in told["jobs"]}
            assert nodes["last"]["after"] == [made["left"], made["right"]]
            assert [nodes[name]["status"] for name in ("last", "failing")] == ["completed", "failed"]
            shown = command("jobs", "show", made["last"]).stdout
            for name in ("left", "right"):
                assert f"{made[name]} {name} completed" in shown

    run(main())


def test_a_chain_without_a_graph_is_drawn_from_any_of_its_jobs(home: Path):
    jobs = JobManager()
    chain = list[str]()
    for number in range(4):
        options = JobOptions(after=tuple(chain[-1:]))
        job = Job(new_job_id(), f"step {number}", JobState.PENDING, utc_now(), background=True)
        jobs.store.create(job.evolve(options=options, waits_for=options.after))
        chain.append(job.id)
    shown = {command("jobs", "tree", job_id).stdout for job_id in chain}
    (drawn,) = shown
    words = [line[line.index("step") :] for line in drawn.splitlines()]
    assert words == [f"step {number} pending" for number in range(4)]
    jobs.store.update(chain[0], lambda job: job.evolve(status=JobState.COMPLETED))
    assert jobs.store.remove(chain[0])
    assert "removed" in command("jobs", "tree", chain[1]).stdout
    assert f"{chain[0]} removed" in command("jobs", "show", chain[1]).stdout


async def test_a_retried_node_gets_the_results_again(tmp_path: Path):
    log = str(tmp_path / "log")
    async with manager() as jobs:
        graph = Graph()
        word = graph.add("word", fb.said, args=[log, "good"])
        graph.add("check", fb.fail_until, args=[log, 4], after=["word"], retry=Retry(2, wait=0))
        graph.add("last", fb.fail_unless, args=[log, word], after=["check"])
        made = await jobs.submit_graph(graph)
        assert (await ended(jobs, made["last"])).error_kind == "skipped"
        again = await jobs.dead_letters.retry(made["last"])
        assert (await ended(jobs, again.id)).result == "good"


async def test_other_servers_leave_a_graph_alone_while_it_is_submitted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    async with manager() as jobs:
        create = jobs.store.create

        def create_slowly(job: Job) -> None:
            create(job)
            release(FileJobStore(home), SlotLimits(1), "")  # as each server does once a second

        monkeypatch.setattr(jobs.store, "create", create_slowly)
        made = await jobs.submit_graph(diamond(tmp_path / "log"))
        assert (await ended(jobs, made["last"])).status is JobState.COMPLETED


async def test_a_graph_is_submitted_as_any_other_job(tmp_path: Path):
    log = tmp_path / "log"
    async with manager() as jobs:
        made = await jobs.submit(diamond(log))
        assert (await ended(jobs, made["last"])).status is JobState.COMPLETED
        with pytest.raises(InvalidInput, match="a graph takes no arguments"):
            await jobs.submit(diamond(log), priority=3)  # type: ignore[call-overload]
    assert len(lines(log)) == 4


@pytest.mark.parametrize("label", ["", "x" * 201, None, 5])
def test_a_label_of_a_graph_that_is_no_text_is_refused(label: Any):
    with pytest.raises(InvalidInput, match="it must be a text of 1 to 200 characters"):
        Graph(label)


@pytest.mark.parametrize(("name", "value"), [("after", 5), ("args", 5), ("args", "ab"), ("kwargs", [1])])
def test_lists_of_a_graph_that_are_none_are_refused(name: str, value: Any):
    with pytest.raises(InvalidInput, match=f"{name} is "):
        Graph().add("a", bodies.pid, **{name: value})


def failing_diamond(log: Path, gate: Path) -> Graph:
    """Return a graph that fails at its first job until the file `gate` exists."""
    graph, path = Graph("diamond"), str(log)
    graph.add("last", fb.noted, args=[path, "last", Result("left"), [{"right": Result("right")}]])
    graph.add("left", fb.noted, args=[path, "left"], kwargs={"first": Result("first")})
    graph.add("right", fb.said, args=[path, "right"], after=["first"])
    graph.add("first", fb.said_if, args=[path, "first", str(gate)])
    return graph


async def failed_diamond(jobs: JobManager, log: Path, gate: Path) -> SubmittedGraph:
    made = await jobs.submit_graph(failing_diamond(log, gate))
    for job_id in made.jobs.values():
        assert (await ended(jobs, job_id)).status is JobState.FAILED
    return made


async def check_retried(jobs: JobManager, made: SubmittedGraph, new: Mapping[str, str], log: Path) -> None:
    last = await ended(jobs, new[made["last"]])
    left = {"values": [], "named": {"first": "first"}}
    assert last.result == {"values": [left, [{"right": "right"}]], "named": {}}
    assert last.options is not None
    assert last.options.after == (new[made["left"]], new[made["right"]])
    told = lines(log)
    assert (told[0], sorted(told[1:3]), told[3:]) == ("first", ["left", "right"], ["last"])
    assert await jobs.dead_letters.list() == ([], False)


@pytest.mark.parametrize("kind", ["files", "sqlite"])
async def test_a_failed_graph_is_run_again_in_its_order(
    kind: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    log, gate = tmp_path / "log", tmp_path / "gate"
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    async with manager() as jobs:
        made = await failed_diamond(jobs, log, gate)
        await jobs.queues.pause("default")
        gate.touch()
        again = await jobs.dead_letters.retry_all()
        new = {old: job.id for old, job in again.items()}
        assert (await jobs.get(new[made["last"]])).to_json()["queueing"]["waits_for"] != []
        await jobs.queues.resume("default")
        await check_retried(jobs, made, new, log)


def test_the_command_line_runs_a_failed_graph_again(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"

    async def main() -> None:
        async with manager() as jobs:
            made = await failed_diamond(jobs, log, gate)
            gate.touch()
            told = command("jobs", "dead", "retry", "--all", "--json")
            assert told.returncode == 0, told
            await check_retried(jobs, made, json.loads(told.stdout)["retried"], log)

    run(main())


async def test_a_graph_of_which_a_queue_takes_a_part_is_run_again_later(tmp_path: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with manager() as jobs:
        made = await failed_diamond(jobs, log, gate)
        gate.touch()
        await jobs.queues.pause("default")
        taken = 0

        def refuse(*given: Any) -> None:
            nonlocal taken
            taken += 1
            if taken > 2:
                raise InvalidInput("the queue is full")
            write_queued(*given)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(dead_letters, "write_queued", refuse)
            with pytest.raises(InvalidInput, match="full"):
                await jobs.dead_letters.retry_all()
        new = {old: job.id for old, job in (await jobs.dead_letters.retry_all()).items()}
        await jobs.queues.resume("default")
        await check_retried(jobs, made, new, log)


SUBMITTER = """
import asyncio, os, signal, sys
from pathlib import Path
from python_mcp_server.jobs import submission
from python_mcp_server.jobs.manager import JobManager
from tests.integration.jobs.test_graph import diamond
log, at = sys.argv[1], int(sys.argv[2])
create, made = submission.create_queued, []
def killed(store, job, *more):
    if len(made) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(create(store, job, *more).id)
    print(job.id, flush=True)
    return job
submission.create_queued = killed
async def main():
    async with JobManager() as jobs:
        if at == 4:
            from python_mcp_server.jobs import graph
            graph.release_after = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        await jobs.submit_graph(diamond(log))
asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("at", range(5))
def test_a_graph_whose_submitter_is_killed_runs_whole_or_not_at_all(at: int, tmp_path: Path, home: Path):
    log = tmp_path / "log"
    killed = run_python("-c", SUBMITTER, str(log), str(at))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ids = killed.stdout.split()
    assert len(ids) == at
    whole = at == 4

    async def main() -> None:
        async with manager() as jobs:
            states = {(await ended(jobs, job_id)).status for job_id in ids}
            assert states == ({JobState.COMPLETED} if whole else {JobState.CANCELLED} if ids else set())
            everything = {job.status for job in (await jobs.list())[0]}
            assert everything == {JobState.COMPLETED if whole else JobState.CANCELLED}
            assert lists_with_jobs(jobs.store) == ()

    run(main())
    assert sorted(lines(log)) == (["first", "last", "left", "right"] if whole else [])


HELD = """
import asyncio, sys
from python_mcp_server import Graph, Result
from python_mcp_server.jobs.manager import JobManager
from tests.helpers import framework_bodies as fb
log, gate = sys.argv[1:]
async def main():
    async with JobManager() as jobs:
        graph = Graph()
        graph.add("a", fb.hold_named, args=[log, "a", gate])
        graph.add("b", fb.noted, args=[log, "b", Result("a")])
        graph.add("c", fb.said, args=[log, "c"], after=["b"])
        made = await jobs.submit_graph(graph)
        while (await jobs.get(made["a"])).usage is None:
            await asyncio.sleep(0.01)
        print(*made.jobs.values(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_another_server_finishes_the_graph_of_one_that_has_left(tmp_path: Path, home: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    a, b, c = run_python("-c", HELD, str(log), str(gate)).stdout.split()
    gate.touch()

    async def main() -> None:
        async with manager() as jobs:
            assert (await ended(jobs, c)).result == "c"
            assert (await jobs.get(b)).result == {"values": ["a"], "named": {}}
            assert (await jobs.get(a)).result == "a"

    run(main())
    assert lines(log) == ["+a", "-a", "b", "c"]


def test_a_cancel_in_another_process_cancels_what_depends_on_the_job(tmp_path: Path, home: Path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    a, b, c = run_python("-c", HELD, str(log), str(gate)).stdout.split()
    with server(1):
        told = run_python("-m", "python_mcp_server", "jobs", "cancel", a)
        assert told.returncode == 0, told.stderr

        async def main() -> None:
            async with manager() as jobs:
                found = [await ended(jobs, job_id) for job_id in (b, c)]
            assert [job.status for job in found] == [JobState.CANCELLED] * 2
            assert f"job {a} (a), which it waits for, was cancelled" in (found[0].error or "")

        run(main())
    assert lines(log) == ["+a"]


async def test_a_job_of_a_graph_that_is_there_already_is_not_run_again(tmp_path: Path):
    log = tmp_path / "log"

    def graph() -> Graph:
        made = Graph("shared")
        made.add("first", fb.said, args=[str(log), "one"], cache_seconds=600)
        made.add("same", fb.said, args=[str(log), "one"], cache_seconds=600, after=["first"])
        made.add("next", fb.noted, args=[str(log), "two", Result("same")], cache_seconds=600)
        made.add("last", fb.noted, args=[str(log), "end", Result("next")], idempotency_key="k")
        return made

    async with manager() as jobs:
        once = await jobs.submit_graph(graph())
        assert once["first"] == once["same"]
        assert (await ended(jobs, once["last"])).status is JobState.COMPLETED
        again = await jobs.submit_graph(graph())
        assert (again.jobs, again.id == once.id) == (once.jobs, False)
        assert (await jobs.get(again.id)).result == {"jobs": once.jobs}
        jobs.cache.drop()
        refused = graph()
        refused.add("key", fb.said, args=[str(log), "other"], idempotency_key="k", after=["last"])
        with pytest.raises(InvalidInput, match="for another call"):
            await jobs.submit_graph(refused)
        assert (await jobs.get(once["last"])).status is JobState.COMPLETED, "what it repeats stays"
    assert lines(log) == ["one", "two", "end"]


async def test_a_wait_for_a_graph_ends_with_its_last_job(tmp_path: Path):
    async with manager() as jobs:
        await jobs.queues.pause("default")
        made = await jobs.submit_graph(diamond(tmp_path / "log"))
        job, timed_out = await jobs.wait(made.id, 0)
        assert (job.status, timed_out) == (JobState.COMPLETED, True)
        told = command("jobs", "wait", made.id, "--timeout", "0")
        assert (told.returncode, "4 of its jobs have not ended" in told.stdout) == (124, True)
        await jobs.queues.resume("default")
        assert (await jobs.wait(made.id, LONG_S))[1] is False
        assert [(await jobs.get(token)).status for token in made.jobs.values()] == [JobState.COMPLETED] * 4
        assert command("jobs", "wait", made.id).returncode == 0


@pytest.mark.parametrize("how", ["async", "blocking", "command"])
async def test_a_cancel_of_a_graph_cancels_its_jobs(tmp_path: Path, how: str):
    async with manager() as jobs:
        await jobs.queues.pause("default")
        made = await jobs.submit_graph(diamond(tmp_path / "log"))
        if how == "async":
            assert await jobs.cancel_job(made.id) is True
        elif how == "blocking":
            jobs.blocking.cancel(made.id)
        else:
            told = command("jobs", "cancel", made.id)
            assert (told.returncode, "4 jobs of the graph" in told.stdout) == (0, True)
        states = [(await jobs.get(token)).status for token in made.jobs.values()]
        assert states == [JobState.CANCELLED] * 4
        assert (await jobs.get(made.id)).status is JobState.COMPLETED, "terminal is final"
        assert "had already ended" in command("jobs", "cancel", made.id).stdout


async def test_a_job_of_a_graph_has_a_label_and_a_time_limit_of_its_own():
    graph = Graph()
    graph.add("command", CommandJob("sleep 60"), label="the command", timeout_seconds=0.2)
    graph.add("function", bodies.pid, timeout_seconds=5)
    (command_job, _), (function, _) = graph.ordered().values()
    assert (command_job.label, command_job.args[2]) == ("the command", 0.2)
    assert function.limits is not None
    assert function.limits.timeout_seconds == 5
