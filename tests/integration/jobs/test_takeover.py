"""Queued jobs whose server is gone: another one starts them, once, or they fail and say why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from python_mcp_server import CommandJob
from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.queue import Chooser, release
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.record import Started
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.jobs.servers import NO_SERVER
from python_mcp_server.jobs.slots import Full, acquire
from python_mcp_server.jobs.spec import from_spec
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.pool.protocol import mark_unbegun, unbegun_note
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.tools.scripts import run_script_in_dir
from tests.helpers import bodies, eventually, run
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.marks import thorough
from tests.helpers.programs import environment, python, run_python
from tests.helpers.queueing import (
    DONE,
    PENDING,
    RUNNING,
    SERVER,
    hold,
    job_in,
    kept_job_in,
    own_files,
    server,
)
from tests.helpers.stores import store_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


def test_a_queued_job_of_a_killed_server_is_started_once_by_another(any_home: Path, tmp_path: Path):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    with ExitStack() as stack:
        doomed = stack.enter_context(server(1, *[("hold", starts, gate)] * 4))
        for _ in range(3):
            stack.enter_context(server(4))
        kept_job_in(any_home, doomed.ids[0])
        doomed.kill()
        for job_id in doomed.ids:
            job_in(any_home, job_id, RUNNING)
        gate.touch()
        found = [job_in(any_home, job_id, DONE, JobState.FAILED) for job_id in doomed.ids]
    assert [job.result for job in found] == ["done"] * 4
    assert lines(starts) == ["started"] * 4


def test_a_server_that_exits_leaves_its_queued_jobs_to_the_next(any_home: Path, tmp_path: Path):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    with server(1, *[("hold", starts, gate)] * 2) as first:
        kept_job_in(any_home, first.ids[0])
    waiting = JobManager().blocking.get(first.ids[1])
    assert (waiting.status, waiting.message) == (PENDING, NO_SERVER)
    with server(2):
        taken = job_in(any_home, first.ids[1], RUNNING)
        assert taken.created_at == waiting.created_at
        begun = store_of(any_home)
        eventually(lambda: all(job.call is None for job in begun.live()))
        gate.touch()
        for job_id in first.ids:
            assert job_in(any_home, job_id, DONE).result == "done"
    assert lines(starts) == ["started"] * 2


DIES = """
import os, signal
from python_mcp_server.jobs.run import JobRun
from python_mcp_server.pool.handle import WorkerHandle

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

