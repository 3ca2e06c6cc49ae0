"""The Redis server that most tests share, each with a prefix of its own.

It is started before the tests where any of them needs it; see `tests/conftest.py`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from redis_process import RedisProcess

_shared: list[RedisProcess] = []


def start_shared() -> None:
    """Start the server that tests share."""
    server = RedisProcess()
    server.start()
    _shared.append(server)


def end_shared() -> None:
    """End the shared server."""
    while _shared:
        _shared.pop().__exit__()


def shared() -> RedisProcess:
    """Return the shared server."""
    (server,) = _shared
    return server


def shared_url(home: Path) -> str:
    """Return the URL of a store of its own for each home."""
    return shared().url(hashlib.sha256(str(home).encode()).hexdigest()[:16])
