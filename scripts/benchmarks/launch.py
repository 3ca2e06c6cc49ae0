"""The start of a script with a header of its own, over stdio, against `uv run` and the bare interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, figure_of
from benchmarks.servers import SERVE, serving, timed
from benchmarks.turns import take_timed_turns
from python_mcp_server.runner.python.uv import find_uv

_SCRIPT = '# /// script\n# dependencies = []\n# ///\nprint("hello")\n'


def measure(repeats: int) -> list[Figure]:
    """Return ours beside `uv run`, and beside `python` with the same script; environments are warm."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving(*SERVE) as server:
        script = Path(folder) / "hello.py"
        script.write_text(_SCRIPT)
        server.open()
        uv_run = (
            find_uv(),
            "run",
            "--quiet",
            "--offline",
            "--python",
            sys.executable,
            "--script",
            script.name,
        )
        contenders = {
            "ours": lambda: timed(server, "py_run_script_in_dir", directory=folder, script_path="hello.py"),
            "uv run": lambda: _by_subprocess(uv_run, script.parent),
            "python": lambda: _by_subprocess((sys.executable, script.name), script.parent),
        }
        take_timed_turns(contenders, 3)  # makes environments, warms files and workers
        times = take_timed_turns(contenders, repeats)
    what = "py_run_script_in_dir of a script with a header"
    ours = times["ours"]
    return [
        figure_of(
            "launch", what, ours, "ms", peer="uv run", peer_seconds=times["uv run"], aim="below", ratio=1
        ),
        figure_of("launch", what, ours, "ms", peer="python hello.py", peer_seconds=times["python"]),
    ]


def _by_subprocess(command: tuple[str, ...], folder: Path) -> float:
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - started
