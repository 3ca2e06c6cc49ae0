"""Runs a row in a process of its own, so that a row that hangs can be ended with all that it has started.

As a program (`python -m benchmarks.row_process MODULE REPEATS FILE`) it is that process.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import psutil

from benchmarks.figures import Figure
from benchmarks.heartbeat import HEARTBEAT_VARIABLE
from python_mcp_server import processes

if TYPE_CHECKING:
    from benchmarks.rows import Row

_LOOK_S: Final = 0.2
_REAP_S: Final = 5.0
_LOOKS_FOR_ORPHANS: Final = 10  # killing one may bring others here
_PR_SET_CHILD_SUBREAPER: Final = 36
_PRODUCT_VARIABLES: Final = ("PYTHON_MCP_", "SMART_ASYNC_TIMEOUT_SECONDS", "MCP_DEBUG")


class RowFailed(Exception):
    """A row has no figures, because it failed or was given up."""


def measure_in_process(row: Row, repeats: int, patience_s: float) -> list[Figure]:
    """Measure a row in a process of its own; nothing of it is left when this returns.

    Args:
        row: The row.
        repeats: How often.
        patience_s: How long the row may send no heartbeat before it is given up.

    Raises:
        RowFailed: The row failed, or it was given up.
    """
    _adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        result = Path(folder) / "figures"
        with _running(row.module, repeats, Path(folder), result) as (process, heartbeats):
            code = _await_end(process, heartbeats, patience_s)
        if code is None:
            raise RowFailed(f"{row.name} made no progress for {patience_s:g} s and was given up")
        if code != 0:
            raise RowFailed(f"{row.name} ended with {code}")
        return [Figure(**fields) for fields in json.loads(result.read_text())]


@contextmanager
def _running(
    module: str, repeats: int, folder: Path, result: Path
) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """Start the process of a row; yield it and where its heartbeats come from. End its tree."""
    reading, writing = os.pipe()
    (folder / "home").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(_PRODUCT_VARIABLES)}
    # What the row leaves in a temporary directory goes with its folder.
    env |= {"TMPDIR": str(folder), "PYTHON_MCP_HOME": str(folder / "home"), HEARTBEAT_VARIABLE: str(writing)}
    before = _children()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, module, str(repeats), str(result)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
    try:
        yield process, reading
    finally:
        os.close(reading)
        _end(process, before)


def _await_end(process: subprocess.Popen[bytes], heartbeats: int, patience_s: float) -> int | None:
    """Return the exit code of a row's process; None if no heartbeat came for so long."""
    with selectors.DefaultSelector() as ready:
        ready.register(heartbeats, selectors.EVENT_READ)
        heard_at = time.monotonic()
        while (code := process.poll()) is None:
            # A child of the row may hold a copy of the other end, so the end of the pipe says nothing.
            if ready.select(_LOOK_S):
                if os.read(heartbeats, 65_536):
                    heard_at = time.monotonic()
                else:
                    ready.unregister(heartbeats)  # the row has closed it, and may go on
            elif time.monotonic() - heard_at > patience_s:
                return None
        return code


def _end(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """End the row's process and all that it has started, also what has lost its parents."""
    if process.poll() is None:
        processes.kill_tree(process.pid)
        process.wait(_REAP_S)
    for _ in range(_LOOKS_FOR_ORPHANS):
        if not (orphans := _children() - before):
            return
        for pid in orphans:
            processes.kill_tree(pid)
            os.waitpid(pid, os.WNOHANG)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _adopt_orphans() -> None:
    """Let processes whose parents have ended become children of this one (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main(module: str, repeats: str, result: str) -> None:
    """Measure a row in this process and write its figures down."""
    measure = cast("Callable[[int], list[Figure]]", import_module(module).measure)
    figures = measure(int(repeats))
    Path(result).write_text(json.dumps([asdict(figure) for figure in figures]))


if __name__ == "__main__":
    main(*sys.argv[1:])
