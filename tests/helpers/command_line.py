"""The command line, run in this process: a process of its own costs 0.3 s of CPU."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from python_mcp_server.cli import main


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as its entry point does; return its exit code and output."""
    arguments, code = [str(word) for word in words], 0
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            main(arguments)
        except SystemExit as left:
            code = int(left.code or 0)
    said = [stream.buffer.getvalue().decode() for stream in (out, errors)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, *said)
