"""The disk space of one job: that of its output, and of the files in its folder.

A look visits a bounded number of files, so that a job with a million of them does not keep the others from
being looked at; the next look goes on from there. A file is visited by its name only: it is not opened, and
no link is followed.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from itertools import islice
from typing import Final

from python_mcp_server.processes.identity import SHORTAGES

_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`, whatever the blocks of the file system are."""

_LARGE_BYTES: Final = 1 << 16
"""A file of this size is counted once even if it is renamed while its directory is visited in several looks.
All smaller files would be many to remember.
"""

_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_DESCRIPTOR: Final = os.scandir in os.supports_fd


class BoundedMeter(ABC):
    """Adds up the sizes of files, in rounds of as many looks as it takes to visit all of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._round: Generator[int] | None = None
        self._round_bytes = 0
        self._last_bytes = 0

    @abstractmethod
    def _walk(self) -> Generator[int]:
        """Visit all files, and yield the size of each."""

    def look(self) -> int:
        """Visit the next files, and return the bytes of all: of those visited in this round, or of all in the
        last one, whichever is more.

        Raises:
            OSError: There are no descriptors or no memory to look with.
        """
        if self._round is None:
            self._round, self._round_bytes = self._walk(), 0
        walk, self._round = self._round, None  # one that raises has ended
        sizes = list(islice(walk, self._most))
        self._round_bytes += sum(sizes)
        if len(sizes) < self._most:
            self._last_bytes = self._round_bytes
        else:
            self._round = walk
        return max(self._round_bytes, self._last_bytes)

    def measure(self) -> int:
        """Visit all files now, however many there are, and return their bytes."""
        with closing(self._walk()) as sizes:
            return sum(sizes)


_MOST_ENTRIES: Final = 2_000
"""Measured: they take 5 to 15 ms."""


class DiskMeter(BoundedMeter):
    """Measures the disk space of files, and of directories with all that is in them. Sparse files count by
    their blocks, hard links once.
    """

    def __init__(self, paths: Iterable[str], old_files: Iterable[str] = ()) -> None:
        """Begin to measure.

        Args:
            paths: The files and directories; they need not exist.
            old_files: The files among them that belong to an earlier call until they are emptied or replaced.
        """
        super().__init__(_MOST_ENTRIES)
        self.paths = tuple(paths)
        self._old: dict[str, tuple[int, int, int]] = {}
        for path in old_files:
            with suppress(FileNotFoundError):
                self._old[path] = _version(os.lstat(path))

    def _walk(self) -> Generator[int]:
        seen: set[tuple[int, int]] = set()
        directories: list[str] = []
        for path in self.paths:
            with suppress(OSError):  # the job has not written it, or has removed it
                status = os.lstat(path)
                yield self._bytes_of(path, status, seen)
                if stat.S_ISDIR(status.st_mode):
                    directories.append(path)
        while directories:
            directory = directories.pop()
            try:
                yield from _visit(directory, directories, seen)
            except OSError as error:  # it was removed, replaced by a link, or lies too deep
                if error.errno in SHORTAGES:
                    raise

    def _bytes_of(self, path: str, status: os.stat_result, seen: set[tuple[int, int]]) -> int:
        size = _fresh_bytes(status, seen, remember=True)
        old = self._old.get(path)
        if old is None:
            return size
        # an emptied file has its size at once, and loses its blocks one after the other
        return 0 if _version(status) == old else min(size, status.st_size)


def _visit(directory: str, directories: list[str], seen: set[tuple[int, int]]) -> Generator[int]:
    """Yield the disk space of each entry of a directory, and add the directories among them to the list."""
    descriptor = os.open(directory, _DIRECTORY) if _BY_DESCRIPTOR else None
    try:
        with os.scandir(directory if descriptor is None else descriptor) as entries:
            for entry in entries:
                with suppress(OSError):  # it was removed
                    path = f"{directory}/{entry.name}"
                    # elsewhere the entry of a file that is being written has an old size, and no inode
                    status = os.lstat(path) if descriptor is None else entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        directories.append(path)
                    yield _fresh_bytes(status, seen)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _fresh_bytes(status: os.stat_result, seen: set[tuple[int, int]], *, remember: bool = False) -> int:
    """Return the disk space of a file; 0 for one that was counted already."""
    size = disk_bytes(status)
    if remember or status.st_nlink > 1 or size >= _LARGE_BYTES:
        inode = status.st_dev, status.st_ino
        if inode in seen:
            return 0
        seen.add(inode)
    return size


def disk_bytes(status: os.stat_result) -> int:
    """Return the disk space of a file: that of its blocks; its size where the system does not tell them."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else blocks * _BLOCK_BYTES


def _version(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes with every write to a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns
