"""A crash point: an armed process kills itself before its n-th system call that changes the disk, or halfway
through a write; where the store is a database, also before a statement that changes it, and where it is a
server, before and after a script.
`python -m chaos_testing.crash_point` is a server that does so.

Only calls of the modules of the store count.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from python_mcp_server import atomic
from python_mcp_server.store import database, layout, locks, maintenance, records
from python_mcp_server.store.redis.connection import RedisServer

CRASH_STEP_VARIABLE: Final = "PYTHON_MCP_CHAOS_STEP"
CRASHES_VARIABLE: Final = "PYTHON_MCP_CHAOS_CRASHES"
_STEPS: Final = frozenset(
    {"open", "write", "fchmod", "fsync", "replace", "link", "unlink", "mkdir", "rmdir", "chmod", "utime"}
)
_STATEMENTS: Final = ("BEGIN", "INSERT", "DELETE", "COMMIT")
_WRITING: Final = os.O_WRONLY | os.O_RDWR
_WORKER_STEPS: Final = 16
"""A worker writes one end at most, so it never comes to a later step."""


class _CrashingOs:
    """Replaces the module `os`, and kills this process at one of its calls."""

    def __init__(self, real: ModuleType, step: int, crashes: str) -> None:
        self._real = real
        self._left = step
        self._crashes = crashes
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._counted(name, real) if name in _STEPS else real

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & _WRITING:
                return real(*arguments, **options)
            if self.is_last_step():
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                _crash(self._crashes, name)
            return real(*arguments, **options)

        return call

    def is_last_step(self) -> bool:
        """Count a step, and return whether the process ends at it."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def crash(self, name: str) -> None:
        """Kill this process at the step of this name."""
        _crash(self._crashes, name)


def _crash(crashes: str, name: str) -> None:
    descriptor = os.open(crashes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {name} {time.monotonic()}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def arm_crash_point(*, worker: bool = False) -> None:
    """Arm this process if its environment variables say so."""
    step = int(os.environ.get(CRASH_STEP_VARIABLE, "0"))
    if step:
        crashing_os = _CrashingOs(
            os, step % _WORKER_STEPS + 1 if worker else step, os.environ[CRASHES_VARIABLE]
        )
        for module in (atomic, layout, locks, maintenance, records):
            vars(module)["os"] = crashing_os
        _arm_statements(crashing_os)
        _arm_scripts(crashing_os)


def _arm_statements(steps: _CrashingOs) -> None:
    class CrashingConnection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql.startswith(_STATEMENTS) and steps.is_last_step():
                steps.crash(sql.split(maxsplit=1)[0].lower())
            return super().execute(sql, *parameters)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(*arguments, factory=CrashingConnection, **options)

    setattr(database, "connect", connect)  # noqa: B010  it is imported there from sqlite3


def _arm_scripts(steps: _CrashingOs) -> None:
    run = RedisServer.run

    def crashing(server: RedisServer, script: str, doing: str, *arguments: bytes | str | float) -> Any:
        if steps.is_last_step():
            steps.crash("script")
        answer = run(server, script, doing, *arguments)
        if steps.is_last_step():
            steps.crash("answer")
        return answer

    setattr(RedisServer, "run", crashing)  # noqa: B010  as above


if __name__ == "__main__":
    from python_mcp_server.server.serve import run_stdio

    arm_crash_point()
    sys.exit(run_stdio())
