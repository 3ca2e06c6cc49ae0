"""Removes what killed processes left beside the records, and closes a home to other accounts. Used by the
stores that processes share.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from python_mcp_server.atomic import remove_file, remove_tree, write_file
from python_mcp_server.errors import StoreError
from python_mcp_server.regular import is_link
from python_mcp_server.store.layout import Layout, is_job_id

_log: Final = logging.getLogger(__name__)
_STALE_S: Final = 60.0
"""Guessed: no write lasts that long. If one does, it starts again when its file is gone."""
_LOGS_STALE_S: Final = 600.0
"""Guessed: a worker's folder whose pid does not exist here may be in use in another container for a while."""
_FOLDER_STALE_S: Final = 86_400.0
"""Guessed: a call has its record within seconds; on a full disk it may run for hours without one."""


def close_to_others(home: str) -> None:
    """Take the right to write into the home from other accounts, which could put anything into it.

    Raises:
        StoreError: It belongs to another account, or to all.
    """
    if os.name != "posix" or not os.path.isdir(home):
        return  # on Windows the directories of an account are its own by their access lists
    found = os.stat(home)
    if not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise StoreError(
            f"Other accounts may write into {home}, which is not this account's alone; "
            "set PYTHON_MCP_HOME to a directory of your own"
        )
    os.chmod(home, stat.S_IMODE(found.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    _log.warning("Other accounts could write into %s; that right is taken away", home)


def sweep_output(
    layout: Layout, known: Callable[[str], bool], hold: Callable[[str], AbstractContextManager[object]]
) -> None:
    """Remove the folders of calls that were killed with their server before they had a record.

    Such a folder must be a day old, so all processes of a home together look once a day.

    Args:
        layout: The home.
        known: Whether there is a record of this job, or was one that is now set aside.
        hold: Takes the lock without which the job's record is not written.
    """
    try:
        swept = os.path.exists(layout.swept)
        if swept and 0 <= time.time() - os.stat(layout.swept).st_mtime < _FOLDER_STALE_S:
            return
        layout.refuse_links(layout.swept)
        write_file(layout.swept, b"", temporary_in=layout.tmp)
        layout.refuse_links(f"{layout.output}/")
        shards = (shard for shard in os.scandir(layout.output) if not is_link(shard.path))
        for entry in (entry for shard in shards for entry in os.scandir(shard.path)):
            name = entry.name
            if is_job_id(name) and _age_s(entry) > _FOLDER_STALE_S and not known(name):
                with hold(name):
                    if not known(name):
                        _remove_folder(entry.path)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.output, error)


def clean_temporary(directory: str) -> None:
    """Remove the files that killed processes did not finish writing.

    Raises:
        OSError: The directory cannot be read.
    """
    for entry in os.scandir(directory):
        stale = _age_s(entry) > _STALE_S or not _may_live(entry.name.partition("-")[0])
        if stale and entry.name.endswith(".tmp"):
            remove_file(entry.path)


def clean_worker_logs(directory: str) -> None:
    """Remove the logs of workers whose server was killed long ago; files that a job has taken stay with the
    job.
    """
    if not os.path.isdir(directory):
        return
    for entry in os.scandir(directory):
        if _age_s(entry) > _LOGS_STALE_S and not _may_live(entry.name.partition("-")[0]):
            _remove_folder(entry.path)


def _remove_folder(path: str) -> None:
    try:
        remove_tree(path)
    except OSError as error:  # such as files of another account, which must not keep the other folders
        _log.warning("%s is of no use, and stays: %s", path, error)


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def _may_live(pid: str) -> bool:
    if os.name != "posix" or not pid.isdecimal():  # elsewhere signal 0 ends the process
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
