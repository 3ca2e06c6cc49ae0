"""The store of a home, as the settings name it, for tests that hold for every store that processes share."""

from __future__ import annotations

from pathlib import Path

from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.opening import open_store


def store_of(home: Path) -> JobStore:
    """Open the store of this home."""
    return open_store(Settings.from_environ(home=home))


def url_in(home: Path, kind: str) -> str:
    """Return the setting for a store of this kind in the home."""
    return f"sqlite://{home}/jobs.db" if kind == "sqlite" else ""


def lists_with_jobs(store: JobStore) -> tuple[str, ...]:
    """Return the names of the lists in the index that have a job."""
    return tuple(name for name in store.index_names("") if store.index_count(name, 1))
