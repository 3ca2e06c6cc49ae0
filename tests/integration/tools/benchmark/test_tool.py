"""What a benchmark measures, against what the script is known to use."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from python_mcp_server.errors import InvalidInput, LimitExceeded
from python_mcp_server.tools.benchmark.tool import benchmark_script
from tests.helpers.waiting import eventually

ONCE: dict[str, Any] = {"max_runs": 1}
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
CHILDREN = """
import os, time
def burn():
    block = bytearray(b"x") * 60_000_000
    while time.process_time() < 0.1:
        pass
    time.sleep(0.2)
pids = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        burn()
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
"""


def in_job(folder: Path, **kwargs: Any) -> dict[str, Any]:
    """Run the body as a worker does, in a job with this folder."""
    body = "python_mcp_server.tools.benchmark.tool:benchmark_script"
    call = [sys.executable, "-m", "tests.helpers.worker_call", str(folder), body, json.dumps(kwargs)]
    done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_memory_and_time_are_those_of_the_script() -> None:
    result = benchmark_script(
        "import time\nblock = bytearray(b'x') * 150_000_000\nwhile time.process_time() < 0.3:\n    pass\n",
        **ONCE,
    )
    assert result["exit_code"] == 0
    assert 150 < result["peak_rss_mb"] < 200
    assert 0.3 <= result["cpu_time_seconds"] < 1.5
    assert result["wall_time_seconds"] == result["elapsed_seconds"] >= 0.3
    assert (result["runs"], result["warmup_runs"], result["stopped"]) == (1, 0, "max_runs")


@linux
def test_kernel_figures_are_those_of_the_script_without_its_launcher() -> None:
    ballast = bytearray(b"x") * 150_000_000
    code = """
import resource, sys
block = b"x" * 50_000_000  # beside it, the end of the interpreter needs nothing
with open("written", "wb") as file:
    file.write(bytes(3_000_000))
own = resource.getrusage(resource.RUSAGE_SELF)
print(own.ru_maxrss * 1024 / 1e6, own.ru_utime + own.ru_stime)
"""
    result = benchmark_script(code, **ONCE)
    peak_mb, cpu_s = map(float, result["stdout"].split())
    assert result.get("process_peak_rss_mb") == pytest.approx(peak_mb, rel=0.02)
    assert result["peak_rss_source"] == "kernel"
    assert cpu_s <= result["cpu_time_seconds"] < cpu_s + 0.05
    assert result["kernel"]["io_written_mb"] == pytest.approx(3, abs=0.1)
    assert result["kernel"]["minor_faults"] > 100
    assert len(ballast) == 150_000_000


@linux
def test_children_count_with_the_script() -> None:
    result = benchmark_script(CHILDREN, sample_interval=0.01, **ONCE)
    assert result["peak_rss_mb"] > 120
    assert result["peak_rss_source"] == "sampled"
    assert 60 < result.get("process_peak_rss_mb", 0) < 100
    assert result["cpu_time_seconds"] >= 0.2
    assert max(result["course"]["rss_mb"]) > 120
    assert math.isclose(result["course"]["seconds"][-1], result["wall_time_seconds"], abs_tol=1e-4)


def test_two_scripts_run_in_turns_and_the_faster_one_is_named(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nopen('slow', 'a').write('x')\ntime.sleep(0.2)\n", "utf-8")
    quick = "import sys\nprint('out', sys.argv[1])\nopen('quick', 'a').write('x')\n"
    answer = in_job(
        tmp_path / "job",
        script_content=quick,
        args=["a"],
        compare_with=str(slow),
        min_runs=3,
        max_runs=3,
        max_seconds=600,
    )
    result = answer["result"]
    assert result["stdout"] == "out a\n", "only the output of the first run is kept"
    work = Path(result["working_directory"])
    assert (work / "quick").read_text() == (tmp_path / "slow").read_text() == "xxxx", "a warm-up and three"
    assert result["comparison"]["runs"] == result["runs"] == 3
    assert result["comparison"]["ratio"] > 1
    assert result["comparison"]["low"] <= result["comparison"]["ratio"] <= result["comparison"]["high"]
    assert "x faster than compare_with" in result["summary"]
    assert result["startup_seconds"] > 0
    assert {"warm-up 1 of 1", "run 1 of at most 3"} <= set(answer["progress"])
    assert answer["kept"], "its files can be read later"
    assert answer["children"] == []
    check_files(result, tmp_path / "job")


def check_files(result: dict[str, Any], folder: Path) -> None:
    """The plot is a picture that decodes, and the data holds every run."""
    picture = Path(result["pictures"][0]["path"])
    assert picture.parent == folder
    with Image.open(picture) as image:
        assert len(image.getcolors(image.width * image.height) or ()) > 5, "something is drawn"
    assert len(json.loads(Path(result["data_path"]).read_bytes())["compare_with"]) == 3
    assert {path.name for path in folder.iterdir()} >= {"stdout", "stderr", "benchmark.png"}
    assert not (folder / "benchmark").exists()


def test_a_run_that_fails_ends_it_and_shows_what_it_wrote(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = (
        f"n = len(open({str(count)!r}, 'a+').read())\nopen({str(count)!r}, 'a').write('x')\n"
        f"runs = len(open({str(count)!r}).read())\nprint('run', runs)\nassert runs < 4, 'the fourth'\n"
    )
    result = benchmark_script(code, max_seconds=600)
    assert result["exit_code"] == 1
    assert result["stopped"] == "failed"
    assert result["runs"] == 2, "a warm-up, two that count, and the one that failed"
    assert result["stdout"] == "run 1\n[run 4 wrote:]\nrun 4\n"
    assert "AssertionError: the fourth" in result["stderr"]
    assert "exit code 1" in result["summary"]


def test_another_script_that_fails_leaves_the_figures_of_the_first() -> None:
    result = benchmark_script(
        "pass", compare_with="raise SystemExit('not\\ntoday')", max_runs=2, max_seconds=600
    )
    comparison = result.get("comparison")
    assert comparison
    assert comparison["sentence"] == "nothing was compared: compare_with ended with exit code 1"
    assert comparison.get("stderr") == "not\ntoday"
    assert (result["exit_code"], result["runs"]) == (0, 2)


def test_what_was_measured_until_a_time_limit_is_returned() -> None:
    benchmark_script("pass", **ONCE)  # makes the environment, which takes of the time, too
    code = "import time\nprint('so far')\nwhile time.process_time() < 0.05: pass\ntime.sleep(600)\n"
    result = benchmark_script(code, timeout_seconds=5)
    assert result["stdout"] == "so far\n"
    assert re.search(r"time\.sleep\(600\)\n( +[~^]+\n)?KeyboardInterrupt\n\[TIMEOUT\]$", result["stderr"])
    assert result.get("timed_out")
    assert result["stopped"] == "timed_out"
    assert 0.05 <= result["cpu_time_seconds"] < 4
    assert result["peak_rss_mb"] > 5


def test_a_limit_holds_for_each_run() -> None:
    with pytest.raises(LimitExceeded, match="the limit is 60 MB"):
        benchmark_script(
            "print('begun')\nblock = bytearray(b'x') * 150_000_000\nwhile True: pass\n", memory_limit_mb=60
        )


@linux
def test_signals_of_the_script_are_those_of_a_plain_run() -> None:
    code = """
