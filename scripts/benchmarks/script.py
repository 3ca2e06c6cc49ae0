"""A script that says hello, through our server over stdio, against the same script by itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.servers import peer, serving, timed
from benchmarks.turns import take_timed_turns

_FACTOR = 1.3


def measure(repeats: int) -> list[Figure]:
    """Return both, and the round trip that the aim allows on top."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving(*peer("ours")) as server:
        script = Path(folder) / "hello.py"
        script.write_text('print("hello")\n')
        server.open()
        contenders = {
            "ours": lambda: timed(server, "py_run_script_in_dir", directory=folder, script_path="hello.py"),
            "python": lambda: _by_subprocess(script),
            "round trip": lambda: timed(server, "echo", text="hello"),
        }
        take_timed_turns(contenders, 3)  # warms files and workers
        times = {
            name: median(seconds) * 1e3 for name, seconds in take_timed_turns(contenders, repeats).items()
        }
    limit = _FACTOR * times["python"] + times["round trip"]
    aim = f"at most 1.3x + a round trip = {limit:.1f} ms"
    what = "py_run_script_in_dir of a hello script"
    return [
        Figure("script", what, times["ours"], "ms", repeats, "python hello.py", times["python"], aim, limit),
        Figure("script", "one round trip: an echo of our server", times["round trip"], "ms", repeats),
    ]


def _by_subprocess(script: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - started
