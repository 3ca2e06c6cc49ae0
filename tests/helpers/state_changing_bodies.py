"""Bodies that leave their process in another state than they found it in, and values that take their time."""

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
    """Change whatever can be put back."""
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
    """Let the loop have the arrival of signals, which leaves it with nobody afterwards."""
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
    """Leave the working directory, to which nobody can go back: it is gone."""
    os.chdir(os.sep)
    os.rmdir(folder)
    return os.getpid()


def fork_away(path: str) -> None:
    """Fork a process that is in a session of its own and starts no program; then wait to be killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(bodies.LIFETIME_S)
        os._exit(0)
    bodies.note(path, f"started {os.getpid()} {child}")
    time.sleep(bodies.LIFETIME_S)


class Gate:
    """Waits, in the server only, whenever it is taken apart or put together, until the loop has turned."""

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
    """Let gates know from now on that the loop turns."""
    await asyncio.sleep(first_s)
    while True:
        Gate.turns = (Gate.turns or 0) + 1
        await asyncio.sleep(0.01)


def pass_through(gate: Gate) -> Gate:
    return gate


def wait_with(gate: Gate, path: str) -> int:
    """Return the size of what came once the file is there."""
    bodies.note(f"{path}.started", "started")
    while not Path(path).exists():
        time.sleep(0.01)
    return len(gate.content)