detach = WorkerHandle.detach
"""


@pytest.mark.parametrize(
    "instant",
    [
        "JobRun._dispatch = die",
        "WorkerHandle.dispatch = die",
        "WorkerHandle.detach = die",
        "WorkerHandle.detach = lambda *told: (detach(*told), die())",
    ],
)
def test_a_job_claimed_but_not_sent_is_started_by_the_next_server(
    instant: str, any_home: Path, tmp_path: Path
):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    submitted = json.dumps([["hold", str(starts), str(gate)]])
    with python("-c", DIES + instant + SERVER, "1", submitted) as doomed:
        assert doomed.wait(60) == -signal.SIGKILL
    (claimed,) = store_of(any_home).live()
    assert (claimed.status, lines(starts)) == (RUNNING, [])
    gate.touch()
    with server(1):
        assert job_in(any_home, claimed.id, DONE).result == "done"
    assert lines(starts) == ["started"]


def test_a_body_does_not_run_where_its_begin_cannot_be_noted(home: Path, tmp_path: Path):
    async def main() -> None:
        async with manager(max_background_jobs=1) as jobs:
            first = await jobs.submit_request(
                Request(hold, (str(tmp_path / "starts"), str(tmp_path / "gate")))
            )
            await asyncio.to_thread(eventually, lambda: lines(tmp_path / "starts"))
            second = await jobs.submit_request(
                Request(hold, (str(tmp_path / "second"), str(tmp_path / "gate")))
            )
            (Path(unbegun_note(jobs.store.home, second.id)) / "in the way").mkdir(parents=True)
            (tmp_path / "gate").touch()
            assert (await jobs.wait(first.id, LONG_S))[0].status is DONE
            failed = (await jobs.wait(second.id, LONG_S))[0]
            assert "cannot begin" in (failed.error or "")
            assert lines(tmp_path / "second") == []

    run(main())


def test_a_job_whose_note_cannot_be_made_says_why_it_waits(home: Path, tmp_path: Path):
    async def main() -> None:
        async with manager(max_background_jobs=1) as jobs:
            gate = tmp_path / "gate"
            await jobs.submit_request(Request(hold, (str(tmp_path / "starts"), str(gate))))
            await asyncio.to_thread(eventually, lambda: lines(tmp_path / "starts"))
            second = await jobs.submit_request(Request(hold, (str(tmp_path / "second"), str(gate))))
            in_the_way = Path(unbegun_note(jobs.store.home, second.id)).parent
            in_the_way.rmdir()
            in_the_way.touch()
            gate.touch()
            said = "has not begun: Not a directory"
            await asyncio.to_thread(eventually, lambda: said in (jobs.blocking.get(second.id).message or ""))
            in_the_way.unlink()
            assert (await jobs.wait(second.id, LONG_S))[0].status is DONE

    run(main())


def startable(store: FileJobStore, own: ProcessIdentity) -> list[str]:
    """Return the jobs that a server starts at its first look."""
    limits = SlotLimits(8)
    release(store, limits, "")
    chooser = Chooser(store, limits, own, lambda job: from_spec(job) is not None)
    return [job.id for job in chooser.look(QueueRules()).chosen]


def test_a_job_that_its_dead_worker_had_begun_is_not_started_again(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    begun, unbegun = (orphan(store, gone) for _ in range(2))
    for job in (begun, unbegun):
        store.update(job.id, lambda found: found.evolve(status=RUNNING, worker=gone))
    mark_unbegun(unbegun_note(store.home, unbegun.id))
    assert startable(store, own) == [unbegun.id]
    assert JobManager().blocking.get(begun.id).error_kind == "worker_died"


def test_a_server_that_is_told_to_cancel_at_its_exit_leaves_no_queued_job(home: Path, tmp_path: Path):
    env = environment(PYTHON_MCP_ON_EXIT="cancel")
    with server(1, *[("hold", tmp_path / "starts", tmp_path / "gate")] * 2, env=env) as leaving:
        job_in(home, leaving.ids[0], RUNNING)
    for job_id in leaving.ids:
        assert job_in(home, job_id, JobState.CANCELLED).call is None


def test_a_closed_manager_in_a_live_process_leaves_its_queued_job_too(tmp_path: Path):
    async def main() -> None:
        gate = tmp_path / "gate"
        async with manager(max_background_jobs=1) as closing:
            first = await closing.submit_request(Request(hold, (str(tmp_path / "starts"), str(gate))))
            await asyncio.to_thread(eventually, lambda: lines(tmp_path / "starts"))
            second = await closing.submit_request(Request(bodies.add, (1,)))
        async with manager(max_background_jobs=1) as opened:
            await opened.start()
            gate.touch()
            for job in (first, second):
                assert (await opened.wait(job.id, LONG_S))[0].status is DONE

    run(main())


def test_a_queued_job_with_secrets_fails_and_its_values_are_nowhere(home: Path, tmp_path: Path):
    gate, used = tmp_path / "gate", tmp_path / "used"
    jobs = ("hold", tmp_path / "starts", gate), ("use_password", used, "hush-hush")
    with server(1, *jobs) as doomed, server(4):
        kept_job_in(home, doomed.ids[0])
        assert not any(b"hush-hush" in content for content in own_files(home))
        doomed.kill()
        found = JobManager().blocking.get(doomed.ids[1])
        assert (found.status, found.error_kind) == (JobState.FAILED, "server_died")
        assert "start it again" in (found.error or "")
        gate.touch()
        job_in(home, doomed.ids[0], DONE)
    assert lines(used) == []
    assert not any(b"hush-hush" in content for content in own_files(home))


def record_of(jobs: JobManager, job: Job) -> Job:
    found = jobs.store.get(job.id)
    assert found is not None
    return found


def test_the_values_of_env_vars_never_reach_a_record(home: Path, tmp_path: Path):
    async def main() -> None:
        async with manager(max_background_jobs=1) as jobs:
            gate = tmp_path / "gate"
            await jobs.submit_request(Request(hold, (str(tmp_path / "starts"), str(gate))))
            script = {"directory": str(tmp_path), "script_content": "print(1)"}
            for secret in ({"env_vars": {"A": "hush-hush"}}, {"env_file": "hush-hush"}):
                job = await jobs.submit_request(Request(run_script_in_dir, (), script | secret))
                assert record_of(jobs, job).call is None
            command = await jobs.submit_request(request_of(CommandJob(("true",), env={"A": "hush-hush"})))
            assert record_of(jobs, command).call is None
            plain = record_of(jobs, await jobs.submit_request(request_of(CommandJob(("true",)))))
            assert plain.call is not None
            assert plain.call["args"][0] == ["true"]
            assert "call" not in plain.to_json()
            assert not any(b"hush-hush" in content for content in own_files(home))
            gate.touch()
            for job in (await jobs.list())[0]:
                await jobs.wait(job.id, LONG_S)
                assert record_of(jobs, job).call is None

    run(main())


def identity_of(pid: int) -> tuple[int, str, str]:
    found = identify(pid)
    assert found is not None
    return found.start_ticks, found.boot_id, found.pid_namespace


def orphan(store: FileJobStore, owner: ProcessIdentity | None, **recipe: object) -> Job:
    """A queued job of a dead server, that adds 1 and 2."""
    call = {"body": "tests.helpers.bodies:add", "args": [1, 2], "kwargs": {}} | recipe
    call = {"file": bodies.__file__, "cwd": os.getcwd()} | call
    job = Job(new_job_id(), "add", PENDING, utc_now(), owner=owner, background=True, call=call)
    store.create(job)
    return job


def test_of_many_concurrent_servers_one_takes_the_job(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    stores = [FileJobStore(home) for _ in range(4)]
    ids = {orphan(stores[0], owner).id for owner in (gone, gone, None)}
    taken: list[str] = []
    together = threading.Barrier(4)

    def look(store: FileJobStore) -> None:
        chosen = startable(store, own)
        together.wait(60)
        for job_id in chosen:
            with suppress(Full):
                if acquire(store, job_id, own, own, SlotLimits(8)) is Started.HERE:
                    taken.append(job_id)

    threads = [threading.Thread(target=look, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == 3
    assert set(taken) == ids
    assert {job.owner for job in stores[0].live()} == {own}


def test_a_job_is_left_to_those_who_can_start_it(
    home: Path, tmp_path: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    orphan(store, gone, cwd=str(tmp_path))
    orphan(store, gone, file="/another/bodies.py")
    orphan(store, gone, body="tests.helpers.bodies:no_such_body")
    orphan(store, gone, body="python_mcp_server.no_such_module:body", file=None)
    orphan(store, ProcessIdentity(os.getppid(), *identity_of(os.getppid())))
    assert startable(store, own) == []
    mine = orphan(store, gone, cwd=None)
    assert startable(store, own) == [mine.id]
    request = from_spec(mine)
    assert request is not None
    assert (request.body, request.args) == (bodies.add, (1, 2))


def test_a_job_that_waits_for_a_server_says_so_and_can_be_cancelled(home: Path, gone: ProcessIdentity):
    store = FileJobStore(home)
    job = orphan(store, gone, file="/another/bodies.py")
    jobs = JobManager()
    for found in (jobs.blocking.get(job.id), *jobs.blocking.list(PENDING)[0]):
        assert (found.id, found.status, found.message) == (job.id, PENDING, NO_SERVER)
    assert jobs.blocking.cancel(job.id).status is JobState.CANCELLED
    assert (record_of(jobs, job).status, record_of(jobs, job).call) == (JobState.CANCELLED, None)


def test_a_taker_killed_before_the_start_leaves_the_job_to_the_next(
    home: Path, own: ProcessIdentity, gone: ProcessIdentity
):
    store = FileJobStore(home)
    job = orphan(store, gone)
    also_gone = replace(own, start_ticks=own.start_ticks - 2)
    assert acquire(store, job.id, also_gone, also_gone, SlotLimits(1)) is Started.HERE

    async def main() -> None:
        async with manager() as jobs:
            assert (await jobs.wait(job.id, LONG_S))[0].result == 3

    run(main())


AUTHORS = {
    "the official SDK": "from mcp.server.mcpserver import MCPServer as Server",
    "FastMCP": "from fastmcp import FastMCP as Server",
}
UNCALLED = """
import asyncio
{server}
from python_mcp_server import smart_async
from tests.helpers import queueing  # what waits is a function of its modules
mcp = Server("numbers")
from tests.helpers.stores import store_of

@mcp.tool()
@smart_async()
def number() -> int:
    return 1

async def prepare() -> None:
    await asyncio.sleep(0.5)

asyncio.run(prepare())  # no server yet: it must not be taken for one
mcp.run()
"""


@pytest.mark.parametrize("kind", [thorough("FastMCP"), "the official SDK"])
def test_a_tool_authors_server_takes_jobs_over_when_it_starts(kind: str, home: Path, tmp_path: Path):
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    with server(1, *[("hold", starts, gate)] * 2) as first:
        kept_job_in(home, first.ids[0])
    gate.touch()
    with python("-c", UNCALLED.format(server=AUTHORS[kind])) as author:
        assert job_in(home, first.ids[1], DONE).result == "done"
        author.communicate(timeout=60)
    assert lines(starts) == ["started"] * 2


def test_a_decoration_beside_the_sdk_starts_no_thread_where_no_job_waits(home: Path):
    program = UNCALLED.partition("async def prepare")[0] + "import threading; print(threading.enumerate())"
    done = run_python("-c", program.format(server=AUTHORS["the official SDK"]))
    assert done.stdout.count("Thread(") == 1, done.stdout
    assert not home.exists()
