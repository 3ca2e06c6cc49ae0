"""A store whose files lie in a directory: the folders of jobs and of workers, and what was set aside.

The base of the stores that processes share; `layout` says where each file lies.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from python_mcp_server.atomic import make_directory, remove_tree, translate_os_errors, write_file
from python_mcp_server.errors import StoreError
from python_mcp_server.regular import IN_HOME, LinkInHome, refuse_links
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.layout import Layout, check_name
from python_mcp_server.store.sweep import clean_temporary, clean_worker_logs, close_to_others

_log: Final = logging.getLogger(__name__)


class FolderStore(JobStore):
    """A store with a home of its own.

    Args:
        home: The directory, absolute; made, private, by `_open_folders` or with the first file.
        fsync: Whether files survive a loss of power too.
    """

    def __init__(self, home: str, *, fsync: bool) -> None:
        self.fsync = fsync
        self._layout: Final = Layout(home)
        self._home: Final = Path(home)

    @property
    def home(self) -> Path:
        """The directory of the jobs' files."""
        return self._home

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

    def damaged(self) -> list[Path]:
        """Return the records that were set aside, as files, because they cannot be read."""
        with translate_os_errors(self._layout.home, "look for damaged files"):
            directory = self._layout.damaged
            return sorted(Path(directory).iterdir()) if os.path.isdir(directory) else []

    def _discard_folders(self, job_ids: list[str]) -> None:
        for job_id in job_ids:
            try:
                self.discard_folder(job_id)
            except StoreError as error:  # such as files of another account
                _log.warning("The files of job %s stay, and are removed another time: %s", job_id, error)

    def _may_be_removed(self, job_id: str) -> bool:
        """Whether no symbolic link lies between the home and the files of this job."""
        try:
            self._layout.refuse_links(self._layout.folder(job_id))
        except LinkInHome as error:
            _log.warning("Job %s stays: %s", job_id, error)
            return False
        return True

    def _put(self, path: str, data: bytes) -> None:
        self._layout.refuse_links(path)
        write_file(path, data, temporary_in=self._layout.tmp, fsync=self.fsync)

    def _put_damaged(self, name: str, data: bytes) -> str:
        """Write what is no record into a file, and return its path."""
        path = f"{self._layout.damaged}/{os.path.basename(name)[:100]}.{os.urandom(4).hex()}"
        with translate_os_errors(self._layout.home, "set a damaged record aside"):
            self._put(path, data)
        return path

    def _open_folders(self) -> None:
        """Make the directories where the records lie elsewhere, closed to other accounts.

        Raises:
            StoreError: They cannot be made, or others may write into them.
        """
        with translate_os_errors(self._layout.home, "open the store"):
            close_to_others(self._layout.home)
            for directory in self._layout.file_directories():
                self._layout.refuse_links(f"{directory}/")
                make_directory(directory, fsync=self.fsync)

    def _clean_folders(self) -> None:
        """Remove what killed processes left in them."""
        try:
            clean_temporary(self._layout.tmp)
            clean_worker_logs(self._layout.worker_logs)
        except OSError as error:
            _log.warning("Cleaning up %s goes on another time: %s", self._layout.home, error)
