"""Processes of the system: their identity, their trees, their end, what they use.

Used by the runner, the pool, the jobs and the tools; knows none of them.

* `identity`: a process as pid, start time, boot and PID namespace; signals that reach no other process.
* `tree`: the members of a process tree (`TreeScan`), by parents, sessions and environment variables.
* `kill`: the kill of a whole tree (`kill_tree`).
* `usage`: memory and CPU time of processes, and the walk over children. Loaded by path by the benchmark's
  sampler program, so it imports only the standard library.
* `host`: cores and memory of the machine or container, and the weight of a session beside others.
* `inherited`: the repair of inherited signals, descriptors, umask and directory; subreapers.
* `portable`: the same facts through psutil, where there is no /proc.
"""

from __future__ import annotations

from python_mcp_server.processes.host import (
    change_priority,
    hand_on_priority,
    keep_priority,
    worker_variables,
)
from python_mcp_server.processes.identity import (
    JOB_VARIABLE,
    KILL,
    WORKER_VARIABLE,
    boot_id,
    identify,
    is_alive,
    is_gone,
    is_out_of_reach,
    send_signal,
    signal_name,
)
from python_mcp_server.processes.kill import kill_tree
from python_mcp_server.processes.tree import TreeScan, find_tree
from python_mcp_server.processes.usage import LINUX

__all__ = [
    "JOB_VARIABLE",
    "KILL",
    "LINUX",
    "WORKER_VARIABLE",
    "TreeScan",
    "boot_id",
    "change_priority",
    "find_tree",
    "hand_on_priority",
    "identify",
    "is_alive",
    "is_gone",
    "is_out_of_reach",
    "keep_priority",
    "kill_tree",
    "send_signal",
    "signal_name",
    "worker_variables",
]
