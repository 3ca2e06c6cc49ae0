"""Process identity, process trees, and their end. Used by the runner, the pool and the jobs alike.

`identity` tells one process from every other, `table` reads the system's list of them, `scan` finds the
members of a tree, `kill` ends it, `priority` says what a session of ours weighs.
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
    LANE_VARIABLE,
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
    "LANE_VARIABLE",
    "LINUX",
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
