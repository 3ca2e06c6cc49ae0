"""The folders and the locks of a home, for every store that processes share: they lie there wherever the
records are. Used by the stores only.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from python_mcp_server.atomic import remove_tree, translate_os_errors
from python_mcp_server.regular import IN_HOME, refuse_links
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.layout import Layout, check_name
from python_mcp_server.store.locks import Locks


class HomeStore(JobStore):
    """A store whose locks and whose jobs' files lie in a home.

    Args:
        home: The directory, whole.
        lock_s: How long to wait for a lock before `StoreLocked` names who holds it.
    """

    def __init__(self, home: str, lock_s: float) -> None:
        self._lock_s = lock_s
        self._layout = Layout(home)
        self._locks = Locks(self._layout.locks, self._layout.home, lock_s)

    @property
    def home(self) -> Path:
        """The directory of the jobs' files."""
        return Path(self._layout.home)

    def folder(self, job_id: str) -> Path:
        """Return the folder of the job's files (`stdout`, `stderr`, ...); it may not exist yet.

        Raises:
            StoreError: It lies behind a symbolic link.
        """
        folder = self._layout.folder(job_id)
        refuse_links(folder, IN_HOME)
        return Path(folder)

    def folder_text(self, job_id: str) -> str:
        """Return `folder` as text, without the cost of a `Path`."""
        return self._layout.folder(job_id)

    def discard_folder(self, job_id: str) -> None:
        """Remove the files of a job that has no record. A missing folder is no error."""
        with translate_os_errors(self._layout.home, f"remove the files of job {job_id!r}"):
            folder = self._layout.folder(job_id)
            self._layout.refuse_links(folder)
            remove_tree(folder)

    def worker_folder(self, name: str) -> Path:
        """Return the folder of the logs of the worker with this name; it may not exist yet."""
        check_name(name)
        return Path(self._layout.worker_logs, name)

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all processes of this home. Not reentrant."""
        check_name(name)
        return self._locks.hold(f"own-{name}")

    def long_locks(self, at_least_s: float) -> list[str]:
        """Return who holds a lock of the home, for at least so long, in words."""
        with translate_os_errors(self._layout.home, "look at the locks"):
            return self._locks.held_for(at_least_s)

    def damaged(self) -> list[Path]:
        """Return the records that were set aside, as files, because they could not be read."""
        with translate_os_errors(self._layout.home, "look for damaged files"):
            directory = self._layout.damaged
            return sorted(Path(directory).iterdir()) if os.path.isdir(directory) else []
