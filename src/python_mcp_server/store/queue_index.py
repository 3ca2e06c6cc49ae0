"""The index of background jobs and dead letters in files: an empty file for each job, named by its rank and
its id.

Used by the file store only. A file is written before the record that belongs in its list, and removed after
the record that no longer does: a record has its file, whatever dies, and a file whose record belongs
elsewhere is a leftover, which its reader removes. The files of long lists lie in directories of times, so the
first of a list is found without a look at the others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from python_mcp_server.atomic import make_directory, remove_file, sync_directory
from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.model import Job
from python_mcp_server.regular import open_own, refuse_links
from python_mcp_server.store.keys import DELAYED, KEY, READY, IndexKey, index_key
from python_mcp_server.store.layout import TIME_WIDTHS, Layout, is_job_id
from python_mcp_server.store.locks import Locks

_log: Final = logging.getLogger(__name__)
_TRIES: Final = 20
"""Tries of a write whose directory is removed each time; guessed."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT
_KEYS: Final = "keys"
"""The directory of the lists behind keys."""

_SHARD_CHARS: Final = 2
"""How many characters of a key's digest name the directory in it."""


class QueueIndex:
    """Adds, finds and removes the files of one home."""

    def __init__(
        self, layout: Layout, locks: Locks, read: Callable[[str], Job | None], *, fsync: bool
    ) -> None:
        """Make the index.

        Args:
            layout: Where the files lie.
            locks: The locks of the home.
            read: Returns the present record of a job.
            fsync: Whether a file survives a loss of power.
        """
        self._layout = layout
        self._locks = locks
        self._read = read
        self._fsync = fsync

    def add(self, key: IndexKey, job_id: str) -> None:
        """Add a file, if it is not there.

        Raises:
            OSError: It cannot be written, or lies behind a symbolic link.
        """
        path = self._path(key, job_id)
        for attempt in range(_TRIES):
            try:
                if attempt:
                    make_directory(os.path.dirname(path), fsync=self._fsync)
                self._layout.refuse_links(path)
                os.close(open_own(path, _FLAGS))
                if self._fsync:
                    sync_directory(os.path.dirname(path))
            except FileNotFoundError:  # also while it is made: a process that empties a directory removes it
                if attempt == _TRIES - 1:
                    raise
            else:
                return

    def remove(self, key: IndexKey, job_id: str) -> None:
        """Remove a file, if it is there, with the directories that are empty then. One that cannot be removed
        is a leftover.
        """
        path = self._path(key, job_id)
        try:
            self._layout.refuse_links(path)
            if remove_file(path):
                self._layout.tidy(path, levels=len(_widths(key.name)) + _levels(key.name))
        except OSError as error:
            _log.warning("The entry %s of the queue stays: %s", path, error)

    def first(self, name: str, limit: int, until: str | None) -> Iterator[Job]:
        """Yield the first jobs of a list, by rank, at most so many; leftovers are removed."""
        yield from islice(self._jobs(name, until), max(0, limit))

    def _jobs(self, name: str, until: str | None) -> Iterator[Job]:
        for rank, job_id in self._entries(name):
            if until is not None and rank > until:
                return
            key = IndexKey(name, rank)
            job = self._read(job_id)
            if job is not None and index_key(job) == key:
                yield job
            else:
                self._drop_leftover(key, job_id)

    def count(self, name: str, most: int) -> int:
        """Return how many files a list has; counting stops at `most`."""
        return sum(1 for _ in islice(self._entries(name), max(0, most)))

    def names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the lists that begin with this text."""
        names = [name for name in _names(self._layout.queue) if name != _KEYS]
        return tuple(name for name in (*names, *self._key_names(prefix)) if name.startswith(prefix))

    def _key_names(self, prefix: str) -> Iterator[str]:
        """Yield the names of the lists behind keys, of which there may be many: a key is in one directory."""
        if not (prefix.startswith(KEY) or KEY.startswith(prefix)):
            return
        keys = f"{self._layout.queue}/{_KEYS}"
        shard = prefix[len(KEY) :][:_SHARD_CHARS]
        for each in [shard] if len(shard) == _SHARD_CHARS else _names(keys):
            yield from _names(f"{keys}/{each}")

    def _entries(self, name: str) -> Iterator[tuple[str, str]]:
        for entry in self._walk(self._directory(name), _widths(name), _levels(name)):
            rank, _, job_id = entry.partition(".")
            if is_job_id(job_id):
                yield rank, job_id

    def _walk(self, directory: str, widths: tuple[int, ...], depth: int) -> Iterator[str]:
        """Yield the names of the files below a directory; empty directories, which killed processes have
        left, are removed.
        """
        names = _names(directory)
        if not names:
            self._layout.tidy(f"{directory}/", levels=depth)
        elif not widths:
            yield from names
        for name in names if widths else ():
            if len(name) == widths[0]:
                yield from self._walk(f"{directory}/{name}", widths[1:], depth + 1)

    def _drop_leftover(self, key: IndexKey, job_id: str) -> None:
        """Remove a file whose record belongs elsewhere, unless a process writes the record now."""
        try:
            with self._locks.hold(self._layout.stripe(job_id), wait_s=0):
                job = self._read(job_id)
                if job is None or index_key(job) != key:
                    self.remove(key, job_id)
        except StoreLocked:
            _log.debug("An entry of job %s stays, because its record may be written now", job_id)
        except (OSError, StoreError) as error:
            _log.warning("An entry of job %s in the queue stays: %s", job_id, error)

    def _path(self, key: IndexKey, job_id: str) -> str:
        directory, rank = self._directory(key.name), key.rank
        if _widths(key.name):
            directory = f"{directory}/{rank[:3]}/{rank[3:5]}/{rank[5:7]}"
        return f"{directory}/{rank}.{job_id}"

    def _directory(self, name: str) -> str:
        if not name.startswith(KEY):
            return f"{self._layout.queue}/{name}"
        return f"{self._layout.queue}/{_KEYS}/{name[len(KEY) :][:_SHARD_CHARS]}/{name}"


def _widths(name: str) -> tuple[int, ...]:
    return TIME_WIDTHS if name.startswith((READY, KEY, DELAYED)) else ()


def _levels(name: str) -> int:
    """Return how many directories a list has above those of times."""
    return 3 if name.startswith(KEY) else 1


def _names(directory: str) -> list[str]:
    try:
        refuse_links(directory, 1)
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed meanwhile, or not ours
