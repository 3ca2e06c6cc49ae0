"""Looks at the processes below one, over and over: a program, so that neither the script pays nor we.

It reads a command a line from stdin: `start PID SECONDS`, where PID is the launcher whose children are
looked at every so many SECONDS, and `stop`, which it answers with a line of JSON:
`[[time_ns, rss_bytes, cpu_ns, processes], ...]`. An empty list before all others says that it is there.
It leaves at the end of stdin, so with whoever started it.
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
    tree = _Tree(launcher)
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
    """The processes below one. On Linux a look takes 50 us for each of them."""

    def __init__(self, launcher: int) -> None:
        self._launcher = launcher
        self._cpu_ns: dict[int, int] = {}

    def look(self) -> Look | None:
        """Return what is there now; None where there is nothing below the launcher."""
        try:
            pids = usage.family((self._launcher,))[1:]
        except OSError:  # out of descriptors; the next look may do better
            return None
        rss = sum(map(usage.rss_bytes, pids))
        for pid in pids:
            self._cpu_ns[pid] = max(self._cpu_ns.get(pid, 0), usage.cpu_clock_ns(pid))
        return (time.perf_counter_ns(), rss, sum(self._cpu_ns.values()), len(pids)) if rss else None


if __name__ == "__main__":
    sys.exit(main())
