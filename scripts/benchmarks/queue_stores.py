"""The stores that a queue can lie in, those that this checkout has."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from python_mcp_server.store.files import FileJobStore

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

FILES: Final = "FileJobStore"
SQLITE: Final = "SqliteJobStore"
_SQLITE_MODULE: Final = "python_mcp_server.store.sqlite"

STORES: Final = (FILES, SQLITE) if find_spec(_SQLITE_MODULE) else (FILES,)


def open_store(name: str, place: Path) -> JobStore:
    """Open a store in this directory."""
    if name == FILES:
        return FileJobStore(place)
    return import_module(_SQLITE_MODULE).SqliteJobStore(place / "jobs.sqlite")
