"""Start Python programs that see this checkout, and the environment of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


def environment(**changes: str | None) -> dict[str, str]:
    """Return the present environment with this checkout importable; None removes a variable."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    merged = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def python(
    *arguments: str | Path, env: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start Python with these arguments (`"-c", code`, or a file), with text pipes.

    Use it in a `with` block, which closes the pipes and reaps it, after the test has ended it.
    """
    defaults: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    command = [sys.executable, *map(str, arguments)]
    return _Program(command, env=env or environment(), text=True, **{**defaults, **options})


class _Program(subprocess.Popen[str]):
    """Killed where its block fails: else the test would wait for its end, and not tell of the failure."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def outputs(processes: Iterable[subprocess.Popen[str]], deadline_s: float = 120.0) -> list[str]:
    """Let them all begin at once when each has printed "ready", and return what they print afterwards."""
    with ExitStack() as stack:
        running = [stack.enter_context(process) for process in processes]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=deadline_s) for process in running]
        ends = [(process.returncode, errors) for process, (_, errors) in zip(running, told, strict=True)]
        assert ends == [(0, "")] * len(running)
        return [out for out, _ in told]


def run_python(
    *arguments: str | Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    deadline_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end and return its exit code and output."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command,
        env=env or environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
