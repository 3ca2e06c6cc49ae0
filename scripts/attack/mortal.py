"""Death at a step of the store: a process that is armed kills itself before its n-th system call that
changes a disk, or half way in a write. `python -m attack.mortal` is a server that does so.

Only the store's own modules see the dying calls: what else a server opens and writes does not count.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

STEP_VARIABLE: Final = "PYTHON_MCP_CHAOS_STEP"
DEATHS_VARIABLE: Final = "PYTHON_MCP_CHAOS_DEATHS"
_MODULES: Final = (
    "atomic",
    *(f"store.{name}" for name in ("counts", "locks", "records", "layout", "maintenance")),
)
_STEPS: Final = frozenset(
    {"open", "write", "fchmod", "fsync", "replace", "link", "unlink", "mkdir", "rmdir", "chmod", "utime"}
)
_WRITING: Final = os.O_WRONLY | os.O_RDWR
_WORKER_STEPS: Final = 16
"""A worker writes one end at most: of later steps it would never die."""


class _Mortal:
    """Stands in for the module `os`, until the step at which this process dies."""

    def __init__(self, real: ModuleType, step: int, deaths: str) -> None:
        self._real = real
        self._left = step
        self._deaths = deaths
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._counted(name, real) if name in _STEPS else real

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & _WRITING:
                return real(*arguments, **options)
            with self._lock:
                self._left -= 1
                last = self._left == 0
            if last:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                _die(self._deaths, name)
            return real(*arguments, **options)

        return call


def _die(deaths: str, name: str) -> None:
    descriptor = os.open(deaths, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {name} {time.monotonic()}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def arm(*, worker: bool = False) -> None:
    """Make this process mortal, if its environment says so."""
    step = int(os.environ.get(STEP_VARIABLE, "0"))
    if step:
        stand_in = _Mortal(os, step % _WORKER_STEPS + 1 if worker else step, os.environ[DEATHS_VARIABLE])
        for name in _MODULES:
            vars(import_module(f"python_mcp_server.{name}"))["os"] = stand_in


if __name__ == "__main__":
    from python_mcp_server.server.serve import run_stdio

    arm()
    sys.exit(run_stdio())
