"""Programs whose main file holds bodies, as text; each prints one line of JSON per call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.helpers.programs import run_python

TOP: Final = """\
import asyncio, contextvars, decimal, enum, functools, json, logging, pickle, threading, typing
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from python_mcp_server import smart_async
from python_mcp_server.context import in_worker
from python_mcp_server.jobs.request import Request
from python_mcp_server.smart_async import default_manager

async def told(call):
    try:
        value = await call
    except Exception as error:
        notes = "".join(getattr(error, "__notes__", ()))
        value = [type(error).__name__, str(error), notes]
    print(json.dumps(value), flush=True)
"""

GUARDED: Final = """
if __name__ == "__main__":
    asyncio.run(main())
"""


def answers(program: str, folder: Path, *options: str, name: str = "program.py") -> list[Any]:
    """Run a program in a folder; return what it printed."""
    path = folder / name
    path.write_text(TOP + program, encoding="utf-8")
    ended = run_python(*(options or (path,)))
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]
