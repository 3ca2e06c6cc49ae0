"""Ctrl-C while the program `python-mcp-server` starts.

Until a command listens, there is nothing to cancel and nothing to clean up, so the process leaves at once and
in silence. A `KeyboardInterrupt` would show a traceback, or come within an import, where Python may lose it.
The package sets this at its first line, and only where it is the program: the signals of a program that uses
this library are its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C."""

_SCRIPT: Final = "python-mcp-server"


def leave_quietly_if_program() -> None:
    """Let Ctrl-C end this process at once, if it is the program and Python's own handler is set."""
    if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_again() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, where `leave_quietly_if_program` has changed that."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def leaving_quietly() -> Generator[None]:
    """Let Ctrl-C end this process at once, until the context ends or a command listens."""
    before = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _is_program() -> bool:
    """Whether Python was started with `-m python_mcp_server`, or with the script that pip makes."""
    if threading.current_thread() is not threading.main_thread():
        return False
    words = getattr(sys, "argv", [])
    if words[:1] == ["-m"]:  # while Python looks for the module
        return sys.orig_argv[-len(words)] == "python_mcp_server"
    folder, name = os.path.split(str(getattr(sys.modules.get("__main__"), "__file__", None)))
    return name == _SCRIPT or os.path.basename(folder) == f"{_SCRIPT}.exe"  # Windows: a zip behind a launcher
