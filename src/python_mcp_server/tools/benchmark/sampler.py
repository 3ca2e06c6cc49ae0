"""Samples the memory and CPU time of a process tree: a program, so that the script and the worker do not pay.

The program reads one command per line from stdin: `start PID SECONDS` samples the processes below the
launcher PID at this interval; `stop` is answered with a line of JSON: `[[time_ns, rss_bytes, cpu_ns,
processes], ...]`. The program writes an empty list when it is ready, and exits at the end of stdin.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time

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
    tree = _Tree(launcher) if sys.platform == "linux" else _PsutilTree(launcher)
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
    """The processes below one, read from /proc in 50 us; psutil takes milliseconds."""

    def __init__(self, launcher: int) -> None:
        self._launcher = launcher
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._cpu_ns: dict[int, int] = {}

    def sample(self) -> Sample | None:
        """Return the present usage; None where no process is below the launcher."""
        pids = _children(self._launcher)
        for pid in pids:  # grows while it is walked
            pids += _children(pid)
        rss = 0
        for pid in pids:
            pages = _file(f"/proc/{pid}/statm").split()
            rss += int(pages[1]) * self._page if pages else 0
            self._cpu_ns[pid] = max(self._cpu_ns.get(pid, 0), _cpu_ns(pid))
        return (time.perf_counter_ns(), rss, sum(self._cpu_ns.values()), len(pids)) if rss else None


class _PsutilTree:
    """The same on systems without /proc."""

    def __init__(self, launcher: int) -> None:
        import psutil

        self._gone = psutil.Error
        self._launcher = psutil.Process(launcher)
        self._cpu_ns: dict[int, int] = {}

    def sample(self) -> Sample | None:
        """Return the present usage; None where no process is below the launcher."""
        rss = count = 0
        try:
            children = self._launcher.children(recursive=True)
        except self._gone:
            return None
        for child in children:
            try:
                with child.oneshot():
                    rss += child.memory_info().rss
                    times = child.cpu_times()
            except self._gone:
                continue
            count += 1
            self._cpu_ns[child.pid] = int(1e9 * (times.user + times.system))
        return (time.perf_counter_ns(), rss, sum(self._cpu_ns.values()), count) if rss else None


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [
        int(child) for thread in threads for child in _file(f"/proc/{pid}/task/{thread}/children").split()
    ]


def _file(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _cpu_ns(pid: int) -> int:
    """Return the CPU time of a process and its threads, from its own clock: /proc tells 10 ms steps."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # what clock_getcpuclockid makes of a pid
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
