"""The records of one home: read without a lock, written under one, set aside where they are damaged.

Used by the stores only. Reading needs no lock because files are replaced whole. A job lies in
the live tree until it is terminal; then its record is written into the tree of its state, and the
live one is removed. Killed in between, both are there: the terminal one counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from python_mcp_server.atomic import make_directory, read_file, remove_file, remove_tree, write_file
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job
from python_mcp_server.regular import NotRegular
from python_mcp_server.store.counts import RecordCounts
from python_mcp_server.store.encoding import Stored, Unreadable, decode, encode, with_result
from python_mcp_server.store.index import PrincipalIndex
from python_mcp_server.store.keys import index_key
from python_mcp_server.store.layout import (
    ENTRY_WIDTHS,
    LIVE,
    SEARCH_ORDER,
    TERMINAL,
    Layout,
    Wanted,
    tree_of,
)
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.principals import PrincipalNames
from python_mcp_server.store.queue_index import QueueIndex

_log: Final = logging.getLogger(__name__)
_FRONT_CHARS: Final = sum(ENTRY_WIDTHS)
"""Of an id: what the directories of 17 minutes are named by."""


class Records:
    """Reads and writes records."""

    def __init__(self, layout: Layout, locks: Locks, *, fsync: bool) -> None:
        self._layout = layout
        self._locks = locks
        self._fsync = fsync
        self._principals = PrincipalNames(layout.home)
        self.counts: Final = RecordCounts(layout)
        self.index: Final = PrincipalIndex(layout, locks, fsync=fsync)
        self.queue: Final = QueueIndex(layout, locks, self._present, fsync=fsync)
        self._seen_live: dict[str, tuple[bytes, Stored]] = {}

    def find(self, job_id: str, *, locked: bool = False) -> Stored | None:
        """Return the record of this job, or None; `locked` means that the caller holds the lock of the job.

        Raises:
            StoreError: A newer version wrote it.
            OSError: The disk cannot be read.
        """
        for tree in SEARCH_ORDER[: len(TERMINAL) + 1] if locked else SEARCH_ORDER:
            stored = self.read(job_id, tree, locked=locked)
            if stored is not None:
                return stored
        return None

    def read(self, job_id: str, tree: str, *, locked: bool = False) -> Stored | None:
        """Return the record of this job in this tree, or None; a damaged record is set aside."""
        path = self._layout.record(tree, job_id)
        try:
            data = read_file(path)
            if data is None:
                return None
            self._layout.refuse_links(path)
            return self._decode(data, job_id, tree)
        except (Unreadable, NotRegular, PermissionError, IsADirectoryError) as reason:
            return self._set_aside(job_id, tree, reason, locked=locked)

    def _set_aside(self, job_id: str, tree: str, reason: Exception, *, locked: bool) -> Stored | None:
        record = self._layout.record(tree, job_id)
        self._layout.refuse_links(record)
        if locked:
            with self.counts.changing(tree, record):
                self._move_away(record, reason)
            return None
        try:
            with self._locks.hold(self._layout.stripe(job_id)):
                return self.read(job_id, tree, locked=True)  # another process may have written it by now
        except (OSError, StoreError) as error:
            if isinstance(reason, OSError):
                raise reason from error
            _log.warning("Left the damaged record %s where it is: %s", job_id, error)
            return None

    def _move_away(self, path: str, reason: Exception) -> None:
        make_directory(self._layout.damaged)
        target = f"{self._layout.damaged}/{os.path.basename(path)}.{os.urandom(4).hex()}"
        os.replace(path, target)
        _log.warning("Set aside %s as %s: %s", path, target, reason)

    def whole(self, stored: Stored) -> Job:
        """Return the job with its result, also where that is in a file of its own."""
        return with_result(stored, self._layout)

    def _present(self, job_id: str) -> Job | None:
        stored = self.find(job_id)
        return None if stored is None else stored.job

    def write(self, job: Job, former: Job | None = None) -> None:
        """Write a job where it belongs. The caller holds its lock.

        Args:
            job: The job.
            former: The job as its record has it; None where there is no record.
        """
        record, result = encode(job)
        if result is not None:
            self.put(self._layout.result(job.id), result)
        self._ensure_entry(job)
        key, former_key = index_key(job), None if former is None else index_key(former)
        if key is not None and key != former_key:
            self.queue.add(key, job.id)
        tree = tree_of(job.status)
        path = self._layout.record(tree, job.id)
        with self.counts.changing(tree, path):
            self.put(path, record)
        if former_key is not None and key != former_key:
            self.queue.remove(former_key, job.id)

    def retract(self, job: Job) -> None:
        """Remove the files that a failed `write` of a new job has left. The caller holds its lock."""
        tree = tree_of(job.status)
        record = self._layout.record(tree, job.id)
        for path in (record, self._layout.result(job.id)):
            try:
                with self.counts.changing(tree, record):
                    remove_file(path)
            except OSError as error:
                _log.warning("%s, of a job that could not be written, stays: %s", path, error)
        if (key := index_key(job)) is not None:
            self.queue.remove(key, job.id)

    def put(self, path: str, data: bytes) -> None:
        """Write any file of this home."""
        self._layout.refuse_links(path)
        write_file(path, data, temporary_in=self._layout.tmp, fsync=self._fsync)

    def drop_live(self, job_id: str) -> None:
        """Remove the live record of a job whose terminal one is written. The caller holds its lock."""
        try:
            remove_file(self._layout.record(LIVE, job_id))
        except OSError as error:
            _log.warning("The live record %s stays beside the final one, which counts: %s", job_id, error)

    def remove(self, job: Job) -> bool:
        """Remove a terminal job and its files, and return whether it was there. The caller holds its lock.

        The record goes to the trash first: then the job is gone for all, and until its files are
        gone too, the record says that they must go.

        Raises:
            LinkInHome: The record or the files lie behind a symbolic link, so nothing is removed.
        """
        tree = tree_of(job.status)
        record = self._layout.record(tree, job.id)
        for path in (record, self._layout.folder(job.id)):
            self._layout.refuse_links(path)
        remove_file(self._layout.record(LIVE, job.id))  # first, or the job would be back as a running one
        make_directory(self._layout.trash)
        with self.counts.changing(tree, record):
            try:
                os.replace(record, self._layout.trashed(job.id))
            except FileNotFoundError:
                return False
            self._layout.tidy(record)
        if job.principal is not None:
            self.index.remove(job.principal, job.id)
        if (key := index_key(job)) is not None:
            self.queue.remove(key, job.id)
        try:
            self.finish_removal(job.id)
        except OSError as error:  # such as files of another account
            _log.warning("The files of job %s stay, and are removed another time: %s", job.id, error)
        return True

    def finish_removal(self, job_id: str) -> None:
        """Remove the files of a job whose record is in the trash. The caller holds its lock."""
        if self.find(job_id, locked=True) is None:
            self._layout.refuse_links(self._layout.folder(job_id))
            remove_tree(self._layout.folder(job_id))
        remove_file(self._layout.trashed(job_id))

    def newest_first(
        self, *trees: str, wanted: Wanted | None = None, principal: str | None = None
    ) -> Iterator[Stored]:
        """Yield the records in these trees, newest first, each job once; unreadable records are left out.

        Args:
            trees: The trees.
            wanted: The filter on ids; all where None.
            principal: With one, only the records in its index; those of others are not opened.
        """
        names = self._names(*trees, wanted=wanted)
        if principal is not None:
            names = self.index.names(principal, trees, wanted)
        for job_id, tree in names:
            if (stored := self._listed(job_id, tree)) is not None:
                yield stored

    def oldest_first(self) -> Iterator[Stored]:
        """Yield the records of terminal jobs, oldest first; unreadable records are left out."""
        for job_id, tree in self._layout.oldest_first(*TERMINAL):
            if (stored := self._listed(job_id, tree)) is not None:
                yield stored

    def live(self) -> Iterator[Stored]:
        """Yield the records in the live tree, newest first. Queued jobs are looked at repeatedly, so a record
        that has not changed since the last look is not decoded again.
        """
        seen, before = dict[str, tuple[bytes, Stored]](), self._seen_live
        for job_id, tree in self._names(LIVE):
            entry = None if self._layout.has_ended(job_id) else self._live_one(job_id, before.get(job_id))
            if entry is not None:
                seen[job_id] = entry
            stored = entry[1] if entry is not None else self._listed(job_id, tree)
            if stored is not None:
                yield stored
        self._seen_live = seen

    def _decode(self, data: bytes, job_id: str, tree: str) -> Stored:
        stored = decode(data, job_id, tree)
        principal = self._principals.present(stored.job.principal)
        if principal == stored.job.principal:
            return stored
        return replace(stored, job=replace(stored.job, principal=principal))

    def _live_one(self, job_id: str, known: tuple[bytes, Stored] | None) -> tuple[bytes, Stored] | None:
        """Return a record of the live tree, decoded only where it has changed; None where the tree lacks a
        good one.
        """
        try:
            data = read_file(self._layout.record(LIVE, job_id))
            if data is None or (known is not None and known[0] == data):
                return None if data is None else known
            return data, self._decode(data, job_id, LIVE)
        except (Unreadable, StoreError, OSError):
            return None

    def _names(self, *trees: str, wanted: Wanted | None = None) -> Iterator[tuple[str, str]]:
        last = ""
        for job_id, tree in self._layout.newest_first(*trees, wanted=wanted):
            if job_id != last:
                yield job_id, tree
            last = job_id

    def index_anew(self, since_ns: int) -> None:
        """Add the entries that are missing, because an older version wrote the records.

        Args:
            since_ns: Look at live jobs, and at directories that were changed since this time. All records
                are read where it is 0, otherwise only those that have no entry.
        """
        live = {job_id for job_id, _ in self._layout.newest_first(LIVE)}
        fronts = self.counts.changed_since(since_ns) | {job_id[:_FRONT_CHARS] for job_id in live}

        def wanted(front: str) -> bool:
            return len(front) < _FRONT_CHARS or front[:_FRONT_CHARS] in fronts

        known = self.index.ids(wanted) if since_ns else set[str]()
        for job_id, tree in self._names(LIVE, *TERMINAL, wanted=wanted):
            if job_id not in known and (stored := self._listed(job_id, tree)) is not None:
                self._ensure_entry(stored.job)

    def queue_anew(self) -> None:
        """Add the entries of the queue that are missing, because an older version wrote the records."""
        for job_id, _ in self._layout.newest_first(LIVE):
            if (stored := self._listed(job_id, LIVE)) is not None:
                self._ensure_queued(stored.job)

    def _ensure_queued(self, job: Job) -> None:
        if (key := index_key(job)) is not None:
            self.queue.add(key, job.id)

    def key_id(self) -> str | None:
        """Return a text for the key that makes the names of principals; None if there is no key yet."""
        return self._principals.key_id()

    def _ensure_entry(self, job: Job) -> None:
        if (principal := self._principals.present(job.principal)) is not None:
            self.index.add(principal, job.id)

    def _mend_index(self, job: Job) -> None:
        try:
            self._ensure_entry(job)
            self._ensure_queued(job)
        except OSError as error:  # a full disk, say, on which the records can be read
            _log.warning("The indexes lack job %s: %s", job.id, error)

    def known(self, job_id: str) -> bool:
        """Whether there is a record of this job, or was one that is now set aside."""
        if any(map(os.path.lexists, self._layout.records(job_id))):
            return True
        return os.path.isdir(self._layout.damaged) and any(
            name.startswith(job_id) for name in os.listdir(self._layout.damaged)
        )

    def survey(self) -> tuple[int, list[str]]:
        """Read all records; return how many are whole, and the paths of those that stay unreadable,
        of single ones and of whole directories. The next count counts anew, and the index of principals has
        every job and no other."""
        self.counts.forget()
        owners, left = dict[str, str | None](), list[str]()
        for stored in self._readable(self._layout.newest_first(LIVE, *TERMINAL, missed=left), left):
            owners[stored.job.id] = self._principals.present(stored.job.principal)
            self._mend_index(stored.job)
        self.index.drop_leftovers(owners)
        return len(owners), left

    def survey_ends(self, most: int) -> tuple[int, list[str], bool]:
        """Read so many of the newest records, and as many of the oldest; return as `survey` does, and whether
        these are all.
        """
        left = list[str]()
        newest = list(islice(self._layout.newest_first(LIVE, *TERMINAL, missed=left), most))
        found = dict.fromkeys((*newest, *islice(self._layout.oldest_first(*TERMINAL), most)))
        return sum(1 for _ in self._readable(found, left)), left, len(newest) < most

    def _readable(self, found: Iterable[tuple[str, str]], left: list[str]) -> Iterator[Stored]:
        """Yield the records that can be read; `left` gets the paths of the others that stay in place."""
        for job_id, tree in found:
            path = self._layout.record(tree, job_id)
            try:
                stored = self.read(job_id, tree)
            except (StoreError, OSError):
                stored = None
            if stored is not None:
                yield stored
            elif os.path.lexists(path):  # otherwise it was set aside, or moved
                left.append(path)

    def _listed(self, job_id: str, tree: str) -> Stored | None:
        try:
            stored = None if tree == LIVE else self.read(job_id, tree)
            return stored or self.find(job_id)
        except (StoreError, OSError) as error:
            _log.warning("Left %s out of a listing: %s", job_id, error)
            return None
