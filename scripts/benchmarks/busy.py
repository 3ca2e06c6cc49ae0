"""One connection with 40 blocked calls: how soon it still answers a ping, `tasks/get` and a cancel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from unittest.mock import patch

from benchmarks.figures import Figure, percentile
from benchmarks.servers import Server, peer, serving

_BURNING, _SLEEPING = 4, 36
_BODY_S = 600.0
_PAUSE_S = 0.02
_AIM_MS = 50.0
_WORKERS = {"PYTHON_MCP_MAX_WORKERS": "48"}


def measure(repeats: int) -> list[Figure]:
    """Return p50 and p99 of each, and of a ping of the same connection while nothing runs."""
    with patch.dict(os.environ, _WORKERS), serving(*peer("ours")) as server:
        server.open_for_tasks()
        idle = [_ping(server) for _ in range(repeats)]
        _block(server)
        times: dict[str, list[float]] = {"a ping": [], "tasks/get": [], "tasks/cancel": []}
        for _ in range(repeats):
            times["a ping"].append(_ping(server))
            task = server.call("beat", path=os.devnull, seconds=_BODY_S)["taskId"]
            times["tasks/get"].append(_timed(server, "tasks/get", taskId=task))
            times["tasks/cancel"].append(_timed(server, "tasks/cancel", taskId=task))
            while server.request("tasks/get", {"taskId": task})["result"]["status"] != "cancelled":
                time.sleep(_PAUSE_S)
    return [figure for what, each in times.items() for figure in _figures(what, each, idle)]


def _figures(what: str, times: list[float], idle: list[float]) -> Iterator[Figure]:
    for percent in (50, 99):
        value, peer_value = (percentile(each, percent) * 1e3 for each in (times, idle))
        yield Figure(
            "busy",
            f"{what} beside {_BURNING + _SLEEPING} blocked calls, p{percent}",
            value,
            "ms",
            len(times),
            "a ping, idle",
            peer_value,
            f"at most {_AIM_MS:.0f} ms",
            _AIM_MS,
        )


def _block(server: Server) -> None:
    """Start the calls, and return when the last of them has its worker."""
    for number in range(_BURNING + _SLEEPING):
        server.ask("burn" if number < _BURNING else "rest", seconds=_BODY_S)
    while _running(server) < _BURNING + _SLEEPING:
        time.sleep(_PAUSE_S)


def _running(server: Server) -> int:
    return server.call("py_list_jobs", status_filter="running")["structuredContent"]["total"]


def _ping(server: Server) -> float:
    return _timed(server, "server/discover")


def _timed(server: Server, method: str, **params: object) -> float:
    time.sleep(_PAUSE_S)
    started = time.perf_counter()
    answer = server.request(method, params)
    elapsed_s = time.perf_counter() - started
    if "result" not in answer:
        raise RuntimeError(f"the server refused: {answer}")
    return elapsed_s
