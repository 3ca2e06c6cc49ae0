"""What a benchmark measures, against what the script is known to use."""

from __future__ import annotations

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.tools.benchmark import benchmark_script


def test_memory_and_time_are_those_of_the_script() -> None:
    result = benchmark_script(
        "import time\nblock = bytearray(b'x') * 150_000_000\nwhile time.process_time() < 0.3:\n    pass\n"
    )
    assert result["exit_code"] == 0
    assert 150 < result["peak_rss_mb"] < 200
    assert 0.3 <= result["cpu_time_seconds"] < 1.5
    assert result["wall_time_seconds"] >= 0.3
    assert result["peak_rss_source"] in {"sampled", "kernel"}


def test_a_small_script_is_not_charged_with_the_memory_of_its_starter() -> None:
    ballast = bytearray(b"x") * 150_000_000
    result = benchmark_script("import time; time.sleep(0.05)")
    assert 5 < result["peak_rss_mb"] < 60
    assert len(ballast) == 150_000_000


def test_children_count_with_the_script() -> None:
    code = """
import os, time
def burn():
    block = bytearray(b"x") * 60_000_000
    while time.process_time() < 0.2:
        pass
    time.sleep(0.3)
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
    result = benchmark_script(code, sample_interval=0.01)
    assert result["peak_rss_mb"] > 120
    assert result["cpu_time_seconds"] >= 0.4


def test_what_was_measured_until_a_time_limit_is_returned() -> None:
    result = benchmark_script("print('so far')\nwhile True: pass\n", timeout_seconds=2)
    assert result["stdout"] == "so far\n"
    assert result.get("timed_out")
    assert result["cpu_time_seconds"] > 0.2
    assert result["peak_rss_mb"] > 5


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_an_interval_that_is_none_is_refused_by_value(wrong: float) -> None:
    with pytest.raises(InvalidInput, match=f"sample_interval is {wrong}"):
        benchmark_script("x = 1", sample_interval=wrong)
