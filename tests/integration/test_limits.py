"""Bodies and scripts that go over their limits are ended, whole trees, and nobody else is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import CommandJob, LimitExceeded, Limits, smart_async
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs import capacity
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.limits import CPU, DISK, MEMORY, TIME
from python_mcp_server.model import MB, Job, JobState, new_job_id
from python_mcp_server.processes.host import Memory
from python_mcp_server.runner.child import Command, run_child
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.tools.benchmark.tool import benchmark_script
from python_mcp_server.tools.scripts import run_script_in_dir
from tests.helpers import bodies, environment, eventually, limits_bodies, python, run
from tests.helpers.managers import LONG_S, lines, manager
from tests.helpers.marks import thorough
from tests.helpers.sessions import STEP, changes_are_rationed, session_nice, weighed
from tests.helpers.survival import Server, ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux tells")
TIGHT_MB = 150
OVERSHOOT = 500 * MB
"""How much is written at most between two looks, and until the record has the reason; on a busy machine."""


async def run_within(made: JobManager, limits: Limits, body: Any, *args: Any) -> Any:
    return (await made.run(Request(body, args, limits=limits), budget_s=LONG_S)).value


async def error_within(made: JobManager, limits: Limits, body: Any, *args: Any) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await run_within(made, limits, body, *args)
    return caught.value


# ---- memory


def test_a_script_that_grows_is_ended_before_it_is_far_beyond_its_limit(tmp_path: Path):
    code = "import time\nkept = [(bytearray(10_000_000), time.sleep(0.1)) for step in range(100)]"
    ending = run_child(
        Command((sys.executable, "-c", code), tmp_path, environment()),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        job_id=new_job_id(),
        limits=Limits(memory_limit_mb=TIGHT_MB),
    )
    assert ending.breach is not None
    assert ending.breach.kind == MEMORY
    assert ending.breach.peak_bytes < 1.5 * TIGHT_MB * MB


def test_an_error_at_a_limit_shows_the_peak_the_limit_and_the_last_output(tmp_path: Path):
    code = "print('so far', flush=True)\nkept = [bytearray(20_000_000) for step in range(40)]"
    with pytest.raises(LimitExceeded) as caught:
        run_script_in_dir(str(tmp_path), script_content=code, memory_limit_mb=100)
    assert caught.value.kind == MEMORY
    sentence, _, rest = str(caught.value).partition("\n")
    assert sentence.startswith("ended at its memory limit: its processes held 1")
    assert "MB, the limit is 100 MB. A larger memory_limit_mb" in sentence
    assert rest.strip() == "Its stdout until then:\nso far"


def test_a_script_that_asks_for_too_much_at_once_has_met_its_limit_too(tmp_path: Path):
    with pytest.raises(LimitExceeded, match=r"memory .*limit.* 100 MB"):
        run_script_in_dir(str(tmp_path), script_content="bytearray(10**10)", memory_limit_mb=100)


async def test_a_body_over_its_memory_is_ended_and_four_others_finish(tmp_path: Path):
    async with manager() as made:
        starts, gate = tmp_path / "starts", tmp_path / "gate"
        ample, paths = Limits(memory_limit_mb=1000), (str(starts), str(gate))
        others = [
            asyncio.create_task(run_within(made, ample, bodies.count_and_wait, *paths)) for _ in range(4)
        ]
        while len(lines(starts)) < 4:
            await asyncio.sleep(0.01)
        error = await error_within(made, Limits(memory_limit_mb=TIGHT_MB), limits_bodies.grow)
        gate.touch()
        assert error.kind == MEMORY
        assert await asyncio.gather(*others) == ["done"] * 4
        assert len(lines(starts)) == 4


@pytest.mark.parametrize(
    "body",
    [
        limits_bodies.grow_deaf,
        limits_bodies.grow_unmapped,
        limits_bodies.jump,
        thorough(limits_bodies.grow_in_children),
    ],
)
async def test_memory_is_kept_in_whatever_way_it_is_taken(body: Any):
    async with manager() as made:
        error = await error_within(made, Limits(memory_limit_mb=TIGHT_MB), body)
        assert error.kind == MEMORY
        assert f"{TIGHT_MB} MB" in str(error)


async def test_neither_output_in_memory_nor_shared_memory_ends_an_honest_body(
    monkeypatch: pytest.MonkeyPatch,
):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as home:
        monkeypatch.setenv("PYTHON_MCP_HOME", home)
        async with manager() as made:
            limits = Limits(memory_limit_mb=TIGHT_MB)
            await run_within(made, limits, limits_bodies.print_bytes, 30 * MB)
            await run_within(made, limits, limits_bodies.print_slowly, 2 * TIGHT_MB)
            await run_within(made, limits, limits_bodies.share_memory, 3)


async def test_a_job_at_its_limit_has_failed_with_its_kind_and_its_output_stays():
    async with manager() as made:
        job = await made.submit_request(Request(limits_bodies.grow, limits=Limits(memory_limit_mb=TIGHT_MB)))
        job = (await made.wait(job.id, 60))[0]
        assert (job.status, job.error_kind) == (JobState.FAILED, MEMORY)
        assert job.error is not None
        assert job.error.endswith(f"the limit is {TIGHT_MB} MB")
        assert job.usage is not None
        assert job.usage.peak_rss_bytes > TIGHT_MB * MB
        assert (await made.output(job.id)).text == "begun\n"
        assert job.result is None


# ---- disk space


@pytest.mark.parametrize(
    "body", [limits_bodies.flood, limits_bodies.flood_by_child, limits_bodies.fill_folder]
)
async def test_a_body_that_fills_the_disk_is_ended_at_its_limit(body: Any):
    async with manager() as made:
        job = await made.submit_request(Request(body, limits=Limits(disk_limit_mb=50)))
        job = (await made.wait(job.id, 60))[0]
        assert (job.status, job.error_kind) == (JobState.FAILED, DISK)
        assert job.error is not None
        assert job.error.startswith("ended at its disk limit: its files and its output took ")
        assert job.error.endswith(" MB, the limit is 50 MB")
        taken = DiskMeter((str(made.store.folder(job.id)),)).measure()
        assert 50 * MB < taken < 50 * MB + OVERSHOOT


async def test_output_of_an_earlier_call_does_not_count_for_the_next():
    async with manager(max_workers=1, spare_workers=0) as made:
        for _ in range(5):
            await run_within(made, Limits(timeout_seconds=60), limits_bodies.print_bytes, 30 * MB)
            await run_within(made, Limits(disk_limit_mb=20), limits_bodies.print_bytes, MB)


async def test_a_full_home_takes_no_calls_until_its_jobs_are_pruned(tmp_path: Path):
    async with manager(max_disk_mb=50, spare_workers=0) as made:
        assert await run_within(made, Limits(nice=5), limits_bodies.print_bytes, MB) is None
        with suppress(StoreError):
            for _ in range(5):  # the first may leave less than a MB: an end takes what was not yet written
                job = await made.submit_request(Request(limits_bodies.flood))
                job = (await made.wait(job.id, 60))[0]
                assert (job.status, job.error_kind) == (JobState.FAILED, DISK)
        for refused in (Request(limits_bodies.print_bytes, (1,)), request_of(CommandJob(("true",)))):
            with pytest.raises(StoreError, match=r"PYTHON_MCP_MAX_DISK_MB is 50: .* py_prune_jobs or"):
                await made.submit_request(refused)
            with pytest.raises(StoreError, match=r"^The jobs in .* take \d+ MB, and "):
                await made.run(refused, budget_s=LONG_S)
        assert await made.prune(keep_failed=False, max_age_hours=0)
        await run_within(made, Limits(disk_limit_mb=10), limits_bodies.print_bytes, MB)
        error = await error_within(made, Limits(disk_limit_mb=10), limits_bodies.flood)
        assert str(error).endswith("the limit is 10 MB"), "its own, where that is less than what is left"


async def test_of_calls_that_fill_the_home_together_the_largest_is_ended(tmp_path: Path):
    begin, end = tmp_path / "begin", tmp_path / "end"
    async with manager(max_disk_mb=50, max_workers=3, spare_workers=0) as made:
        small, large, idle = [
            await made.submit_request(Request(limits_bodies.keep_bytes, (size * MB, str(begin), str(end))))
            for size in (25, 30, 0)
        ]
        begin.touch()
        ended, timed_out = await made.wait(large.id, LONG_S)
        assert not timed_out
        assert (ended.status, ended.error_kind) == (JobState.FAILED, DISK)
        assert re.fullmatch(
            r"ended because the jobs in .* took 5\d MB together, this one most, 30 MB, and .* is 50",
            ended.error or "",
        )
        end.touch()
        for job in (small, idle):
            assert (await made.wait(job.id, LONG_S))[0].status is JobState.COMPLETED


async def test_a_call_after_a_prune_is_not_refused_for_what_was_measured_before(
    monkeypatch: pytest.MonkeyPatch,
):
    begun, go_on, found = threading.Event(), threading.Event(), [60 * MB, 0]

    def measure(_meter: DiskMeter) -> int:
        begun.set()
        assert go_on.wait(LONG_S)
        return found.pop(0) if found else 0

    monkeypatch.setattr(DiskMeter, "measure", measure)
    async with manager(max_disk_mb=50, spare_workers=0) as made:
        calls = [asyncio.create_task(made.submit_request(Request(limits_bodies.print_bytes, (1,))))]
        await asyncio.to_thread(begun.wait, LONG_S)
        calls.append(asyncio.create_task(made.submit_request(Request(limits_bodies.print_bytes, (1,)))))
        await asyncio.sleep(0)  # the second one waits, too
        go_on.set()
        first, second = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(first, StoreError), "nothing was pruned after it had come"
        assert isinstance(second, Job)
        await made.wait(second.id, LONG_S)


def test_a_script_over_its_disk_limit_says_so_and_shows_its_output(tmp_path: Path):
    code = "print('first', flush=True)\nwhile True: print('x' * 1000)"
    with pytest.raises(LimitExceeded) as caught:
        run_script_in_dir(str(tmp_path), script_content=code, disk_limit_mb=50)
    assert caught.value.kind == DISK
    sentence, _, rest = str(caught.value).partition("\n")
    assert sentence.startswith("ended at its disk limit: its files and its output took ")
    assert "MB, the limit is 50 MB. Less output, or a larger disk_limit_mb" in sentence
    assert rest.strip().startswith("Its stdout until then:\nfirst\nx")


def test_files_beside_the_job_do_not_count(tmp_path: Path):
    code = "open('data', 'wb').write(bytes(30_000_000)); print('well')"
    result = run_script_in_dir(str(tmp_path), script_content=code, disk_limit_mb=1)
    assert (result["exit_code"], result["stdout"]) == (0, "well\n")


# ---- the fork bomb


BOMB = """
import os, sys, time
for child in range(int(sys.argv[1])):
    if os.fork() == 0:
        if child % 3 == 0:
            os.setsid()
        if child % 5 == 0 and os.fork():
            os._exit(0)
        time.sleep(600)
        os._exit(0)
