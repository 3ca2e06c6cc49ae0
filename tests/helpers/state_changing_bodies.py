"""Bodies that change the state of their process, and values that are slow to pickle."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from python_mcp_server.context import in_worker
from tests.helpers import bodies
from tests.helpers.waiting import eventually

LARGE_BYTES: Final = 300_000


def spoil(folder: str) -> int:
    """Change all process state that can be restored."""
    import resource

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 3600)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    signal.set_wakeup_fd(-1)
    os.chdir(folder)
    os.umask(0o777)
    os.environ["SECRET"] = "left"
    del os.environ["PATH"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    return os.getpid()


async def hear_a_signal() -> int:
    """Let the event loop set the wake-up descriptor of signals, which stays closed afterwards."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, bool)
    loop.remove_signal_handler(signal.SIGUSR1)
    return os.getpid()


def replace_environ() -> int:
    os.environ = {"SECRET": "left"}  # type: ignore[assignment]  # noqa: B003
    return os.getpid()


def state() -> dict[str, Any]:
    """Return what `spoil` changes, without the id of the present job."""
    import resource

    mask = os.umask(0o77)
    os.umask(mask)
    told = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHON_MCP_JOB_ID"}
    return {
        "pid": os.getpid(),
        "children": signal.getsignal(signal.SIGCHLD),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "told": told,
        "folder": os.getcwd(),
        "umask": mask,
        "environ": variables,
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def spoil_for_good(folder: str) -> int:
    """Remove the working directory, so that it cannot be restored."""
    os.chdir(os.sep)
    os.rmdir(folder)
    return os.getpid()


def fork_away(path: str) -> None:
    """Fork a process into a session of its own, without an exec; then wait to be killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(bodies.LIFETIME_S)
        os._exit(0)
    bodies.note(path, f"started {os.getpid()} {child}")
    time.sleep(bodies.LIFETIME_S)


class Gate:
    """Waits until the loop has run whenever it is pickled or unpickled in the server."""

    turns: int | None = None

    def __init__(self) -> None:
        self.content = bytes(LARGE_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        self._wait()
        return {"content": self.content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._wait()
        self.__dict__.update(state)

    @classmethod
    def _wait(cls) -> None:
        if not in_worker() and (before := cls.turns) is not None:
            eventually(lambda: cls.turns != before)


async def count_turns(first_s: float = 0.0) -> None:
    """Count the turns of the loop, for which gates wait."""
    await asyncio.sleep(first_s)
    while True:
        Gate.turns = (Gate.turns or 0) + 1
        await asyncio.sleep(0.01)


def pass_through(gate: Gate) -> Gate:
    return gate


def wait_with(gate: Gate, path: str) -> int:
    """Return the size of the value once the file exists."""
    bodies.note(f"{path}.started", "started")
    while not Path(path).exists():
        time.sleep(0.01)
    return len(gate.content)
