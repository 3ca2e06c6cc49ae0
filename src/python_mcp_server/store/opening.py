"""Making a home ready: its directories, the mark of its format, the list of an older version, and
what killed processes left. Used by the file store only.

It costs a look at the live, half written and half removed files, never one at the finished jobs.
"""

from __future__ import annotations

import json
import os
from typing import Any, cast

from python_mcp_server.errors import StoreError
from python_mcp_server.store.atomic import explained, make_directory, read_file
from python_mcp_server.store.codec import FORMAT, to_json
from python_mcp_server.store.keys import key_of
from python_mcp_server.store.layout import Layout
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.records import Records
from python_mcp_server.store.sweep import sweep


def open_home(layout: Layout, locks: Locks, records: Records, *, fsync: bool) -> None:
    """Make the home ready for reading and writing.

    Raises:
        StoreError: It cannot be used, or a newer version made it.
    """
    with explained(layout.home, "open the store"):
        for directory in layout.directories():
            make_directory(directory, fsync=fsync)
        marker = read_file(layout.format)
        if marker is None:
            _begin(layout, locks, records)
        else:
            _check(marker, layout.home)
    sweep(layout, locks, records)


def _begin(layout: Layout, locks: Locks, records: Records) -> None:
    with locks.hold("open"):
        if not os.path.exists(layout.format):
            _import_old_list(layout, records)
            mark(layout, records)


def mark(layout: Layout, records: Records) -> None:
    """Say that there is a store here, so that its own list is not taken for that of an older version."""
    records.put(layout.format, to_json({"format": FORMAT}, "format"))


def _check(marker: bytes, home: str) -> None:
    try:
        content: Any = json.loads(marker)
    except ValueError:
        return  # whoever damaged it did not thereby make the records newer
    found = cast("dict[str, Any]", content).get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise StoreError(
            f"The store in {home} has format {found}, and this version reads up to {FORMAT}: "
            "upgrade python-mcp-server, or set PYTHON_MCP_HOME to another directory"
        )


def _import_old_list(layout: Layout, records: Records) -> None:
    data = read_file(layout.public)
    if data is None:
        return
    from python_mcp_server.store.legacy import read_old_list  # needed once in the life of a home

    for job in read_old_list(data, layout.public):
        if records.find(key_of(job.id, job.created_at)) is None:
            records.write(job)
    records.put(layout.imported, data)