print("all there", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("children", [40, thorough(200)])
async def test_a_fork_bomb_ends_at_its_time_limit_and_leaves_nothing_behind(tmp_path: Path, children: int):
    async with manager() as made:
        request = Request(
            run_script_in_dir,
            (str(tmp_path),),
            {
                "script_content": BOMB,
                "args": [str(children)],
                "memory_limit_mb": 600,  # each shares nearly all with the first: counted once, they fit
                "timeout_seconds": 6,
            },
        )
        result = (await made.run(request, budget_s=LONG_S)).value
        assert result["timed_out"]
        assert result["stdout"] == "all there\n"


# ---- CPU time and time


async def test_cpu_time_counts_all_processes_and_ends_the_body():
    async with manager() as made:
        error = await error_within(made, Limits(cpu_time_limit_seconds=0.3), limits_bodies.burn)
        assert error.kind == CPU
        assert str(error).endswith("the limit is 0.3 s")
        job = CommandJob(
            (sys.executable, "-c", "import os\nfor _ in range(2): os.fork()\nwhile True: pass"),
            limits=Limits(cpu_time_limit_seconds=0.3),
        )
        with pytest.raises(LimitExceeded, match="ended at its CPU time limit"):
            await made.run(job, budget_s=LONG_S)


async def test_a_body_at_its_time_limit_may_clean_up_and_is_ended(tmp_path: Path):
    notes = str(tmp_path / "notes")
    async with manager() as made:
        await run_within(made, Limits(timeout_seconds=60), limits_bodies.whereabouts)  # its module is loaded
        error = await error_within(made, Limits(timeout_seconds=0.5), limits_bodies.doze, notes)
        assert (error.kind, str(error)) == (TIME, "ended at its time limit of 0.5 s")
        assert lines(notes) == ["cleaned up"]
        inline = Request(limits_bodies.doze_async, isolation="inline", limits=Limits(timeout_seconds=0.2))
        with pytest.raises(LimitExceeded, match=r"time limit of 0\.2 s"):
            await made.run(inline, budget_s=LONG_S)
        for limits in (Limits(memory_limit_mb=5), Limits(nice=5)):
            wrong = Request(limits_bodies.doze_async, isolation="inline", limits=limits)
            with pytest.raises(InvalidInput, match="cannot be kept with isolation='inline'"):
                await made.run(wrong, budget_s=LONG_S)


# ---- what a call is bound to

weighs_at_will = pytest.mark.skipif(
    changes_are_rationed(), reason="the kernel may refuse any change of this account"
)


@weighs_at_will
async def test_priority_and_cores_bind_one_call_and_no_other():
    async with manager() as made:
        free = await run_within(
            made, Limits(memory_limit_mb=500, timeout_seconds=60), limits_bodies.whereabouts
        )
        assert free["data"] == 2 * 500 * MB + (1 << 30)
        assert free["session_nice"] == weighed(session_nice() + STEP)
        nice = free["nice"] + 3
        bound = await run_within(made, Limits(nice=nice, cpus=1), limits_bodies.whereabouts)
        weight = weighed(session_nice() + 3)
        own = {"nice": nice, "session_nice": weight, "cpus": 1, "threads": "1", "data": -1}
        assert bound == free | own
        after = (await made.run(Request(limits_bodies.whereabouts), budget_s=LONG_S)).value
        assert after == free | {"pid": after["pid"], "data": -1}
        assert after["pid"] != free["pid"], "who was bound is not used again"


def test_a_scripts_libraries_start_no_more_threads_than_it_has_cores(tmp_path: Path):
    code = "import os; print(len(os.sched_getaffinity(0)), os.nice(0), os.environ['MKL_NUM_THREADS'])"
    result = run_script_in_dir(str(tmp_path), script_content=code, cpus=1, nice=4)
    assert result["stdout"] == "1 4 1\n"
    with pytest.raises(InvalidInput, match="cpus is 4096"):
        run_script_in_dir(str(tmp_path), script_content=code, cpus=4096)


@weighs_at_will
async def test_a_measured_script_has_the_servers_priority_others_their_workers(tmp_path: Path):
    code = "import pathlib; path = pathlib.Path('/proc/self/autogroup')\n"
    code += "print(path.read_bytes().split()[-1].decode() if path.exists() else 0)"
    bound = session_nice() + 11 - os.getpriority(os.PRIO_PROCESS, 0)

    async with manager() as made:
        for tool, kwargs, nice in (
            (run_script_in_dir, {"directory": str(tmp_path)}, weighed(session_nice() + STEP)),
            (run_script_in_dir, {"directory": str(tmp_path), "nice": 11}, weighed(bound)),
            (benchmark_script, {"max_runs": 1, "warmup": 0}, weighed(session_nice())),
        ):
            request = Request(tool, (), {"script_content": code, **kwargs})
            result = (await made.run(request, budget_s=LONG_S)).value
            assert result["stdout"] == f"{nice}\n"


def test_the_decorator_limits_each_call_and_refuses_what_has_no_meaning():
    async def main():
        async with manager() as made:
            decorated = smart_async(manager=made, memory_limit_mb=TIGHT_MB)(limits_bodies.grow)
            with pytest.raises(LimitExceeded, match=f"the limit is {TIGHT_MB} MB"):
                await decorated()
            assert await decorated(steps=1) == limits_bodies.STEP_BYTES

    run(main())
    with pytest.raises(InvalidInput, match=r"cpu_time_limit_seconds is -1; "):
        smart_async(cpu_time_limit_seconds=-1)


async def test_a_background_job_waits_until_there_is_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    free = Memory(80 * MB, 20_000 * MB)
    monkeypatch.setattr(capacity, "memory", lambda: free)
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    async with manager(min_free_memory_mb=500) as made:
        request = Request(bodies.count_and_wait, (str(starts), str(gate)))
        first, second = [(await made.submit_request(request)).id for _ in range(2)]
        while (waits := await made.get(second)).message is None or not lines(starts):
            await asyncio.sleep(0.01)
        assert waits.status is JobState.PENDING
        assert waits.message == "waiting for memory: 80 MB are free, 500 MB must be"
        free = Memory(900 * MB, 20_000 * MB)
        while len(lines(starts)) < 2:
            await asyncio.sleep(0.01)
        gate.touch()
        for job_id in (first, second):
            assert (await made.wait(job_id, 60))[0].status is JobState.COMPLETED


async def test_a_background_job_waits_until_cores_are_free_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load = 50.0
    monkeypatch.setattr(capacity, "load_average", lambda: load)
    monkeypatch.setattr(capacity, "usable_cores", lambda: 2)
    starts, gate = tmp_path / "starts", tmp_path / "gate"
    async with manager(max_load=2) as made:
        request = Request(bodies.count_and_wait, (str(starts), str(gate)))
        first, second = [(await made.submit_request(request)).id for _ in range(2)]
        while (waits := await made.get(second)).message is None or not lines(starts):
            await asyncio.sleep(0.01)
        assert waits.status is JobState.PENDING
        words = "waiting for free cores: the load average is 50.0, the limit is 4 on 2 cores"
        assert waits.message == words
        load = 4.0
        while len(lines(starts)) < 2:
            await asyncio.sleep(0.01)
        gate.touch()
        for job_id in (first, second):
            assert (await made.wait(job_id, 60))[0].status is JobState.COMPLETED


# ---- a worker whose server is gone


@pytest.mark.parametrize(
    ("body", "limits", "kind"),
    [
        ("grow", {"memory_limit_mb": TIGHT_MB}, MEMORY),
        ("flood", {"disk_limit_mb": 20}, DISK),
        thorough("burn", {"cpu_time_limit_seconds": 0.5}, CPU),
        thorough("burn", {"timeout_seconds": 3}, TIME),
    ],
)
def test_an_orphan_keeps_its_limits(
    home: Path, tmp_path: Path, body: str, limits: dict[str, float], kind: str
):
    code = "import sys; from tests.helpers import limits_bodies; limits_bodies.serve(*sys.argv[1:])"
    gate = tmp_path / "gate"
    with python("-c", code, body, json.dumps(limits), str(gate), stderr=None) as process:
        server = Server(process)
        (job_id,) = server.ids
        eventually(lambda: "begun" in output(job_id))
        server.kill()
        gate.touch()
        job = ended(home, job_id)
    assert (job.status, job.error_kind) == (JobState.FAILED, kind)
    assert job.error is not None
    assert job.error.startswith("ended at its ")


def output(job_id: str) -> str:
    return JobManager().blocking.output(job_id).text
