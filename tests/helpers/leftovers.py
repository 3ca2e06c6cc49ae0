"""Find the processes that a test left behind."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import psutil

TEST_VARIABLE: Final = "STARTED_BY_TEST"  # no name of ours: scripts of the product do not get those
PATIENCE_S: Final = 15.0
_TRACKER: Final = "resource_tracker"  # of loky and of multiprocessing: one a process, by design


def processes() -> set[int]:
    """Return the ids of all running processes: a test that begins now has started none of them."""
    return set(psutil.pids())


def left_behind(test_id: str, before: set[int]) -> list[psutil.Process]:
    """Return the processes that this test leaves behind after a generous wait.

    A test's are those that carry its id, and those below this process that carry none. A zombie is
    not left: a manager that is closed lets go of the workers that go on, and nobody waits for them.
    """
    deadline = time.monotonic() + PATIENCE_S
    while found := list(_found(test_id, before)):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    return []


@contextlib.contextmanager
def outliving(home: Path) -> Generator[dict[str, str]]:
    """The environment of a server that many tests share; fails if a process is left at the end."""
    test_id, before = uuid.uuid4().hex, processes()
    yield {"PYTHON_MCP_HOME": str(home), "PYTHON_MCP_SPARE_WORKERS": "0", TEST_VARIABLE: test_id}
    left = left_behind(test_id, before)
    assert not left, [describe(process) for process in left]


def describe(process: psutil.Process) -> str:
    """Return a line for the report of a failed test."""
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} gone by now"


def end(process: psutil.Process) -> None:
    """Kill the process, and reap it if it is a child of this one."""
    with contextlib.suppress(psutil.Error):
        process.kill()
        process.wait(timeout=5)


def _found(test_id: str, before: set[int]) -> Iterator[psutil.Process]:
    for pid in processes() - before - {os.getpid()}:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            owner = process.environ().get(TEST_VARIABLE)
            mine = _is_below(process) if owner is None else owner == test_id
            if mine and not any(_TRACKER in word for word in process.cmdline()):
                yield process


def _is_below(process: psutil.Process) -> bool:
    above = process.ppid()
    while above not in (0, 1, os.getpid()):
        above = psutil.Process(above).ppid()
    return above == os.getpid()
