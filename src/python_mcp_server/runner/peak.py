"""The peak of memory of a child's tree, sampled in a thread while the child runs.

The kernel's own peak of a child is not used alone: it counts what the starting process held before
`exec`, so it is true only where it is larger than that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from python_mcp_server.processes import LINUX
from python_mcp_server.runner.child import Ending

_FIRST_S: Final = 0.002
"""The first pause; it doubles up to the interval, so that a short script is seen more than once."""


class PeakSampler:
    """Reads the memory of one child's tree, over and over.

    Attributes:
        sampled_bytes: The largest sum of resident memory, or the peak of a single process, if larger.
    """

    def __init__(self, interval_s: float) -> None:
        self.sampled_bytes = 0
        self._interval_s = interval_s
        self._over = threading.Event()

    @contextmanager
    def watch(self, pid: int) -> Generator[None]:
        """Sample `pid` and what is below it until the context ends."""
        thread = threading.Thread(target=self._run, args=(pid,), name=f"peak of {pid}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def peak(self, ending: Ending) -> tuple[int, str]:
        """Return the peak in bytes and how it is known: "kernel" or "sampled"."""
        kernel = ending.max_rss_bytes if ending.max_rss_bytes > _own_peak_bytes() else 0
        return (kernel, "kernel") if kernel > self.sampled_bytes else (self.sampled_bytes, "sampled")

    def _run(self, pid: int) -> None:
        pause_s = min(_FIRST_S, self._interval_s)
        while True:
            self._sample(pid)
            if self._over.wait(pause_s):
                return
            pause_s = min(2 * pause_s, self._interval_s)

    def _sample(self, pid: int) -> None:
        read = _linux_memory if LINUX else _memory
        memories = [read(member) for member in _tree(pid)]
        total = sum(rss for rss, _ in memories)
        self.sampled_bytes = max([self.sampled_bytes, total, *(peak for _, peak in memories)])


def _tree(pid: int) -> list[int]:
    if not LINUX:
        try:
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.Error:
            return []
    found = [pid]
    for member in found:  # grows while it is walked
        found += _linux_children(member)
    return found


def _linux_children(pid: int) -> list[int]:
    """Return the children of a process in 20 us, where psutil scans all processes."""
    pids: list[bytes] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in pids]


def _linux_memory(pid: int) -> tuple[int, int]:
    """Return the resident memory and its peak so far; zeros for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    kb = {line[:6]: int(line.split()[1]) for line in lines if line.startswith((b"VmRSS:", b"VmHWM:"))}
    return kb.get(b"VmRSS:", 0) * 1024, kb.get(b"VmHWM:", 0) * 1024


def _memory(pid: int) -> tuple[int, int]:
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0, 0
    return info.rss, getattr(info, "peak_wset", info.rss)


def _own_peak_bytes() -> int:
    """Return the largest this process has been: below that, a child's kernel peak may be ours."""
    if LINUX:
        return _linux_memory(os.getpid())[1]
    rss, peak = _memory(os.getpid())
    return max(rss, peak)
