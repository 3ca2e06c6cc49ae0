"""How the id of a job becomes the name of a file, so that no id leaves its directory and names sort
by time. Used by the stores only.

A key is what files are named by and what listings are sorted by. An id made by `new_job_id` starts
with its time and is its own key. Any other plain id (of an older list, of a user) gets the time of
its creation in front: `<9 characters of time>~<id>`.


Where each file of a home lies. Used by the file store only.

    home/jobs/format.json                      says that there is a store here, and of which format
    home/jobs/live/<key>.json                  jobs that are not terminal
    home/jobs/completed/0ab/cd/ef/<key>.json   terminal jobs, by state, then by the time in their key:
    home/jobs/failed/...                       12 days, 17 minutes, one second. No directory of times
    home/jobs/cancelled/...                    has over 1024 entries, and the newest are found first
    home/jobs/odd/<shard>/id-<id>              the time part of the key of an id of another shape
    home/jobs/locks/<shard>                    the locks, a fixed number
    home/jobs/tmp/                             files that are being written
    home/jobs/trash/<key>.json                 records that prune is removing, files and all
    home/jobs/damaged/                         what was no record
    home/output/<shard>/<id>/                  a job's files: stdout, stderr, result.json
    home/lanes/<name>/                         a lane's logs
    home/meta/jobs.json                        the list for people
    home/meta/jobs.imported.json               the list of an older version, as it was

All of it must lie on one file system.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from zlib import crc32

from python_mcp_server.model import JobState, base32

if TYPE_CHECKING:
    from datetime import datetime


TIME_CHARS: Final = 9
_SHARDS: Final = 1024
_OWN: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{34}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_TIMED: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{9}~" + _PLAIN.pattern)


def is_own(job_id: str) -> bool:
    """Whether this id has the shape that `new_job_id` gives."""
    return _OWN.fullmatch(job_id) is not None


def is_plain(job_id: str) -> bool:
    """Whether this id may name a file: 1 to 100 of `A-Z a-z 0-9 . _ -`, no dot at either end."""
    return _PLAIN.fullmatch(job_id) is not None


def is_key(name: str) -> bool:
    """Whether this is the key of some job."""
    return is_own(name) or _TIMED.fullmatch(name) is not None


def time_part(created_at: datetime) -> str:
    """Return the front of a key: the time in ms, as `new_job_id` writes it."""
    return base32(max(0, int(created_at.timestamp() * 1000)), TIME_CHARS)


def key_of(job_id: str, created_at: datetime) -> str:
    """Return the key of a job."""
    return job_id if is_own(job_id) else f"{time_part(created_at)}~{job_id}"


def id_of(key: str) -> str:
    """Return the id that a key was made from."""
    return key[TIME_CHARS + 1 :] if key[TIME_CHARS : TIME_CHARS + 1] == "~" else key


def shard(job_id: str) -> str:
    """Return one of 1024 names, the same for the same id for ever; any text will do as an id."""
    return f"{crc32(job_id.encode('utf-8', 'surrogatepass')) % _SHARDS:03x}"


_log: Final = logging.getLogger(__name__)
LIVE: Final = "live"
TERMINAL: Final = tuple(state.value for state in JobState if state.terminal)
_SUFFIX: Final = ".json"
_STRIPES: Final = 64
_LEVELS: Final = 3


def tree_of(status: JobState) -> str:
    """Return the directory for jobs in this state."""
    return status.value if status.terminal else LIVE


class Layout:
    """The paths of one home, as text without a slash at the end.

    Args:
        home: The home, absolute.
    """

    def __init__(self, home: str) -> None:
        self.home: Final = home
        self.jobs: Final = f"{home}/jobs"
        self.format: Final = f"{home}/jobs/format.json"
        self.locks: Final = f"{home}/jobs/locks"
        self.tmp: Final = f"{home}/jobs/tmp"
        self.trash: Final = f"{home}/jobs/trash"
        self.damaged: Final = f"{home}/jobs/damaged"
        self.meta: Final = f"{home}/meta"
        self.public: Final = f"{home}/meta/jobs.json"
        self.imported: Final = f"{home}/meta/jobs.imported.json"
        self.output: Final = f"{home}/output"
        self.lanes: Final = f"{home}/lanes"

    def directories(self) -> list[str]:
        """Return those that an open store has."""
        trees = [f"{self.jobs}/{tree}" for tree in (LIVE, *TERMINAL)]
        return [*trees, self.locks, self.tmp, self.trash, self.meta, self.output, self.lanes]

    def record(self, tree: str, key: str) -> str:
        """Return where the record of this key lies, if it is in this tree."""
        if tree == LIVE:
            return f"{self.jobs}/{tree}/{key}{_SUFFIX}"
        return f"{self.jobs}/{tree}/{key[:3]}/{key[3:5]}/{key[5:7]}/{key}{_SUFFIX}"

    def pointer(self, job_id: str) -> str:
        """Return the file that holds the time part of the key of an id of another shape."""
        return f"{self.jobs}/odd/{shard(job_id)}/id-{job_id}"

    def folder(self, job_id: str) -> str:
        """Return the directory of a job's files. An id that may not name a file gets one that nobody uses."""
        name = job_id if is_plain(job_id) else f"no-{crc32(job_id.encode('utf-8', 'surrogatepass')):08x}"
        return f"{self.output}/{shard(job_id)}/{name}"

    def result(self, job_id: str) -> str:
        """Return where a result lies that is too large for the record."""
        return f"{self.folder(job_id)}/result.json"

    def stripe(self, job_id: str) -> str:
        """Return the name of the lock that guards this job, and some others."""
        return f"{int(shard(job_id), 16) % _STRIPES:02d}"

    def newest_first(self, *trees: str, missed: list[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield `(key, tree)` of the files in these trees, newest first.

        Directories are read as late as can be, but the live tree at once: a job that
        moves while this goes on is seen, maybe twice.

        Args:
            trees: The trees.
            missed: Gets the directories that could not be read.
        """
        into = [] if missed is None else missed
        return heapq.merge(*[_marked(self._keys(tree, into), tree) for tree in trees], reverse=True)

    def _keys(self, tree: str, missed: list[str]) -> Iterator[str]:
        top = f"{self.jobs}/{tree}"
        if tree == LIVE:
            return iter(_stems(_names(top)))
        return _walk(top, _names(top), _LEVELS, missed)

    def tidy(self, record: str) -> None:
        """Remove the directories of times above a terminal record that are empty now."""
        directory = os.path.dirname(record)
        for _ in range(_LEVELS):
            try:
                os.rmdir(directory)
            except OSError:
                return  # another record lies there, or somebody else removed it
            directory = os.path.dirname(directory)


def _marked(keys: Iterator[str], tree: str) -> Iterator[tuple[str, str]]:
    return ((key, tree) for key in keys)


def _walk(directory: str, names: list[str], depth: int, missed: list[str]) -> Iterator[str]:
    if depth == 0:
        yield from _stems(names)
        return
    for name in names:
        below = f"{directory}/{name}"
        try:
            inside = _names(below)
        except OSError as error:  # a directory that cannot be read costs only what is in it
            _log.warning("Left out all jobs in %s: %s", below, error.strerror)
            missed.append(below)
        else:
            yield from _walk(below, inside, depth - 1, missed)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed meanwhile, or not ours


def _stems(names: list[str]) -> list[str]:
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
