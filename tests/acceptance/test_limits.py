"""Limits as a client of our server meets them, and a flood of output on a small budget of memory."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.acceptance.support import Server, serving
from tests.helpers import eventually
from tests.helpers.wheels import source_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux tells")
MEGABYTE = 1_000_000
BUDGET = 100 * MEGABYTE
GROW = "print('so far', flush=True)\nkept = [bytearray(10_000_000) for step in range(60)]"
PATIENT = {"SMART_ASYNC_TIMEOUT_SECONDS": "120"}  # on a busy machine a limit is reached late
UNREAPED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(200):
    child = os.fork()
    if child == 0:
        while time.process_time() < 0.05:
            pass
        os._exit(0)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # it has ended
"""
ITEM = "import sys\nprint(sys.argv[1])\nwhile sys.argv[1] == 'many': print('x' * 1000)"
OVERSHOOT = 500 * MEGABYTE
"""How much a script writes at most between two looks on a busy machine."""
FLOOD = """
import os, sys, time
line = b"x" * 999 + b"\\n"
block = line * 1000
for _ in range(int(sys.argv[1])):
    os.write(1, block)
print("the last line", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
"""


def test_a_script_over_its_memory_limit_is_an_error_with_a_job(tmp_path: Path):
    with serving(tmp_path, env=PATIENT) as server:
        server.open()
        script = {"directory": str(tmp_path), "script_content": GROW}
        result = server.call("py_run_script_in_dir", script | {"memory_limit_mb": 100})
        assert result["isError"]
        text = result["content"][0]["text"]
        assert text.startswith("ended at its memory limit: its processes held 1")
        assert "so far" in text
        (job,) = server.call("py_list_jobs")["structuredContent"]["jobs"]
        assert job["id"] in text
        assert (job["status"], job["error_kind"]) == ("failed", "memory_limit")
        assert "the limit is 100 MB" in job["note"]
        assert "Traceback" not in job["note"]
        page = server.call("py_job_output", {"job_id": job["id"]})["structuredContent"]
        assert page["text"] == "so far\n"
        for name, value in (("memory_limit_mb", -1), ("cpus", [4095]), ("nice", 99)):
            refused = server.call("py_run_script_in_dir", script | {name: value})
            assert refused["isError"]
            assert refused["content"][0]["text"].startswith(name)
            assert "\n" not in refused["content"][0]["text"]
        assert len(server.call("py_list_jobs")["structuredContent"]["jobs"]) == 1
        flood(server, tmp_path, 40)
        assert server.leave() == 0


def test_the_limits_hold_for_what_is_done_before_the_script(tmp_path: Path):
    (tmp_path / "slow").write_bytes(b"\n" * 60_000_000)
    (tmp_path / "large").write_bytes((b"x" * 400 + b"\n") * 100_000)
    source_tree(tmp_path / "hungry", "hungry")
    with (tmp_path / "hungry" / "backend.py").open("a", encoding="utf-8") as backend:
        backend.write(GROW)
    batch = {"directory": str(tmp_path), "script_content": "print('ran')"}
    alone = {"script_content": "print('ran')", "dependencies": [f"hungry @ {(tmp_path / 'hungry').as_uri()}"]}
    calls: list[tuple[str, dict[str, object], str, str]] = [
        ("py_map_script", {"args_file": "slow", "timeout_seconds": 0.3}, "time", "before its script began"),
        ("py_map_script", {"args_file": "large", "memory_limit_mb": 20}, "memory", "before its script began"),
        ("py_run_script_with_dependencies", {"memory_limit_mb": 300}, "memory", "while uv was at work (pip"),
    ]
    with serving(tmp_path, env=PATIENT) as server:
        server.open()
        for tool, limit, kind, when in calls:
            result = server.call(tool, (batch if tool == "py_map_script" else alone) | limit)
            text = result["content"][0]["text"]
            assert result["isError"], text
            assert text.startswith(f"ended at its {kind} limit")
            assert when in text
            assert "ran\n" not in text
        assert server.leave() == 0


def test_cpu_time_of_children_that_nobody_waits_for_counts(tmp_path: Path):
    script = {"directory": str(tmp_path), "script_content": UNREAPED, "cpu_time_limit_seconds": 1}
    with serving(tmp_path, env=PATIENT) as server:
        failed = server.open().call("py_run_script_in_dir", script)
        assert failed["isError"]
        assert failed["content"][0]["text"].startswith("ended at its CPU time limit: its processes used ")
        assert server.leave() == 0


@pytest.mark.parametrize("made", ["memfd_create('a')", "open('/dev/shm', os.O_TMPFILE | os.O_RDWR)"])
def test_memory_in_a_file_without_a_name_counts_for_the_memory_limit(tmp_path: Path, made: str):
    code = f"import os, time\nfile = os.{made}\nfor _ in range(400): os.write(file, bytes(1_000_000))\n"
    script = {"directory": str(tmp_path), "script_content": f"{code}time.sleep(60)", "memory_limit_mb": 100}
    with serving(tmp_path, env=PATIENT) as server:
        failed = server.open().call("py_run_script_in_dir", script)
        assert failed["isError"]
        assert failed["content"][0]["text"].startswith("ended at its memory limit: its processes held ")
        assert server.leave() == 0


