"""The store of a home, as the settings name it, for tests that hold for every store that processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore
from python_mcp_server.store.opening import open_store
from python_mcp_server.store.redis.job_store import RedisJobStore
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers import redis_server

SHARED: Final = ["file", "sqlite", *(["redis"] if redis_server.PROGRAM else [])]
"""The kinds of stores that processes share, of which this machine has what they need."""

EVERY: Final = ["memory", *SHARED]


def store_of(home: Path) -> JobStore:
    """Open the store of this home."""
    return open_store(Settings.from_environ(home=home))


def url_in(home: Path, kind: str) -> str:
    """Return the setting for a store of this kind in the home."""
    if kind == "redis":
        return redis_server.shared_url(home)
    return f"sqlite://{home}/jobs.db" if kind == "sqlite" else ""


def made_in(home: Path, kind: str) -> JobStore:
    """Open a store of this kind in the home."""
    if kind == "redis":
        return RedisJobStore(redis_server.shared_url(home), home=home / "redis")
    if kind == "sqlite":
        return SqliteJobStore(home / "jobs.db")
    return InMemoryJobStore() if kind == "memory" else FileJobStore(home)
