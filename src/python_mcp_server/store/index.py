"""The index of the jobs of each principal: an empty file per job, in directories of the time in its id.

Used by the file store only, so that a list for one principal opens no record of another, and takes no longer
where others have many. A job without a principal has no entry. An entry is written before the record and
removed after it: a record has its entry, whatever dies, and an entry without a record is a leftover. An entry
makes no job visible, because readers look at the principal in the record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Final

from python_mcp_server.atomic import remove_tree, write_file
from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.store.layout import ENTRY_WIDTHS, LIVE, Layout, Wanted
from python_mcp_server.store.locks import Locks

_log: Final = logging.getLogger(__name__)
_NAME_CHARS: Final = 32
_STAYS: Final = "The entry %s of a job that is gone stays: %s"


class PrincipalIndex:
    """Adds, finds and removes the entries of one home. Each principal has a directory of its own."""

    def __init__(self, layout: Layout, locks: Locks, *, fsync: bool) -> None:
        self._layout = layout
        self._locks = locks
        self._fsync = fsync

    def add(self, principal: str, job_id: str) -> None:
        """Add an entry, if it is not there.

        Raises:
            LinkInHome: It would lie behind a symbolic link.
        """
        path = self._entry(principal, job_id)
        if not os.path.lexists(path):
            self._layout.refuse_links(path)
            write_file(path, b"", temporary_in=self._layout.tmp, fsync=self._fsync)

    def remove(self, principal: str, job_id: str) -> None:
        """Remove an entry, if it is there, and the directories that are empty then. An entry that cannot be
        removed stays as a leftover, because its record is gone already.
        """
        self._remove(self._entry(principal, job_id))

    def names(
        self, principal: str, trees: tuple[str, ...], wanted: Wanted | None
    ) -> Iterator[tuple[str, str]]:
        """Yield `(id, tree)` of the principal's records in these trees, newest first.

        Live jobs are few, so a look at them alone goes through these, not through the principal's history.
        """
        if trees == (LIVE,):
            for job_id, tree in self._layout.newest_first(LIVE, wanted=wanted):
                if os.path.lexists(self._entry(principal, job_id)):
                    yield job_id, tree
            return
        name = _directory_name(principal)
        for job_id in self._layout.entries(name, wanted):
            tree = self._layout.tree_with(job_id)
            if tree is None:
                self._drop_leftover(self._layout.entry(name, job_id), job_id)
            elif tree in trees:
                yield job_id, tree

    def count(self, principal: str) -> int:
        """Return how many of the principal's jobs have a record."""
        own = self._layout.entries(_directory_name(principal))
        return sum(self._layout.tree_with(job_id) is not None for job_id in own)

    def ids(self, wanted: Wanted) -> set[str]:
        """Return the ids with an entry, of all principals, that pass the filter."""
        return {job_id for _, job_id in self._all(wanted)}

    def drop_leftovers(self, owners: Mapping[str, str | None]) -> None:
        """Remove the entries that have no record, or that of another principal.

        Args:
            owners: The principals of the records that were read, by id.
        """
        for entry, job_id in self._all(None):
            if self._layout.tree_with(job_id) is None:
                self._drop_leftover(entry, job_id)
            elif job_id in owners and entry != self._entry_of(owners[job_id], job_id):
                self._remove(entry)

    def _entry_of(self, principal: str | None, job_id: str) -> str | None:
        return None if principal is None else self._entry(principal, job_id)

    def _all(self, wanted: Wanted | None) -> Iterator[tuple[str, str]]:
        for name in self._layout.principal_names():
            for job_id in self._layout.entries(name, wanted):
                yield self._layout.entry(name, job_id), job_id

    def _drop_leftover(self, entry: str, job_id: str) -> None:
        """Remove an entry without a record, unless a process writes the record now."""
        try:
            with self._locks.hold(self._layout.stripe(job_id), wait_s=0):
                if self._layout.tree_with(job_id) is None:
                    self._remove(entry)
        except StoreLocked:
            _log.debug("The entry %s stays, because its record may be written now", entry)
        except (OSError, StoreError) as error:
            _log.warning(_STAYS, entry, error)

    def _remove(self, entry: str) -> None:
        try:
            self._layout.refuse_links(entry)
            remove_tree(entry)  # which removes a file, too, and a directory that is there instead
            self._layout.tidy(entry, levels=len(ENTRY_WIDTHS) + 1)
        except OSError as error:
            _log.warning(_STAYS, entry, error)

    def _entry(self, principal: str, job_id: str) -> str:
        return self._layout.entry(_directory_name(principal), job_id)


def _directory_name(principal: str) -> str:
    import hashlib  # costs 7 ms; a worker needs it only for a job of a principal

    return hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_CHARS]
