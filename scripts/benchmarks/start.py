"""From the start of a server's process to its first answer, each time a fresh process."""

from __future__ import annotations

import time

from benchmarks.figures import Figure, figure_of
from benchmarks.servers import SERVE, peer, serving
from benchmarks.turns import take_timed_turns


def measure(repeats: int) -> list[Figure]:
    """Return our time against that of a bare server."""
    contenders = {"ours": lambda: _first_answer(*SERVE), "bare": lambda: _first_answer(*peer("minimal"))}
    take_timed_turns(contenders, 1)  # compiles what is not compiled yet
    times = take_timed_turns(contenders, repeats)
    return [
        figure_of(
            "start",
            "process start to the first answer",
            times["ours"],
            "ms",
            peer="bare MCPServer",
            peer_seconds=times["bare"],
            aim="at most 1.15x",
            ratio=1.15,
        )
    ]


def _first_answer(*arguments: str) -> float:
    started = time.perf_counter()
    with serving(*arguments) as server:
        server.open()
        return time.perf_counter() - started
