"""Memory in the files that the processes of a tree hold open: those of `memfd_create`, and those of a tmpfs
such as /dev/shm. Linux only.

The kernel counts these pages for a process only where they are mapped. A file is told by its name in
/proc/<pid>/fd alone, and only one that lies in memory is looked at further, because a look at a file of a
network disk may hang.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable
from typing import Final

from python_mcp_server.processes.usage import GONE
from python_mcp_server.runner.disk import BoundedMeter, disk_bytes

_MEMFD: Final = "/memfd:"
_DELETED: Final = " (deleted)"
_MOUNTS: Final = "/proc/self/mountinfo"
_MOST_LINKS: Final = 300
"""Measured: they take 1 to 6 ms. Memory of the usual kind is looked at in between."""

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class MemoryFiles(BoundedMeter):
    """Measures the memory of open files.

    A file that has a name may be older than the call, so only what is added to it after the first look
    counts; of all others everything does.

    Args:
        others: Files and directories that do not count: a call's output, which may lie in memory.
    """

    def __init__(self, others: Iterable[str]) -> None:
        super().__init__(_MOST_LINKS)
        self._others = tuple(others)
        self._mounts: list[tuple[str, bool]] = []
        self._before: dict[tuple[int, int], int] = {}
        self._pids: list[int] = []

    def look_at(self, pids: list[int]) -> int:
        """Look at the next descriptors of these processes, and return the bytes of all files; see `look`."""
        self._pids = pids
        return self.look()

    def _walk(self) -> Generator[int]:
        if not self._mounts:  # not sooner: the checker of a body is made on the event loop
            self._mounts, self._others = _mounts(), tuple(map(os.path.realpath, self._others))
        seen: set[tuple[int, int]] = set()
        for pid in self._pids:
            for link in _links(pid):
                yield self._fresh_bytes(link, seen)
        self._before = {inode: self._before[inode] for inode in seen}  # a file that was closed is forgotten

    def _fresh_bytes(self, link: str, seen: set[tuple[int, int]]) -> int:
        try:
            path = os.readlink(link)
            if not self._counts(path):
                return 0
            status = os.stat(link)
        except GONE:
            return 0
        inode = status.st_dev, status.st_ino
        if inode in seen or not stat.S_ISREG(status.st_mode):
            return 0
        seen.add(inode)
        size = disk_bytes(status)
        before = self._before.setdefault(
            inode, size if status.st_nlink and not path.startswith(_MEMFD) else 0
        )
        return max(0, size - before)

    def _counts(self, path: str) -> bool:
        if not path.startswith("/"):
            return False  # a pipe, a socket
        if path.startswith(_MEMFD):
            return True
        path = path.removesuffix(_DELETED)
        if any(_lies_in(path, other) for other in self._others):
            return False
        return next((memory for point, memory in self._mounts if _lies_in(path, point)), False)


def _links(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except GONE:
        return []


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _mounts() -> list[tuple[str, bool]]:
    """Return the mount points, the longest first, and whether the files of each lie in memory."""
    with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split() for line in file]
    found = {_unescaped(row[4]): row[row.index("-") + 1] in _IN_MEMORY for row in rows}  # the last one wins
    return sorted(found.items(), key=lambda mount: len(mount[0]), reverse=True)


def _unescaped(text: str) -> str:
    """Return a path of the kernel's lists, which write white space and backslashes in octal."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
