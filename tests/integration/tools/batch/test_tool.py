"""`map_script` in a worker: items apart from each other, nothing left behind, only the rest is run again."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.jobs.request import Request
from python_mcp_server.model import JobState
from python_mcp_server.tools.batch.tool import map_script
from tests.helpers import environment, eventually, python, run
from tests.helpers.managers import manager

WAYS = """
import os, signal, subprocess, sys, time
way = sys.argv[1]
def told(pid):
    with open("pids." + way, "a") as file:
        file.write(f"{pid}\\n")
if way == "fails": sys.exit("no good")
if way == "floods": print("first\\n" + "x" * 100 + "\\n" + "line\\n" * 1000 + "last")
if way == "kills its runner": os.kill(os.getppid(), signal.SIGKILL)
if way == "dies": os.kill(os.getpid(), signal.SIGSEGV)
if way == "leaves":
    told(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    told(subprocess.Popen(["sleep", "600"], start_new_session=True, env={}).pid)
if way in ("waits", "stays"):
    told(subprocess.Popen(["sleep", "600"], start_new_session=True, env={}).pid)
    told(os.getpid())
    while way == "stays" or not os.path.exists("go"):
        time.sleep(0.01)
    os.kill(int(open("pids.waits").readline()), 0)
if way == "hungry": held = bytearray(b"x") * 400_000_000; time.sleep(600)
if way == "says": print(os.environ["WORD"], os.environ["OMP_NUM_THREADS"]); open("go", "w")
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="tells orphans apart in /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    (made / "ways.py").write_text(WAYS)
    return made


def in_a_worker(job: Path, **kwargs: Any) -> Any:
    body = "python_mcp_server.tools.batch.tool:map_script"
    with python(
        "-m", "tests.helpers.worker_call", str(job), body, json.dumps(kwargs), env=environment()
    ) as one:
        out, err = one.communicate(timeout=90)
    assert err == ""
    return json.loads(out)


def pids_in(file: Path, count: int) -> list[int]:
    eventually(lambda: file.exists() and len(file.read_text().split()) >= count)
    return list(map(int, file.read_text().split()))


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


@linux
def test_each_item_has_its_own_end_and_none_touches_another(folder: Path, tmp_path: Path) -> None:
    ways = ["waits", "leaves", "fails", "dies", "floods", "kills its runner", "hungry", "says"]
    answer = in_a_worker(
        tmp_path / "output" / "0" / "first",
        args_list=[[way] for way in ways],
        env_vars={"WORD": "secret"},
        memory_limit_mb=100,
        directory=str(folder),
        script_path="ways.py",
        max_parallel=2,
    )
    result = answer["result"]
    items = dict(zip(ways, result["items"], strict=True))
    assert [items[way]["exit_code"] for way in ways[:5]] == [0, 0, 1, -signal.SIGSEGV, 0]
    assert items["fails"]["stderr"] == "no good\n"
    assert items["dies"]["ended_by_signal"] == "SIGSEGV"
    assert items["floods"]["stdout"].startswith("first\n")
    assert items["floods"]["stdout"].endswith("line\nlast\n")
    assert Path(items["floods"]["stdout_path"]).read_text().count("line\n") == 1000
    assert items["kills its runner"]["exit_code"] is None
    assert "ended from outside" in items["kills its runner"]["error"]
    assert items["hungry"]["error_kind"] == "memory_limit"
    assert items["says"]["stdout"] == "secret 1\n"
    assert (result["succeeded"], result["failed_indexes"]) == (4, [2, 3, 5, 6])
    assert result["summary"].startswith("4 of 8 succeeded, 4 failed, in ")
    assert answer["progress"][-1] == "8 of 8 done, 4 failed, 0 running"
    assert (answer["kept"], result["job_id"], answer["children"]) == (True, answer["job_id"], [])
    left = [pid for name in ("waits", "leaves") for pid in pids_in(folder / f"pids.{name}", 2)]
    assert alive(left) == []
    assert "secret" not in (tmp_path / "output" / "0" / "first" / "plan.json").read_text()
    assert not {"mcp", "pydantic", "starlette"} & set(answer["modules"])

    (folder / "ways.py").write_text('import sys; print("mended", *sys.argv[1:])')
    again = in_a_worker(
        tmp_path / "output" / "0" / "second", resume="first", retry_failed=True, env_vars={"WORD": ""}
    )["result"]
    assert (again["reused"], again["succeeded"], again["failed"]) == (4, 8, 0)
    mended = [item["stdout"] for item in again["items"] if item["stdout"].startswith("mended")]
    assert mended == [f"mended {ways[index]}\n" for index in result["failed_indexes"]]


def test_a_resume_says_what_it_took_over_and_what_it_ran(folder: Path, tmp_path: Path) -> None:
    jobs = tmp_path / "output" / "0"
    (folder / "odd.py").write_text("import sys; sys.exit(int(sys.argv[1]) % 2)")
    first = in_a_worker(
        jobs / "first", directory=str(folder), script_path="odd.py", args_list=[["0"], ["1"], ["3"]]
    )["result"]
    assert not {"reused", "ran", "retryable"} & set(first)
    assert "taken over" not in first["summary"]

    def resumed(name: str, before: str, **more: Any) -> tuple[int, int, int, str]:
        result = in_a_worker(jobs / name, resume=before, **more)["result"]
        text = re.sub(r"in [\d.]+ s, \d at a time", "in TIME", result["summary"])
        return result["reused"], result["ran"], result["retryable"], text

    again = "resume with retry_failed=true runs"
    told = (
        f"1 of 3 succeeded, 2 failed: 3 results were taken over, nothing ran; {again} the 2 that failed again"
    )
    assert resumed("second", "first") == (3, 0, 2, told)
    (folder / "odd.py").write_text("import sys; sys.exit(sys.argv[1] == '3')")
    told = "2 of 3 succeeded, 1 failed: 1 result was taken over, 2 items ran in TIME"
    told += f"; {again} the one that failed again"
    assert resumed("third", "second", retry_failed=True) == (1, 2, 1, told)
    (folder / "odd.py").write_text("")
    told = "3 of 3 succeeded, 0 failed: no results were taken over, 3 items ran in TIME"
    others = [["8"], ["9"], ["10"]]
    assert resumed("fourth", "third", retry_failed=True, args_list=others) == (0, 3, 0, told)


def test_stop_on_failure_starts_nothing_after_a_time_out(folder: Path, tmp_path: Path) -> None:
    answer = in_a_worker(
        tmp_path / "output" / "0" / "one",
        directory=str(folder),
        script_path="ways.py",
        args_list=[["stays"], ["well"], ["well"]],
        max_parallel=1,
        stop_on_failure=True,
        timeout_seconds=2,
    )
    result = answer["result"]
    assert (result["succeeded"], result["failed"], result["not_run"]) == (0, 1, 2)
    assert "2 were not run because one had failed" in result["summary"]
    assert result["items"][0]["timed_out"]
    assert result["items"][0]["stderr"].endswith("KeyboardInterrupt\n[TIMEOUT]")
    assert answer["children"] == []


@linux
def test_a_cancel_leaves_no_process_and_a_resume_runs_only_the_rest(folder: Path) -> None:
    script = WAYS + '\nopen("starts", "a").write(way + "\\n")\n'
    (folder / "ways.py").write_text(script)
    ways = [["well"], ["better"], ["stays"], ["waits"], ["best"]]

    async def main() -> None:
        async with manager() as made:
            given = {"script_path": "ways.py", "args_list": ways, "max_parallel": 2}
            job = await made.submit_request(Request(map_script, (str(folder),), given))
            pids = [
                *await asyncio.to_thread(pids_in, folder / "pids.stays", 2),
                *await asyncio.to_thread(pids_in, folder / "pids.waits", 2),
            ]
            while (await made.output(job.id, "items")).text.count("\n") < 2:
                await asyncio.sleep(0.02)
            assert (await made.cancel(job.id)).status is JobState.CANCELLED
            assert alive(pids) == []
            (folder / "ways.py").write_text('import sys; open("starts", "a").write(sys.argv[1] + "\\n")')
            second = await made.submit_request(Request(map_script, (), {"resume": job.id}))
            ended, timed_out = await made.wait(second.id, 60)
            assert (timed_out, ended.error) == (False, None)
            assert ended.result is not None
            assert (ended.result["succeeded"], ended.result["reused"]) == (5, 2)

    run(main(), deadline_s=90)
    assert sorted((folder / "starts").read_text().split()) == ["best", "better", "stays", "waits", "well"]
