"""The tree of a script, run in a worker: floods, descendants, time-outs and cancels."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import environment, eventually, python
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

KINDS = ["plain", "session", "orphan", "daemon", "deaf", "stopped"]
FAMILY = Path(__file__).parents[2] / "helpers" / "family.py"
RUN = "python_mcp_server.tools.scripts:run_script_in_dir"
ORPHANS = """
import os, subprocess, sys
family = sys.argv[1]
subprocess.Popen([sys.executable, family, *sys.argv[2:]], stdout=open("family.txt", "w"))
while "root" not in open("family.txt").read() or open("family.txt").read().count("\\n") < len(sys.argv) - 1:
    pass
"""


class Worker:
    """One body in a process of its own, which is as a worker is."""

    def __init__(self, tmp_path: Path, **env: str) -> None:
        self.folder = tmp_path / "job"
        self.directory = tmp_path / "dir"
        self.directory.mkdir()
        self._env = environment(**env)

    def start(self, body: str = RUN, **kwargs: Any) -> Any:
        given = {"directory": str(self.directory), **kwargs}
        arguments = {name: value for name, value in given.items() if value is not None}
        return python(
            "-m", "tests.helpers.worker_call", str(self.folder), body, json.dumps(arguments), env=self._env
        )

    def call(self, **kwargs: Any) -> Any:
        with self.start(**kwargs) as process:
            out, err = process.communicate(timeout=90)
        assert err == ""
        return json.loads(out)

    def family(self) -> list[int]:
        """The pids that a family wrote, once it is complete."""
        return [
            int(line.split()[1]) for line in (self.directory / "family.txt").read_text("utf-8").splitlines()
        ]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path, PYTHON_MCP_OUTPUT_CHARS="2000")


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_a_flood_costs_disk_and_not_memory_and_can_be_read_on(worker: Worker) -> None:
    code = "import os\nfor _ in range(100):\n    os.write(1, (b'x' * 99 + b'\\n') * 10_000)\nprint('last')"
    answer = worker.call(script_content=code)
    result, job_id = answer["result"], answer["job_id"]
    assert (worker.folder / "stdout").stat().st_size == 100_000_005
    assert len(result["stdout"]) <= 2000
    assert result["stdout"].endswith("\nlast\n")
    assert f'py_job_output(job_id="{job_id}", stream="stdout", offset=900)' in result["stdout"]
    assert answer["kept"]
    assert result["job_id"] == job_id
    assert answer["peak_mb"] < 60


def test_a_small_result_asks_for_no_record_and_loads_nothing_heavy(worker: Worker) -> None:
    answer = worker.call(script_content="print(1)")
    assert answer["result"]["stdout"] == "1\n"
    assert not answer["kept"]
    assert not {"mcp", "pydantic", "starlette"} & set(answer["modules"])


def test_output_is_on_disk_while_the_script_runs(worker: Worker) -> None:
    with worker.start(
        script_content="import time; print('live'); time.sleep(600)", timeout_seconds=0
    ) as process:
        eventually(lambda: (worker.folder / "stdout").exists() and (worker.folder / "stdout").read_bytes())
        assert (worker.folder / "stdout").read_bytes() == b"live\n"
        process.send_signal(signal.SIGUSR1)
        assert json.loads(process.communicate(timeout=60)[0])["error"].startswith("JobCancelled")


def test_output_is_private(worker: Worker) -> None:
    worker.call(script_content="print(1)")
    modes = {path.name: path.stat().st_mode & 0o777 for path in worker.folder.iterdir()}
    assert modes == {"stdout": 0o600, "stderr": 0o600, "script.py": 0o600}
    assert worker.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kinds", [KINDS, *(thorough([kind]) for kind in KINDS)], ids="-".join)
def test_what_a_script_leaves_behind_is_ended_with_the_call(worker: Worker, kinds: list[str]) -> None:
    answer = worker.call(script_content=ORPHANS, args=[str(FAMILY), *kinds])
    assert answer["result"]["exit_code"] == 0
    assert answer["children"] == []
    assert alive(worker.family()) == []


def test_a_daemon_that_hides_its_environment_is_ended_with_the_call(worker: Worker) -> None:
    code = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c",
        "import os, time; open('family.txt', 'w').write(f'x {os.getpid()}\\\\n'); time.sleep(120)"], {})
while not (os.path.exists("family.txt") and open("family.txt").read().endswith("\\n")):
    pass
"""
    answer = worker.call(script_content=code)
    assert answer["result"]["stderr"] == ""
    assert answer["children"] == []
    assert alive(worker.family()) == []


def test_a_time_limit_takes_the_whole_tree_but_not_the_worker(worker: Worker) -> None:
    code = ORPHANS + "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"
    answer = worker.call(script_content=code, args=[str(FAMILY), *KINDS], timeout_seconds=5)
    assert answer["result"]["stderr"].endswith("[TIMEOUT]")
    assert answer["result"]["timed_out"]
    assert answer["children"] == []
    assert len(worker.family()) == 8
    assert alive(worker.family()) == []


def test_other_children_of_the_worker_are_not_touched(worker: Worker, tmp_path: Path) -> None:
    program = tmp_path / "two_children.py"
    program.write_text(
        f"""
import os, subprocess, sys
from tests.helpers import worker_call
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
worker_call.main({str(worker.folder)!r}, {RUN!r}, sys.argv[1])
print("other runs" if other.poll() is None else "other is gone")
other.kill()
other.wait()
""",
        "utf-8",
    )
    kwargs = {"directory": str(worker.directory), "script_content": ORPHANS, "args": [str(FAMILY), "daemon"]}
    with python(program, json.dumps(kwargs)) as process:
        out, err = process.communicate(timeout=90)
    assert err == ""
    assert out.splitlines()[-1] == "other runs"
    assert alive(worker.family()) == []


def test_cpu_time_counts_children_that_were_not_waited_for(worker: Worker) -> None:
    code = """
import os, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
read, write = os.pipe()
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    burn(0.3)
    os._exit(0)
os.wait()
os.close(write)
os.read(read, 1)
"""
    answer = worker.call(
        body="python_mcp_server.tools.benchmark.tool:benchmark_script",
        script_content=code,
        directory=None,
        max_runs=1,
    )
    assert answer["result"]["cpu_time_seconds"] >= 0.3


def test_bodies_leave_no_descriptor_open(tmp_path: Path) -> None:
    from python_mcp_server.tools.scripts import run_script_in_dir

    gc.collect()  # what earlier tests left must not go while this one counts
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run_script_in_dir(str(tmp_path), script_content="print(1)")
    assert len(os.listdir("/proc/self/fd")) <= before
