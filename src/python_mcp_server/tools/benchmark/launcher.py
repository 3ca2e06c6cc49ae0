"""Starts one command, waits for it, and writes the kernel's figures about it to a file.

The launcher runs in the interpreter of the measured script, isolated and without `site`, and imports next to
nothing: so it is always smaller than the script, whose memory peak would otherwise be the size of its parent.
It runs in any Python from 3.8 on.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(target: str, command: list[str]) -> int:
    """Run the command and return 0, also where it failed.

    Args:
        target: The file for the figures, a line of `name value` each; only `errno` where the command
            cannot be started.
        command: The absolute path of a program, and its arguments.
    """
    try:
        figures = _measure_simply(command) if sys.platform == "win32" else _measure(command)
    except OSError as error:
        figures = {"errno": error.errno or 0}
    text = "".join([f"{name} {value}\n" for name, value in figures.items()])
    with open(target, "w", encoding="ascii") as file:
        file.write(text)
    return 0


def _measure(command: list[str]) -> dict[str, float]:
    import posix

    to_command = _leave_signals_to_the_command()
    environment = dict(posix.environ)
    environment.pop(b"__PYVENV_LAUNCHER__", None)  # our own start left it, on macOS
    started = time.perf_counter_ns()
    pid = posix.posix_spawn(command[0], command, environment, setsigdef=to_command)
    if hasattr(posix, "waitid"):  # macOS has none before 3.13
        posix.waitid(posix.P_PID, pid, posix.WEXITED | posix.WNOWAIT)
    ended = time.perf_counter_ns()
    transferred, waited = _transferred(pid), _waited(pid)  # readable until the process is reaped
    _, status, usage = posix.wait4(pid, 0)
    ended = ended if hasattr(posix, "waitid") else time.perf_counter_ns()
    return {
        "started": started,
        "ended": ended,
        "exit_code": -(status & 127) or status >> 8,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "max_rss": usage.ru_maxrss,
        "minor_faults": usage.ru_minflt,
        "major_faults": usage.ru_majflt,
        "voluntary_switches": usage.ru_nvcsw,
        "involuntary_switches": usage.ru_nivcsw,
        **transferred,
        **waited,
    }


def _leave_signals_to_the_command() -> list[int]:
    """Ignore the signals that end the whole group: the command reacts, and the launcher waits for its end.

    Returns:
        The signals that the command starts with at their defaults, those that Python ignores included.
    """
    signals: Any = __import__("_signal")  # `signal` would bring `enum`, and with it 0.5 MB
    for name in ("SIGINT", "SIGTERM"):
        signals.signal(getattr(signals, name), signals.SIG_IGN)
    return [getattr(signals, name) for name in ("SIGINT", "SIGTERM", "SIGPIPE", "SIGXFSZ")]


def _transferred(pid: int) -> dict[str, float]:
    """Return the bytes that an ended process and its children read and wrote; empty outside Linux."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            return {name.rstrip(":"): int(value) for name, value in map(str.split, file)}
    except OSError:
        return {}


def _waited(pid: int) -> dict[str, float]:
    """Return how long the main thread was ready but had no core; empty outside Linux."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return {"waited_ns": int(file.read().split()[1])}
    except OSError:
        return {}


def _measure_simply(command: list[str]) -> dict[str, float]:
    """Measure the times only: Windows accounts for a process without its children; the sampler sees those."""
    import subprocess

    started = time.perf_counter_ns()
    code = subprocess.Popen(command).wait()
    return {"started": started, "ended": time.perf_counter_ns(), "exit_code": code}
