"""What `py_benchmark_script` adds to the runs that it measures, and whether it measures what others do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from benchmarks.heartbeat import heartbeat
from benchmarks.servers import SERVE, serving

_RUNS = 10
_SCRIPT = "total = 0\nfor number in range(80_000):\n    total += number * number\n"
"""Takes 20 ms, half of them the start of the interpreter."""


def measure(repeats: int) -> list[Figure]:
    """Return medians beside hyperfine's, or where that is not on the PATH a loop of our own, by turns."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    hyperfine = shutil.which("hyperfine")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving(*SERVE) as server:
        script = Path(folder) / "script.py"
        script.write_text(_SCRIPT)
        server.open()
        shown = {"script_content": "import sys; print(sys.executable)", "max_runs": 1}
        python = _result(server.call("py_benchmark_script", **shown))["stdout"].strip()
        asked = {"script_path": str(script), "warmup": 0, "min_runs": _RUNS, "max_runs": _RUNS}
        for _ in range(repeats):
            started = time.perf_counter()
            result = _result(server.call("py_benchmark_script", **asked))
            ours.append((result["wall_time_seconds"], _added(started, result)))
            theirs.append(_by_hyperfine(hyperfine, python, script) if hyperfine else _by_loop(python, script))
    peer = "hyperfine" if hyperfine else "posix_spawn and wait4"
    mine_ms, other_ms = (1e3 * median([wall for wall, _ in pairs]) for pairs in (ours, theirs))
    ratio = 100 * median([mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True)])
    added_ms, peers_ms = (1e3 * median([added for _, added in pairs]) for pairs in (ours, theirs))
    aim = ("within 3 %", 1.03 * other_ms)
    return [
        Figure("measured", "median of a 20 ms script", mine_ms, "ms", repeats, peer, other_ms, *aim),
        Figure("measured", "the same, as the median of the turns' ratios", ratio, "%", repeats),
        Figure("measured", "added to each run", added_ms, "ms", repeats, peer, peers_ms),
    ]


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what a benchmark found, which is text, because a plot comes with it."""
    return json.loads(answer["content"][0]["text"])


def _added(started: float, result: dict[str, Any]) -> float:
    """Return what one run costs beyond its own time; the starts of the bare interpreter are runs too."""
    passed_s = time.perf_counter() - started
    starts = min(_RUNS, 10)
    own_s = _RUNS * result["wall"]["mean"] + starts * result["startup_seconds"]
    return (passed_s - own_s) / (_RUNS + starts)


def _by_hyperfine(hyperfine: str, python: str, script: Path) -> tuple[float, float]:
    target = script.with_suffix(".json")
    command = (hyperfine, "-N", "--runs", str(_RUNS), "--export-json", str(target), f"{python} {script}")
    started = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    passed_s = time.perf_counter() - started
    result = json.loads(target.read_bytes())["results"][0]
    walls = result.get("times") or [run["time_wall_clock"]["value"] for run in result["measurements"]]
    return median(walls), (passed_s - sum(walls)) / _RUNS


def _by_loop(python: str, script: Path) -> tuple[float, float]:
    heartbeat()
    walls: list[float] = []
    began = time.perf_counter()
    for _ in range(_RUNS):
        started = time.perf_counter()
        pid = os.posix_spawn(python, (python, str(script)), os.environ)
        os.wait4(pid, 0)
        walls.append(time.perf_counter() - started)
    return median(walls), (time.perf_counter() - began - sum(walls)) / _RUNS
