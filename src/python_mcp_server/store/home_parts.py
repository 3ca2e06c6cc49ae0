"""Copies what lies in the home of a store beside its jobs to the home of another store.

These are the files of `jobs.home_files` and their like: rules, quotas, recent starts, keys of repeated
submissions, times to go, ids of removed jobs, the key of the names of principals, and schedules. The journal,
logs and times of cleaning tell what has happened in a home, and stay there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from python_mcp_server.atomic import read_file, remove_file, translate_os_errors, write_file
from python_mcp_server.regular import refuse_links

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

PARTS: Final = (
    "principal.key",
    "queues.json",
    "rates.json",
    "quotas",
    "same",
    "keeping/due",
    "expired",
    "unbegun",
)
"""What jobs need before they start, so it is copied before them."""

SCHEDULES: Final = "schedules"
_TEMPORARY: Final = ".tmp"


def copy_parts(source: JobStore, target: JobStore) -> list[str]:
    """Copy the parts of a home, but the schedules; what the other home has already is left as it is.

    Returns:
        The names of the parts of which the other home has one that differs.

    Raises:
        StoreError: A file cannot be read or written. Another call goes on.
    """
    return [part for part in PARTS if not _copy(source, target, part)]


def move_schedules(source: JobStore, target: JobStore) -> int:
    """Move the schedules, so that no two homes start their jobs; return how many there were.

    Raises:
        StoreError: A file cannot be read or written. Another call goes on.
    """
    with source.exclusive(SCHEDULES), target.exclusive(SCHEDULES):
        _copy(source, target, SCHEDULES)
        with translate_os_errors(str(source.home), "remove the schedules that were moved"):
            return sum(map(remove_file, list(_files(str(source.home), SCHEDULES))))


def _copy(source: JobStore, target: JobStore, part: str) -> bool:
    """Copy a file, or those of a directory; return whether the other home has the same ones now."""
    old, new, same = str(source.home), str(target.home), True
    with translate_os_errors(new, f"copy {part} of {old}"):
        refuse_links(os.path.join(new, part), part.count("/") + 1)
        for path in _files(old, part):
            there = os.path.join(new, os.path.relpath(path, old))
            data, found = read_file(path), read_file(there)
            if data is not None and found is None:
                write_file(there, data, fsync=target.fsync)
            same = same and found in (None, data)
    return same


def _files(home: str, part: str) -> Iterator[str]:
    path = os.path.join(home, part)
    refuse_links(path, part.count("/") + 1)
    if os.path.isfile(path):
        yield path
    for directory, _, names in os.walk(path):
        yield from (os.path.join(directory, name) for name in names if not name.endswith(_TEMPORARY))
