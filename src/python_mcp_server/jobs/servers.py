"""Whether a server of a home is up: a program that starts its queued jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from python_mcp_server import processes

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

NO_SERVER: Final = "no server of this home is up; `python-mcp-server serve` is one"
_LOOKED_AT: Final = 1_000


def has_server(store: JobStore) -> bool:
    """Whether a process of this machine has workers of the home: the names of their folders begin with its
    pid. Blocks for a moment.
    """
    try:
        names = os.listdir(store.worker_folder("0").parent)
    except (FileNotFoundError, NotADirectoryError):
        return False
    pids = {name.partition("-")[0] for name in names[:_LOOKED_AT]}
    return any(pid.isdecimal() and processes.identify(int(pid)) is not None for pid in pids)
