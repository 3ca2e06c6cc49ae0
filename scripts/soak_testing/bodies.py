"""What the worker of the soak test `calls` runs. Imported by the worker, so it stays light."""

from __future__ import annotations

import os


def worker_pid() -> int:
    """Return the pid of the worker."""
    return os.getpid()
