"""What the workers run. Imported by the workers of all contenders, so it stays light."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from python_mcp_server.context import report_progress
from python_mcp_server.smart_async import default_manager, smart_async

T = TypeVar("T")

BUDGET_S: Final = 0.2
"""Of the calls that are handed over."""

_BEAT_S: Final = 0.001


def nothing() -> None:
    """Do nothing."""


def repeat(text: str) -> str:
    """Return the text."""
    return text


def rest(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def burn(seconds: float) -> int:
    """Keep one core busy with plain Python; return how often it went round."""
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        rounds += 1
    return rounds


def beat(path: str, seconds: float) -> int:
    """Keep one core busy, and leave a sign of life each millisecond: the time, in a file."""
    now = time.monotonic()
    end, beats = now + seconds, 0
    with open(path, "w", encoding="ascii") as file:
        while (now := time.monotonic()) < end:
            file.seek(0)
            file.write(f"{now:.6f}")
            file.flush()
            beats += 1
            while time.monotonic() < now + _BEAT_S:
                pass
    return beats


def log_rest(log: str, name: str, seconds: float) -> None:
    """Sleep; write down when that began and ended."""
    _log(log, "+", name)
    time.sleep(seconds)
    _log(log, "-", name)


def log_hold(log: str, gate: str) -> None:
    """Wait until the file `gate` exists; write down when that began and ended."""
    _log(log, "+", "hold")
    while not os.path.exists(gate):
        time.sleep(_BEAT_S)
    _log(log, "-", "hold")


def log_time(log: str) -> None:
    """Write down which job begins, and the time of day."""
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{os.environ['PYTHON_MCP_JOB_ID']} {time.time():.6f}\n")


def _log(log: str, what: str, name: str) -> None:
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{what} {name} {time.monotonic():.6f}\n")


def report(count: int) -> float:
    """Report progress `count` times in a row; return how long that took, in seconds."""
    started = time.perf_counter()
    for step in range(count):
        report_progress(step, count, "on the way")
    return time.perf_counter() - started


async def with_manager(work: Awaitable[T]) -> T:
    """Let the calls of this work end in order: their home is removed after it."""
    async with default_manager():
        return await work


call_nothing = smart_async(nothing)
call_rest = smart_async(default_timeout=BUDGET_S)(rest)
call_burn = smart_async(default_timeout=BUDGET_S)(burn)
call_report = smart_async(report)
