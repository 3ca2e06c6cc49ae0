"""Tasks over stdio: how late one is made, how soon it is told of, how long a cancelled one lives on.

Beside `fastmcp-tasks`, which makes a task of a call at once or never, and runs it in the server's process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bodies import BUDGET_S
from benchmarks.figures import Figure, figure_of, percentile
from benchmarks.servers import Server, peer, serving, timed

_PEER = "fastmcp-tasks"
_AIM_MS = 10.0
_BODY_S = 2.0
_LOOKS = 20
_PAUSE_S = 0.005
_QUIET_S = 0.25
"""Without a sign of life for so long, a body is taken for ended; it gives one each millisecond."""

Times = dict[str, list[float]]


def measure(repeats: int) -> list[Figure]:
    """Return what making, asking for and cancelling a task costs, and what one costs an echo beside it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ours = stack.enter_context(serving(*peer("ours"))).open_for_tasks()
        _life(ours, folder)
        late = [_late(ours) for _ in range(repeats)]
        theirs = stack.enter_context(serving(*peer("with_fastmcp_tasks"))).open_for_tasks()  # polls when idle
        _life(theirs, folder)
        servers = {"ours": ours, "theirs": theirs}
        lives: dict[str, list[Times]] = {name: [] for name in servers}
        for turn in range(max(2, repeats // 10)):
            for name in sorted(servers, reverse=bool(turn % 2)):
                lives[name].append(_life(servers[name], folder))
    return [*_lateness(late), *_side_by_side({name: _merged(each) for name, each in lives.items()})]


def _lateness(late: list[float]) -> list[Figure]:
    p50, p99 = (percentile(late, percent) * 1e3 for percent in (50, 99))
    what = "CreateTaskResult minus budget"
    aim = f"at most {_AIM_MS:.0f} ms"
    return [
        Figure("tasks", f"{what}, p50", p50, "ms", len(late)),
        Figure("tasks", f"{what}, p99", p99, "ms", len(late), aim=aim, limit=_AIM_MS),
    ]


def _side_by_side(times: dict[str, Times]) -> list[Figure]:
    def figure(what: str, key: str) -> Figure:
        ours, theirs = times["ours"][key], times["theirs"][key]
        return figure_of("tasks", what, ours, "ms", peer=_PEER, peer_seconds=theirs)

    return [
        figure("a task made at once", "made"),
        figure("tasks/get beside a CPU-bound task", "got"),
        figure("an echo beside a CPU-bound task", "echo"),
        figure(f"life of a CPU-bound task of {_BODY_S:.0f} s after its cancel", "life"),
    ]


def _merged(each: list[Times]) -> Times:
    return {key: [seconds for times in each for seconds in times[key]] for key in each[0]}


def _late(server: Server) -> float:
    """Let a call outlast its budget; its job is cancelled after, outside the time."""
    started = time.perf_counter()
    task = _made(server, "hand_over", seconds=60.0)
    late_s = time.perf_counter() - started - BUDGET_S
    server.request("tasks/cancel", {"taskId": task})
    _wait(lambda: _status(server, task) == "cancelled")
    return late_s


def _life(server: Server, folder: Path) -> Times:
    """Follow one CPU-bound task from its making to its last sign of life."""
    path = folder / "beat"
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    task = _made(server, "beat", path=str(path), seconds=_BODY_S)
    made = time.perf_counter() - started
    _wait(path.exists)
    got = [_timed(lambda: _status(server, task)) for _ in range(_LOOKS)]
    echo = [_timed(lambda: timed(server, "echo", text="hello")) for _ in range(_LOOKS)]
    cancelled = time.monotonic()
    server.request("tasks/cancel", {"taskId": task})
    return {"made": [made], "got": got, "echo": echo, "life": [_last_beat(path) - cancelled]}


def _made(server: Server, tool: str, **arguments: object) -> str:
    answer = server.result(server.ask(tool, **arguments))
    if answer.get("resultType") != "task":
        raise RuntimeError(f"{tool} was to become a task, and answered {answer}")
    return answer["taskId"]


def _status(server: Server, task: str) -> str:
    answer = server.request("tasks/get", {"taskId": task})
    return answer["result"]["status"]


def _timed(call: Callable[[], Any]) -> float:
    time.sleep(_PAUSE_S)
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _last_beat(path: Path) -> float:
    """Wait until there is no sign of life any more; return when the last one was."""
    beat = float(path.read_text() or 0)
    while time.monotonic() < beat + _QUIET_S:
        time.sleep(_PAUSE_S)
        beat = max(beat, float(path.read_text() or 0))
    return beat


def _wait(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(_PAUSE_S)
