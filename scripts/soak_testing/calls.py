"""A library program that makes one call after another through a manager, without records."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from python_mcp_server import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.store.files import FileJobStore
from soak_testing.bodies import worker_pid
from soak_testing.trend import report

_BUDGET_S: Final = 60.0
_TENTHS: Final = 10
_PER: Final = 10_000


async def soak(calls: int) -> int:
    """Make the calls, and print memory at each tenth; return 0 if it is flat, 1 if it grows."""
    series: dict[str, list[tuple[float, float]]] = {"program RSS, kB": [], "worker RSS, kB": []}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        async with JobManager(FileJobStore(Path(home))) as manager:
            for tenth in range(_TENTHS + 1):
                for _ in range(calls // _TENTHS if tenth else 0):
                    await manager.run(Request(worker_pid), budget_s=_BUDGET_S)
                worker = (await manager.run(Request(worker_pid), budget_s=_BUDGET_S)).value
                made = tenth * (calls // _TENTHS)
                sizes = [psutil.Process(pid).memory_info().rss / 1024 for pid in (os.getpid(), worker)]
                for samples, size in zip(series.values(), sizes, strict=True):
                    samples.append((made / _PER, size))
                print(
                    f"{made:>9,} calls, {time.monotonic() - started:6.1f} s: program {sizes[0]:,.0f} kB, "
                    f"worker {worker} {sizes[1]:,.0f} kB",
                    flush=True,
                )
    table, flat = report(series, f"{_PER:,} calls")
    print(table)
    return 0 if flat else 1
