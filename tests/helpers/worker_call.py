"""A process that runs one tool body as a worker does: a subreaper, with a job and null stdin.

`python -m tests.helpers.worker_call FOLDER 'module:function' KWARGS`, the last as JSON. It prints a
JSON object: its `job_id`, `result` or `error`, whether the job asked to be `kept`, its `progress`
messages, the `children` that are left, and the `peak_mb` of its own memory. SIGUSR1 cancels the body.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

from python_mcp_server import context
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.errors import PythonMcpError
from python_mcp_server.model import new_job_id
from python_mcp_server.runner.orphans import own_children
from python_mcp_server.settings import Settings


def main(folder: str, body: str, kwargs: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    context.mark_worker()
    messages: list[str | None] = []
    job = context.JobContext(
        new_job_id(),
        "a test",
        folder,
        lambda progress: messages.append(progress.message),
        grace_s=Settings.from_environ().cancel_grace_seconds,
    )
    context.enter_job(job, whole_process=True)
    signal.signal(signal.SIGUSR1, _cancel)
    answer: dict[str, Any] = {"job_id": job.id}
    try:
        module, _, name = body.partition(":")
        answer["result"] = getattr(importlib.import_module(module), name)(**json.loads(kwargs))
    except (PythonMcpError, JobCancelled) as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer |= {"kept": job.wants_record, "progress": messages, "children": sorted(own_children())}
    answer["peak_mb"] = _peak_mb()
    answer["modules"] = sorted({"mcp", "pydantic", "starlette", "asyncio"} & sys.modules.keys())
    print(json.dumps(answer))


def _cancel(*_: object) -> None:
    raise JobCancelled


def _peak_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1000


if __name__ == "__main__":
    os.environ.pop("PYTHON_MCP_JOB_ID", None)
    main(*sys.argv[1:])
