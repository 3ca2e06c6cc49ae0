"""Find the processes that a test left behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

import psutil

TEST_VARIABLE: Final = "PYTHON_MCP_TEST_ID"
PATIENCE_S: Final = 15.0
_TRACKER: Final = "resource_tracker"  # of loky and of multiprocessing: one a process, by design


def left_behind(test_id: str, before: set[psutil.Process]) -> list[psutil.Process]:
    """Return what this test's processes are after a generous wait: none, if all is well."""
    deadline = time.monotonic() + PATIENCE_S
    while found := [process for process in _found(test_id) if process not in before]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    return []


def children() -> set[psutil.Process]:
    """Return everything below this process, zombies too."""
    return set(psutil.Process().children(recursive=True))


def describe(process: psutil.Process) -> str:
    """Return a line for the report of a failed test."""
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} gone by now"


def end(process: psutil.Process) -> None:
    """Kill it, and reap it where it is our own child."""
    with contextlib.suppress(psutil.Error):
        process.kill()
        process.wait(timeout=5)


def _found(test_id: str) -> Iterator[psutil.Process]:
    for process in children() | set(_carriers(test_id)):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and not any(_TRACKER in word for word in process.cmdline()):
                yield process


def _carriers(test_id: str) -> Iterator[psutil.Process]:
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if _environment(pid).get(TEST_VARIABLE) == test_id:
                yield psutil.Process(pid)


def _environment(pid: int) -> dict[str, str]:
    if not os.path.isdir("/proc/self"):
        return psutil.Process(pid).environ()
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (entry.partition(b"=") for entry in file.read().split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