import os, signal
print(signal.getsignal(signal.SIGTERM).name, signal.getsignal(signal.SIGINT).__name__)
os.kill(os.getpid(), signal.SIGUSR1)
"""
    result = benchmark_script(code, **ONCE)
    assert result["stdout"] == "SIG_DFL default_int_handler\n"
    assert result.get("ended_by_signal") == "SIGUSR1"


@linux
def test_a_script_that_kills_its_own_group_is_told_as_it_ended() -> None:
    result = benchmark_script("import os\nprint('last', flush=True)\nos.kill(0, 9)\n", **ONCE)
    assert (result["stdout"], result["exit_code"]) == ("last\n", -9)


@linux
def test_a_cancel_leaves_neither_script_nor_sampler(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, time
with open({str(pids)!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{os.getppid()}} ")
time.sleep(60)
"""
    body = "python_mcp_server.tools.benchmark.tool:benchmark_script"
    call = [sys.executable, "-m", "tests.helpers.worker_call", str(tmp_path / "job"), body]
    with subprocess.Popen([*call, json.dumps({"script_content": code})], stdout=subprocess.PIPE) as worker:
        family = [int(pid) for pid in eventually(lambda: pids.read_text() if pids.exists() else "").split()]
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        worker.send_signal(10)
        answer = json.loads(worker.communicate(timeout=60)[0])
    assert len(children) == 2, "the launcher and the sampler"
    assert answer["error"].startswith("JobCancelled")
    assert answer["children"] == []
    assert not [pid for pid in [*family, *map(int, children)] if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sample_interval": 0}, "sample_interval is 0"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"max_runs": 0}, "max_runs is 0; it must be a whole number from 1 to 1000"),
        ({"min_runs": True}, "min_runs is True"),
        ({"warmup": -1}, "warmup is -1"),
        ({"compare_with": "no/such.py"}, "compare_with 'no/such.py' is no file"),
        ({"compare_with": "/tmp"}, "compare_with '/tmp' is no file"),
        ({"compare_with": " "}, "compare_with ' ' is no file"),
    ],
)
def test_a_value_without_meaning_is_refused_by_name_before_anything_runs(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(InvalidInput, match=said):
        benchmark_script(f"open({str(ran)!r}, 'w')", **wrong)
    assert not ran.exists()
