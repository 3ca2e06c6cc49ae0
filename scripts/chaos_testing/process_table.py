"""The processes of one run, found by a mark in their environment.

The name of its variable does not begin with `PYTHON_MCP_`: the runner passes no such variables to scripts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "CHAOS_RUN_ID"
STORE_WORDS: Final = "chaos_testing.program store"
"""In the command line of a library process that uses the store alone."""

_JOB: Final = b"PYTHON_MCP_JOB_ID="
_SWEEP_S: Final = 10.0
_KINDS: Final = (
    ("tracker", b"resource_tracker"),
    ("worker", b"popen_loky_posix"),
    ("program", b"chaos_testing.program"),
    ("server", b"chaos_testing.crash_point"),
    ("server", b"python_mcp_server\0serve"),
)


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A living process of this run.

    Attributes:
        pid: Its id.
        kind: "server", "worker", "program", "script", "child", "tracker", "fork" (of a server or a program,
            about to become something else, perhaps a tracker) or "other".
        job_id: The job whose script or child it is.
        line: Its command line.
    """

    pid: int
    kind: str
    job_id: str
    line: str


def marked_processes(mark: str) -> list[MarkedProcess]:
    """Return every living process with the mark, except this one."""
    wanted = f"{MARK}={mark}".encode()
    found = (_inspect(pid, wanted) for pid in _pids() if pid != os.getpid())
    return [process for process in found if process is not None]


def _pids() -> list[int]:
    if sys.platform == "linux":
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil

    return psutil.pids()


def _inspect(pid: int, wanted: bytes) -> MarkedProcess | None:
    variables, line = _read(pid)
    if wanted not in variables or not line:
        return None  # unrelated, or a zombie
    jobs = [variable.removeprefix(_JOB).decode() for variable in variables if variable.startswith(_JOB)]
    kind = next((name for name, part in _KINDS if part in line), None)
    if kind is None:
        kind = ("script" if _leads(pid) else "child") if jobs else "other"
    elif kind in ("program", "server") and _read(_parent(pid))[1] == line:
        kind = "fork"
    return MarkedProcess(pid, kind, "".join(jobs), line.replace(b"\0", b" ").decode(errors="replace")[:200])


def _read(pid: int) -> tuple[list[bytes], bytes]:
    try:
        if sys.platform == "linux":
            folder = Path(f"/proc/{pid}")
            return (folder / "environ").read_bytes().split(b"\0"), (folder / "cmdline").read_bytes()
        import psutil

        process = psutil.Process(pid)
        variables = [f"{name}={value}".encode() for name, value in process.environ().items()]
        return variables, b"\0".join(word.encode() for word in process.cmdline())
    except Exception:  # noqa: BLE001  it ended, or belongs to another user: not one of ours
        return [], b""


def _parent(pid: int) -> int:
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def worked_s(process: MarkedProcess) -> float:
    """Return the CPU time of a process; 0 where it is gone."""
    import psutil

    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def send(process: MarkedProcess, number: int, mark: str, *, group: bool = False) -> bool:
    """Signal a process if it is still the one that was found; return whether it was."""
    try:
        pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1
        try:
            seen = _inspect(process.pid, f"{MARK}={mark}".encode())
            if seen is None or seen.kind != process.kind:
                return False
            if group:
                os.killpg(process.pid, number)
            elif pidfd >= 0:
                signal.pidfd_send_signal(pidfd, number)
            else:
                os.kill(process.pid, number)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
    except ProcessLookupError:
        return False
    return True


def kill_marked(mark: str) -> None:
    """Kill all marked processes until there are none."""
    deadline = time.monotonic() + _SWEEP_S
    while (found := marked_processes(mark)) and time.monotonic() < deadline:
        for process in found:
            send(process, signal.SIGKILL, mark)
        time.sleep(0.02)


def semaphores() -> set[str]:
    """Return the names of loky's semaphores on this machine, where they are files."""
    folder = Path("/dev/shm")  # noqa: S108  where Linux keeps them
    return {path.name for path in folder.glob("sem.loky-*")} if folder.is_dir() else set()
