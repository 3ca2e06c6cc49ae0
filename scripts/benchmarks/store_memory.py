"""What a process holds that opened a large store, against one that opened a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from benchmarks.heartbeat import heartbeat

_MB: Final = 1e6
_OPEN: Final = """
import sys
from pathlib import Path
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore

store = FileJobStore(Path(sys.argv[1]))
job = Job(new_job_id(), "one more", JobState.RUNNING, utc_now())
store.create(job)
store.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED))
store.list()
store.prune(lambda found: found.id == job.id)
store.close()  # now the list for people is written too
print("open", flush=True)
sys.stdin.readline()
"""


def extra_mb(directory: Path, small: int, large: int, *, repeats: int) -> float:
    """Return the difference of the medians of resident memory, in MB."""
    sizes: dict[int, list[float]] = {small: [], large: []}
    for _ in range(repeats):
        for size, found in sizes.items():
            heartbeat()
            found.append(_resident_mb(directory / f"files-{size}"))
    return median(sizes[large]) - median(sizes[small])


def _resident_mb(home: Path) -> float:
    command = [sys.executable, "-c", _OPEN, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != "open\n":
            raise RuntimeError(f"the process that opened {home} said nothing")
        resident = psutil.Process(process.pid).memory_info().rss / _MB
        process.communicate("\n")
    return resident
