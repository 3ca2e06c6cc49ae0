"""How many records a home has, without a look at all of them. Used by `records` only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

from python_mcp_server.atomic import read_file, write_file
from python_mcp_server.regular import LinkInHome, refuse_links
from python_mcp_server.store.layout import LIVE, TERMINAL, TIME_WIDTHS, Layout

_SETTLED_S: Final = 10.0
"""Guessed: a writer that has touched a directory has also written its record this much later. One that was
stopped for longer touches the directory again."""
Counts = dict[str, list[int]]
"""Mapping of a directory, below `jobs`, to its modification time in ns and its number of records."""


class RecordCounts:
    """Counts the records of one home without a look at all of them.

    A terminal record lies in a directory of one second, and that in one of 17 minutes. The directory of 17
    minutes is touched before and after a terminal record is added or removed. `counts.json` holds the number
    of records of each such directory beside its modification time, so a count lists only those that were
    touched since, and a killed process makes no count wrong. The file is a cache and is never needed.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @contextmanager
    def changing(self, tree: str, record: str) -> Generator[None]:
        """Note that the block adds or removes this record. The caller holds the job's lock."""
        if tree == LIVE:
            yield  # live records are few, and are counted each time
            return
        directory = os.path.dirname(os.path.dirname(record))
        _touch(directory)
        try:
            yield
        finally:
            _touch(directory)

    def total(self) -> int:
        """Return the number of jobs that have a record.

        Jobs that end while this counts may count twice, or not at all.
        """
        names = [name.removesuffix(".json") for name in _records(_listed(f"{self._layout.jobs}/{LIVE}"))]
        live = sum(not self._layout.has_ended(job_id) for job_id in names)
        before, now = self._load(), Counts()
        for directory in self._directories():
            with suppress(OSError):  # removed meanwhile, or forbidden: then a listing of its jobs warns
                now[directory] = self._count(directory, before.get(directory))
        self._save(before, now)
        return live + sum(count for _, count in now.values())

    def changed_since(self, moment_ns: int) -> set[str]:
        """Return the first 5 characters of ids whose directories have other records since this moment."""
        found = set[str]()
        for directory in self._directories():
            with suppress(OSError):  # removed meanwhile, or forbidden
                now = os.stat(f"{self._layout.jobs}/{directory}")
                if max(now.st_mtime_ns, now.st_ctime_ns) >= moment_ns:  # a copy of a home may have old mtimes
                    found.add("".join(directory.split("/")[1:]))
        return found

    def forget(self) -> None:
        """Make the next count look at everything, because other programs may have changed the files."""
        with suppress(OSError):
            os.unlink(self._layout.counts)

    def _directories(self) -> list[str]:
        tops = [f"{tree}/{top}" for tree in TERMINAL for top in _times(f"{self._layout.jobs}/{tree}", 0)]
        return [f"{top}/{name}" for top in tops for name in _times(f"{self._layout.jobs}/{top}", 1)]

    def _count(self, directory: str, before: list[int] | None) -> list[int]:
        path = f"{self._layout.jobs}/{directory}"
        changed_ns = os.stat(path).st_mtime_ns
        if before is not None and before[0] == changed_ns:
            return before
        return [changed_ns, sum(_count_records(f"{path}/{second}") for second in _names(path))]

    def _load(self) -> Counts:
        try:
            found: Any = json.loads(read_file(self._layout.counts) or b"{}")
            return {str(name): [int(changed_ns), int(count)] for name, (changed_ns, count) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            return {}

    def _save(self, before: Counts, now: Counts) -> None:
        settled_ns = time.time_ns() - int(_SETTLED_S * 1e9)
        kept = {name: entry for name, entry in now.items() if entry[0] < settled_ns}
        if kept != before:
            data = json.dumps(kept, separators=(",", ":")).encode()
            with suppress(OSError):  # a full or read-only disk costs the next count some time
                write_file(self._layout.counts, data, temporary_in=self._layout.tmp)


def _touch(directory: str) -> None:
    with suppress(OSError):  # it is not there yet, or no longer there, which changes its time as well
        os.utime(directory)


def _times(directory: str, depth: int) -> list[str]:
    return [name for name in _listed(directory) if len(name) == TIME_WIDTHS[depth]]


def _listed(directory: str) -> list[str]:
    try:
        return _names(directory)
    except OSError:
        return []


def _names(directory: str) -> list[str]:
    refuse_links(directory, 1)
    return os.listdir(directory)


def _records(names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".json")]


def _count_records(directory: str) -> int:
    """Return the number of records in a directory.

    Raises:
        OSError: The directory cannot be read now, so its number is not known.
    """
    try:
        return len(_records(_names(directory)))
    except (FileNotFoundError, NotADirectoryError, LinkInHome):  # removed meanwhile, or not ours
        return 0
