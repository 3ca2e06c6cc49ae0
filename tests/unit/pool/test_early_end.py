"""What is known of a worker that ended before it was ready."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from python_mcp_server.pool.outcomes import early_end
from python_mcp_server.processes import KILL
from python_mcp_server.processes.host import is_shortage

TRACEBACK = "Traceback (most recent call last):\n  File 'a.py', line 1, in <module>\n    import b\n"
RULER = "\n\n" + "-" * 80 + "\n"


@pytest.mark.parametrize(
    "said",
    [
        "MemoryError",
        "RuntimeError: can't start new thread",
        "OSError: [Errno 24] Too many open files",
        "OSError: [Errno 23] Too many open files in system: '/usr/lib'",
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "OSError: [Errno 28] No space left on device",
        "ImportError: a.so: failed to map segment from shared object",
        "ImportError: a.so: cannot open shared object file: Too many open files",
        "ImportError: a.so: cannot open shared object file: Error 24",
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the numbers are those of POSIX")
def test_a_worker_that_told_of_a_shortage_was_short(tmp_path: Path, said: str):
    log = tmp_path / "stderr"
    log.write_text(f"a warning\n{RULER}w failed with traceback:{RULER}{TRACEBACK}{said}\n{RULER}")
    for exit_code in (0, 1, -KILL):
        error = early_end(exit_code, str(log))
        assert is_shortage(error)
        assert str(error) == f"the worker process ended before it was ready: {said}"


@pytest.mark.parametrize(
    "said",
    [
        "ModuleNotFoundError: No module named 'loky'",
        "ImportError: a.so: failed to map segment from shared object: Operation not permitted",
        "ImportError: a.so: cannot allocate memory in static TLS block",
        "PermissionError: [Errno 13] Permission denied: '/usr/lib'",
        "RuntimeError: the worker was not started",
    ],
)
def test_a_worker_that_told_of_something_else_was_not_short(tmp_path: Path, said: str):
    log = tmp_path / "stderr"
    log.write_text(f"{TRACEBACK}MemoryError\n{TRACEBACK}{said}\n")
    for exit_code in (1, -KILL):
        error = early_end(exit_code, str(log))
        assert not is_shortage(error)
        assert str(error).endswith(said)


@pytest.mark.parametrize(
    ("exit_code", "short", "words"),
    [
        (-KILL, True, "was ended by signal"),
        (1, False, "exited with code 1"),
        (-11, False, "was ended by signal 11"),
        (None, False, "ended without a word"),
    ],
)
def test_of_a_worker_without_a_traceback_the_exit_code_tells(
    tmp_path: Path, exit_code: int | None, short: bool, words: str
):
    log = tmp_path / "stderr"
    for text in (None, "a warning of an interpreter\n"):
        if text:
            log.write_text(text)
        error = early_end(exit_code, str(log))
        assert is_shortage(error) is short
        assert words in str(error)
        assert str(error).endswith("interpreter" if text else "before it was ready")
