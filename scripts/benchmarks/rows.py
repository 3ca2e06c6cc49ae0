"""The rows of the table: what each is, how often it is repeated, and the module that measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUEUED_VARIABLE: Final = "BENCH_QUEUED"
"""How many jobs the row queue has waiting."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        name: Its name.
        about: What it measures.
        repeats: How often, unless the caller says.
        quick: How often with `--quick`.
        place: The module whose `measure` measures it, where that is not called as the row is.
    """

    name: str
    about: str
    repeats: int
    quick: int
    place: str = ""

    @property
    def module(self) -> str:
        """The module whose `measure` measures it; it brings the contenders with it."""
        return self.place or f"benchmarks.{self.name}"


ROWS: Final = (
    Row("noop", "a no-op through smart_async, beside loky, pebble, anyio and the standard library", 1000, 40),
    Row("progress", "report_progress inside a body, and 50,000 of them in a row", 15, 2),
    Row("handoff", "how late the reply is when the budget ends", 100, 5),
    Row("cancel", "from the cancel of a CPU-bound body until its last process is gone", 20, 2),
    Row("echo", "an echo while two CPU-bound bodies run, against idle", 4, 1),
    Row("stdio", "a small call over stdio: our transport, and isolation, beside the stock server", 2000, 40),
    Row("tasks", "tasks: made, asked for, cancelled, beside fastmcp-tasks", 100, 2),
    Row("busy", "a ping, tasks/get and a cancel while 40 calls are blocked", 100, 5),
    Row("silent", "a call over HTTP beside 1,000 silent connections, beside the same one idle", 600, 10),
    Row("script", "a hello script over stdio, beside the same script by itself", 40, 3),
    Row("launch", "a script with a header over stdio, beside uv run and the bare interpreter", 30, 2),
    Row("batch", "py_map_script of 200 hello scripts over stdio, beside xargs -P", 7, 1),
    Row("measured", "py_benchmark_script of a 20 ms script, beside hyperfine where it is installed", 15, 1),
    Row("start", "from process start to the first answer, beside a bare MCPServer", 15, 2),
    Row("memory", "an idle server beside a bare MCPServer, and a warm worker", 5, 1),
    Row("queue", "jobs that wait: submit, next start, order, memory; a no-op, beside huey and docket", 60, 6),
    Row("cron", "how late jobs by the second and with a run_at begin, all cores busy, beside idle", 60, 5),
    Row("store", "the store with 100, 10,000 and 100,000 jobs, beside SQLite doing the same", 20, 1),
)