def test_output_without_end_is_ended_at_the_disk_limit_of_each_tool(tmp_path: Path):
    """No more than the limit and what is written between two looks is on the disk afterwards."""
    endless = "print('first', flush=True)\nwhile True: print('x' * 1000)"
    here = {"directory": str(tmp_path), "disk_limit_mb": 30}
    items = {"args_list": [["few"], ["many"]], "script_content": ITEM}
    with serving(tmp_path, env=PATIENT) as server:
        server.open()
        failed = server.call("py_run_script_in_dir", here | {"script_content": endless})
        assert failed["isError"]
        text = failed["content"][0]["text"]
        assert text.startswith("ended at its disk limit: its files and its output took ")
        assert "MB, the limit is 30 MB. Less output" in text
        assert "first" in text
        (job,) = server.call("py_list_jobs")["structuredContent"]["jobs"]
        assert (job["status"], job["error_kind"]) == ("failed", "disk_limit")
        page = server.call("py_job_output", {"job_id": job["id"]})["structuredContent"]
        assert page["text"].startswith("first\nx")
        assert 30 * MEGABYTE < page["total_bytes"] < 30 * MEGABYTE + OVERSHOOT
        few, many = server.call("py_map_script", here | items)["structuredContent"]["items"]
        assert (few["exit_code"], few["stdout"]) == (0, "few\n")
        assert many["error_kind"] == "disk_limit"
        assert many["error"].startswith("ended at its disk limit")
        refused = server.call("py_run_script_in_dir", here | {"script_content": "1", "disk_limit_mb": 0})
        assert refused["content"][0]["text"].startswith("disk_limit_mb is 0")
        assert server.leave() == 0


def test_a_full_home_says_what_to_do_and_a_prune_makes_room(tmp_path: Path):
    flooding = {"directory": str(tmp_path), "script_content": "while True: print('x' * 1000)"}
    well = {"directory": str(tmp_path), "script_content": "print('well')"}
    with serving(tmp_path, env=PATIENT | {"PYTHON_MCP_MAX_DISK_MB": "30"}) as server:
        server.open()
        assert not server.call("py_run_script_in_dir", well)["isError"]
        started = server.call("py_run_script_in_dir", flooding | {"async_mode": True})["structuredContent"]
        wait = {"job_id": started["job_id"], "timeout_seconds": 60}
        job = server.call("py_wait_job", wait)["structuredContent"]["job"]
        assert (job["status"], job["error_kind"]) == ("failed", "disk_limit")
        for mode in (False, True):
            refused = server.call("py_run_script_in_dir", well | {"async_mode": mode})
            assert refused["isError"]
            text = refused["content"][0]["text"]
            assert "MB, and PYTHON_MCP_MAX_DISK_MB is 30: remove some with py_prune_jobs" in text
        server.call("py_prune_jobs", {"keep_failed": False, "max_age_hours": 0})
        assert server.call("py_run_script_in_dir", well)["structuredContent"]["stdout"] == "well\n"
        assert server.leave() == 0


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def last_of(server: Server, job_id: str) -> str:
    page = server.call("py_job_output", {"job_id": job_id, "offset": -20})["structuredContent"]
    return page["text"]


def flood(server: Server, folder: Path, megabytes: int) -> None:
    """Have a script write so much, read its end while it runs, and see what that costs in memory."""
    script = {"directory": str(folder), "script_content": FLOOD, "args": [str(megabytes)]}
    started = server.call("py_run_script_in_dir", script | {"async_mode": True})["structuredContent"]
    job_id = started["job_id"]
    before = peak_bytes(server.process.pid)
    eventually(lambda: "the last line" in last_of(server, job_id), deadline_s=120)
    workers = [child.pid for child in psutil.Process(server.process.pid).children()]
    (folder / "go").touch()
    job = server.call("py_wait_job", {"job_id": job_id, "timeout_seconds": 60})["structuredContent"]["job"]
    assert job["status"] == "completed"
    assert job["result"]["stdout"].endswith("the last line\n")
    assert peak_bytes(server.process.pid) - before < BUDGET / 2
    assert all(peak_bytes(pid) < BUDGET for pid in workers)
    pruned = server.call("py_prune_jobs", {"max_age_hours": 0, "keep_completed": False})
    assert pruned["structuredContent"]["removed"] == 1


@pytest.mark.thorough
def test_two_gigabytes_of_output_cost_no_memory_and_can_be_read(tmp_path: Path):
    with serving(tmp_path, env=PATIENT) as server:
        flood(server.open(), tmp_path, 2000)
        assert server.leave() == 0
