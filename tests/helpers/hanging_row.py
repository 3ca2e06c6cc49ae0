"""Rows of `scripts/bench` for its tests: one that ends, and one that starts a server, a script in it and a
daemon, writes down who they are, and never ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from benchmarks.heartbeat import heartbeat
from benchmarks.servers import SERVE, serving

_DAEMON = (
    "import os, time\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "print(os.getpid(), flush=True)\n"
    "os.close(1)\n"
    "time.sleep(3600)\n"
)
_SCRIPT = "import time\nopen('begun', 'w').close()\ntime.sleep(3600)"


def measure(repeats: int) -> list[Figure]:
    """Yield a figure at once where it is asked for once; else never."""
    if repeats > 1:
        _hang(Path(os.environ["HANGING_ROW"]))
    return [Figure("ends", "nothing", 1.0, "us", repeats)]


def _hang(folder: Path) -> None:
    ready = threading.Event()
    threading.Thread(target=_beat_until, args=(ready,)).start()
    daemon = subprocess.run([sys.executable, "-c", _DAEMON], stdout=subprocess.PIPE, text=True, check=True)
    with serving(*SERVE) as server:
        server.open().ask("py_run_script_in_dir", directory=str(folder), script_content=_SCRIPT)
        while not (folder / "begun").exists():
            server.request("ping", {})
        below = [child.pid for child in psutil.Process(server.process.pid).children(recursive=True)]
        pids = [os.getpid(), int(daemon.stdout), server.process.pid, *below]
        (folder / "pids").write_text(" ".join(map(str, pids)))
        ready.set()
        threading.Event().wait()


def _beat_until(ready: threading.Event) -> None:
    """Send heartbeats while a busy machine starts what is to hang."""
    while not ready.wait(0.1):
        heartbeat()
