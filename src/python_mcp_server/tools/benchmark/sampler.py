"""Looks at the processes below one, over and over: a program, so that neither the script pays nor we.

It reads a command a line from stdin: `start PID SECONDS`, where PID is the launcher whose children are
looked at every so many SECONDS, and `stop`, which it answers with a line of JSON:
`[[time_ns, rss_bytes, cpu_ns, processes], ...]`. An empty list before all others says that it is there.
It leaves at the end of stdin, so with whoever started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time

FIRST_S = 0.005
"""The first pause; it doubles up to the interval, so that a short script is seen more than once."""
_WAITING_S = 0.002
"""Between two looks for a script that has not started yet; measured: its launcher takes 10 ms."""
_SHARE = 0.005 if sys.platform == "linux" else 0.05
"""Of a core that looking may take, however many processes there are: the script may need all cores."""
MOST_LOOKS = 400
"""When there are so many, every second is dropped, and half as many are taken from then on."""

Look = tuple[int, int, int, int]


def main() -> int:
    """Serve until stdin ends."""
    commands: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    _answer([])
    while (command := commands.get()) is not None:
        if command[0] == "start":
            looks = _watch(int(command[1]), float(command[2]), commands)
            if looks is None:
                break
            _answer(looks)
    return 0


def _answer(looks: list[Look]) -> None:
    sys.stdout.write(json.dumps(looks) + "\n")
    sys.stdout.flush()


def _read(commands: queue.SimpleQueue[list[str] | None]) -> None:
    for line in sys.stdin:
        commands.put(line.split())
    commands.put(None)


def _watch(
    launcher: int, interval_s: float, commands: queue.SimpleQueue[list[str] | None]
) -> list[Look] | None:
    """Look until the next command; None where that is the end."""
    tree = _Tree(launcher) if sys.platform == "linux" else _PsutilTree(launcher)
    looks: list[Look] = []
    pause_s = min(FIRST_S, interval_s)
    while True:
        used_s = -time.process_time()
        look = tree.look()
        used_s += time.process_time()
        if look is not None:
            looks.append(look)
        if len(looks) >= MOST_LOOKS:
            looks, interval_s = _thinned(looks), 2 * interval_s
        try:
            timeout_s = max(pause_s, used_s / _SHARE) if looks else _WAITING_S
            return looks if commands.get(timeout=timeout_s) is not None else None
        except queue.Empty:
            pause_s = min(2 * pause_s, interval_s) if len(looks) > 1 else pause_s


def _thinned(looks: list[Look]) -> list[Look]:
    """Make one of each two: the later one, with the larger memory of both."""
    pairs = zip(looks[::2], looks[1::2], strict=False)
    return [(later[0], max(earlier[1], later[1]), *later[2:]) for earlier, later in pairs]


class _Tree:
    """The processes below one, read from /proc: 50 us a look, where psutil takes milliseconds."""

    def __init__(self, launcher: int) -> None:
        self._launcher = launcher
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._cpu_ns: dict[int, int] = {}

    def look(self) -> Look | None:
        """Return what is there now; None where there is nothing below the launcher."""
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
    """The same elsewhere."""

    def __init__(self, launcher: int) -> None:
        import psutil

        self._gone = psutil.Error
        self._launcher = psutil.Process(launcher)
        self._cpu_ns: dict[int, int] = {}

    def look(self) -> Look | None:
        """Return what is there now; None where there is nothing below the launcher."""
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
