"""Samples the memory and CPU time of a process tree: a program, so that the script and the worker do not pay.

The program reads one command per line from stdin: `start PID SECONDS` samples the processes below the
launcher PID at this interval; `stop` is answered with a line of JSON: `[[time_ns, rss_bytes, cpu_ns,
processes], ...]`. The program writes an empty list when it is ready, and exits at the end of stdin.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from python_mcp_server.processes import usage
else:  # this program runs without the package, so that it starts in a few ms
    sys.path.append(str(Path(__file__).parents[2] / "processes"))
    import usage

FIRST_S = 0.005
"""The first pause. Pauses double up to the interval, so that a short script is sampled more than once."""
_START_INTERVAL_S = 0.002
"""The pause while the script has not started yet; measured: its launcher takes 10 ms."""
_CPU_SHARE = 0.005 if sys.platform == "linux" else 0.05
"""The share of a core that sampling may use for any number of processes: the script may need all cores."""
MOST_SAMPLES = 400
"""At this number, every second sample is dropped and the interval doubles."""

Sample = tuple[int, int, int, int]


def main() -> int:
    """Serve until stdin ends."""
    commands: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    _answer([])
    while (command := commands.get()) is not None:
        if command[0] == "start":
            samples = _watch(int(command[1]), float(command[2]), commands)
            if samples is None:
                break
            _answer(samples)
    return 0


def _answer(samples: list[Sample]) -> None:
    sys.stdout.write(json.dumps(samples) + "\n")
    sys.stdout.flush()


def _read(commands: queue.SimpleQueue[list[str] | None]) -> None:
    for line in sys.stdin:
        commands.put(line.split())
    commands.put(None)


def _watch(
    launcher: int, interval_s: float, commands: queue.SimpleQueue[list[str] | None]
) -> list[Sample] | None:
    """Sample until the next command; return None at the end of stdin."""
    tree = _Tree(launcher)
    samples: list[Sample] = []
    pause_s = min(FIRST_S, interval_s)
    while True:
        used_s = -time.process_time()
        sample = tree.sample()
        used_s += time.process_time()
        if sample is not None:
            samples.append(sample)
        if len(samples) >= MOST_SAMPLES:
            samples, interval_s = _thinned(samples), 2 * interval_s
        try:
            timeout_s = max(pause_s, used_s / _CPU_SHARE) if samples else _START_INTERVAL_S
            return samples if commands.get(timeout=timeout_s) is not None else None
        except queue.Empty:
            pause_s = min(2 * pause_s, interval_s) if len(samples) > 1 else pause_s


def _thinned(samples: list[Sample]) -> list[Sample]:
    """Merge each two samples into the later one, with the larger memory of both."""
    pairs = zip(samples[::2], samples[1::2], strict=False)
    return [(later[0], max(earlier[1], later[1]), *later[2:]) for earlier, later in pairs]


class _Tree:
    """The processes below the launcher. On Linux a sample takes 50 us for each of them."""

    def __init__(self, launcher: int) -> None:
        self._launcher = launcher
        self._cpu_ns: dict[int, int] = {}

    def sample(self) -> Sample | None:
        """Return the present usage; None where no process is below the launcher."""
        try:
            pids = usage.family((self._launcher,))[1:]
        except OSError:  # out of descriptors; the next sample may succeed
            return None
        rss = sum(map(usage.rss_bytes, pids))
        for pid in pids:
            self._cpu_ns[pid] = max(self._cpu_ns.get(pid, 0), usage.cpu_clock_ns(pid))
        return (time.perf_counter_ns(), rss, sum(self._cpu_ns.values()), len(pids)) if rss else None


if __name__ == "__main__":
    sys.exit(main())
