"""What processes that were killed left behind. Used by the file store only.

`sweep`, when a store is opened, costs a look at the live, half written and half removed files, never one at
the finished jobs. `sweep_output` looks at the folders of all jobs, as a prune does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container
from typing import Final

from python_mcp_server.errors import StoreError
from python_mcp_server.store.atomic import remove_file, remove_tree
from python_mcp_server.store.keys import id_of, is_key, is_own
from python_mcp_server.store.layout import LIVE, TERMINAL, Layout
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.records import Records

_log: Final = logging.getLogger(__name__)
_STALE_S: Final = 60.0
"""Guessed: no write lasts that long. Should one, it starts again when its file is gone."""
_LANE_STALE_S: Final = 600.0
"""Guessed: a lane folder of a pid that is not here may be in use in another container for a while."""

_FOLDER_STALE_S: Final = 86_400.0
"""Guessed: a call has its record within seconds; on a full disk it may run for hours without one."""


def sweep(layout: Layout, locks: Locks, records: Records) -> None:
    """Remove what is of no use any more. What cannot be removed now stays for the next time."""
    try:
        _sweep_temporary(layout.tmp)
        _sweep_lanes(layout.lanes)
        for key in _keys(layout.trash):
            with locks.hold(layout.stripe(id_of(key)), wait_s=0):
                records.finish_removal(key)
        for key in _keys(f"{layout.jobs}/{LIVE}"):
            if any(os.path.exists(layout.record(tree, key)) for tree in TERMINAL):
                with locks.hold(layout.stripe(id_of(key)), wait_s=0):
                    _drop_leftover(records, key)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.home, error)


def sweep_output(layout: Layout, locks: Locks, records: Records, known: Container[str]) -> None:
    """Remove the folders of calls that were killed with their server before they had a record.

    Args:
        layout: The paths of the home.
        locks: Against those who write a record now.
        records: Asked again under the lock.
        known: The ids of all jobs that had a record a moment ago.
    """
    try:
        for shard in os.scandir(layout.output):
            for entry in os.scandir(shard.path):
                if entry.name not in known and is_own(entry.name) and _age_s(entry) > _FOLDER_STALE_S:
                    with locks.hold(layout.stripe(entry.name), wait_s=0):
                        if not records.known(entry.name):
                            remove_tree(entry.path)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.output, error)


def _drop_leftover(records: Records, key: str) -> None:
    stored = records.find(key, locked=True)
    if stored is not None and stored.job.status.terminal:
        records.drop_live(key)


def _keys(directory: str) -> list[str]:
    names = [name.removesuffix(".json") for name in os.listdir(directory)]
    return [name for name in names if is_key(name)]


def _sweep_temporary(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.name.endswith(".tmp") and _is_stale(entry):
            remove_file(entry.path)


def _sweep_lanes(directory: str) -> None:
    """Remove the logs of lanes whose server was killed long ago; what a job has taken is its own."""
    if not os.path.isdir(directory):
        return
    for entry in os.scandir(directory):
        if _age_s(entry) > _LANE_STALE_S and not _may_live(entry.name.partition("-")[0]):
            remove_tree(entry.path)


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def _is_stale(entry: os.DirEntry[str]) -> bool:
    return _age_s(entry) > _STALE_S or not _may_live(entry.name.partition("-")[0])


def _may_live(pid: str) -> bool:
    if os.name != "posix" or not pid.isdecimal():  # elsewhere signal 0 is no question, it ends the process
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
