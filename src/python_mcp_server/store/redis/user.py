"""Who uses a store: one home of one machine at a time, as the scripts check it at each write.

Processes are known by their pid and boot, so another machine would take the jobs of this one for lost.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Final

from python_mcp_server.processes import LINUX, boot_id

USE_MS: Final = 30_000
"""How long after its last write a machine counts as using the store. A running job writes each second."""


def terms_of(home: str) -> tuple[str | bytes | int, ...]:
    """Return the first arguments of the scripts that write: boot, machine, home, host, lease."""
    machine = f"{machine_id()} {host()}" if machine_id() else ""
    return boot_id(), machine, os.fsencode(os.path.realpath(home)), host(), USE_MS


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def machine_id() -> str:
    """Return the id of this machine, which outlives a boot; empty where it has none. Containers of one image
    may have the same, so it counts together with the name.
    """
    if not LINUX:  # the time of the boot is not told to the second everywhere
        return f"{uuid.getnode():012x}"
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
