"""The code inside a worker process. It imports no mcp, no pydantic and no numpy.

main       the main thread: reads calls, sends outcomes; the process's start and end
body       one body: found, run within its limits, awaited
control    the control thread: detach, cancel, answers, the parent's end; SIGTERM from outside
cancel     how a cancel reaches exactly one body
progress   reports of a body, coalesced
questions  the questions of a body, and the answers
streams    descriptors 0 to 2 and the log files behind them
state      environment, directory, signals and limits, put back after each body
orphan     a detached job without a server: its record is refreshed, its end is written
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from python_mcp_server.pool.protocol import WorkerPipes


def start(ends: WorkerPipes, log_folder: str, parent_pid: int) -> None:
    """Make this process a worker: loky calls this first. A server need not load `main` for it."""
    from python_mcp_server.pool.worker import main

    main.start(main.WorkerConfig(ends, log_folder, parent_pid))


def serve() -> None:
    """Run calls until the parent is gone or detaches: this is the only call that loky makes in a worker."""
    from python_mcp_server.pool.worker import main

    main.serve()
