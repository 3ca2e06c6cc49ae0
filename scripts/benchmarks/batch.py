"""200 short scripts through one `py_map_script` over stdio, against `xargs -P` with as many at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.servers import SERVE, serving, timed
from benchmarks.turns import take_timed_turns

_ITEMS = 200
_FACTOR = 1.2


def measure(repeats: int) -> list[Figure]:
    """Return both, by turns; ours alone where the machine has no xargs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving(*SERVE) as server:
        script = Path(folder) / "hello.py"
        script.write_text('import sys\nprint("hello", sys.argv[1])\n')
        server.open()
        asked = {
            "directory": folder,
            "script_path": "hello.py",
            "args_list": [[str(number)] for number in range(_ITEMS)],
            "max_parallel": cores,
        }
        contenders = {"ours": lambda: timed(server, "py_map_script", **asked)}
        if xargs := shutil.which("xargs"):
            contenders["xargs"] = lambda: _by_xargs(xargs, script, cores)
        take_timed_turns(contenders, 1)  # warms files and workers
        times = {name: median(seconds) for name, seconds in take_timed_turns(contenders, repeats).items()}
    what = f"{_ITEMS} hello scripts, {cores} at once"
    if "xargs" not in times:
        return [Figure("batch", what, times["ours"], "s", repeats)]
    limit = _FACTOR * times["xargs"]
    aim = f"at most {_FACTOR}x = {limit:.2f} s"
    return [Figure("batch", what, times["ours"], "s", repeats, "xargs -P", times["xargs"], aim, limit)]


def _by_xargs(xargs: str, script: Path, cores: int) -> float:
    numbers = "".join(f"{number}\n" for number in range(_ITEMS))
    command = (xargs, "-P", str(cores), "-n", "1", sys.executable, str(script))
    started = time.perf_counter()
    subprocess.run(command, input=numbers.encode(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
