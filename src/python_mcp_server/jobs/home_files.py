"""Small files in a directory of the home, which all processes of the home share: keys, expiry, tombstones.

They work beside every store, because each has a home. They are private, are replaced whole, and are not read
or written through a symbolic link. Every method blocks for a moment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from python_mcp_server.atomic import make_directory, read_file, remove_file, remove_tree, write_file
from python_mcp_server.atomic import translate_os_errors as translated
from python_mcp_server.regular import open_own, refuse_links
from python_mcp_server.store.layout import Layout

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class HomeFiles:
    """The files of one directory of a home, which may have directories. A path is a tuple of names.

    Raises, from every method:
        StoreError: The disk cannot be read or written, or a directory is a symbolic link.
    """

    def __init__(self, store: JobStore, name: str) -> None:
        self._home = str(store.home)
        self._top = os.path.join(self._home, name)
        self._tmp = Layout(self._home).tmp
        self._fsync = store.fsync

    def read(self, *path: str) -> bytes | None:
        """Return the content of a file; None if the file does not exist."""
        with translated(self._home, "read a file of the home"):
            return read_file(self._checked(path))

    def write(self, *path: str, data: bytes = b"") -> None:
        """Write a file; its directories are made."""
        with translated(self._home, "write a file of the home"):
            write_file(self._checked(path), data, temporary_in=self._tmp, fsync=self._fsync)

    def append(self, *path: str, data: bytes, most_bytes: int) -> None:
        """Add to the end of a file, unless it has this many bytes already."""
        with translated(self._home, "write a file of the home"):
            file = self._checked(path)
            make_directory(os.path.dirname(file), fsync=self._fsync)
            descriptor = open_own(file, _APPEND)
            try:
                if os.fstat(descriptor).st_size < most_bytes:
                    os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def remove(self, *path: str) -> bool:
        """Remove a file, and return whether it was there."""
        with translated(self._home, "remove a file of the home"):
            return remove_file(self._checked(path))

    def remove_all(self, *path: str) -> None:
        """Remove a directory with all in it."""
        with translated(self._home, "remove a directory of the home"):
            remove_tree(self._checked(path))

    def names(self, *path: str) -> list[str]:
        """Return the sorted names in a directory; none where it is missing."""
        directory = os.path.join(self._top, *path)
        with translated(self._home, "read a directory of the home"):
            refuse_links(directory, len(path) + 1)
            try:
                return sorted(os.listdir(directory))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _checked(self, path: tuple[str, ...]) -> str:
        file = os.path.join(self._top, *path)
        refuse_links(os.path.dirname(file), len(path))
        return file
