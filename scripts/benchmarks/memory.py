"""What an idle server holds, against a bare one, and what a warm worker holds beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import median

import loky
import psutil

from benchmarks.bodies import nothing
from benchmarks.figures import Figure
from benchmarks.servers import SERVE, Server, peer, serving

_MB = 1e6
_CALM_S = 0.5
_WORKER_UNIQUE_MB = 25.0
_WORKER_RESIDENT_MB = 35.0
_FACTOR = 1.15

Sizes = dict[str, list[float]]
"""MB of each process and kind of size, such as `"ours rss"`."""


def measure(repeats: int) -> list[Figure]:
    """Return resident (RSS) and unique (USS) sizes, medians over fresh processes."""
    sizes: Sizes = {}
    for _ in range(repeats):
        with serving(*SERVE) as ours, serving(*peer("minimal")) as bare:
            _note(sizes, "bare", _calm(bare))
            _note(sizes, "ours", _calm(ours))
            children = psutil.Process(ours.process.pid).children(recursive=True)
            trackers = [child for child in children if _is_tracker(child)]
            _note(sizes, "trackers", *trackers)
            _note(sizes, "worker", *(child for child in children if child not in trackers))
        _note_loky(sizes)
    return [*_server_figures(sizes), *_worker_figures(sizes)]


def _server_figures(sizes: Sizes) -> Iterable[Figure]:
    for kind, name in (("rss", "resident"), ("uss", "unique")):
        ours, bare = median(sizes[f"ours {kind}"]), median(sizes[f"bare {kind}"])
        what, aim = f"idle server without its worker, {name}", "at most 1.15x"
        yield Figure("memory", what, ours, "MB", _count(sizes), "bare MCPServer", bare, aim, _FACTOR * bare)


def _worker_figures(sizes: Sizes) -> Iterable[Figure]:
    limits = (("rss", "resident", _WORKER_RESIDENT_MB), ("uss", "unique", _WORKER_UNIQUE_MB))
    for kind, name, limit in limits:
        worker, bare = median(sizes[f"worker {kind}"]), median(sizes[f"loky {kind}"])
        aim = f"at most {limit:.0f} MB"
        what = f"warm worker, {name}"
        yield Figure("memory", what, worker, "MB", _count(sizes), "bare loky worker", bare, aim, limit)
    what = "resource trackers of loky and multiprocessing, unique"
    yield Figure("memory", what, median(sizes.get("trackers uss", [0.0])), "MB", _count(sizes))


def _count(sizes: Sizes) -> int:
    return len(sizes["ours rss"])


def _calm(server: Server) -> psutil.Process:
    """Introduce the client, let it see the tools, and wait until the server and its worker rest."""
    server.open()
    server.request("tools/list", {})
    process = psutil.Process(server.process.pid)
    used_s = -1.0
    while (now_s := _cpu_s(process)) > used_s:
        used_s = now_s
        time.sleep(_CALM_S)
    return process


def _cpu_s(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def _is_tracker(process: psutil.Process) -> bool:
    return any("resource_tracker" in word for word in process.cmdline())


def _note(sizes: Sizes, name: str, *processes: psutil.Process) -> None:
    memory = [process.memory_full_info() for process in processes]
    for kind in ("rss", "uss"):
        size = sum(getattr(each, kind) for each in memory)
        sizes.setdefault(f"{name} {kind}", []).append(size / _MB)


def _note_loky(sizes: Sizes) -> None:
    with loky.ProcessPoolExecutor(1) as pool:
        pool.submit(nothing).result()
        (pid,) = pool._processes  # noqa: SLF001  loky names its workers nowhere else
        _note(sizes, "loky", psutil.Process(pid))
