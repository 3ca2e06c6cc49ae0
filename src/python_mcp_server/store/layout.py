"""Where each file of a home lies. Used by the stores only.

    home/jobs/format.json                     says that there is a store here, and of which format
    home/jobs/live/<id>.json                  jobs that are not terminal
    home/jobs/completed/0ab/cd/ef/<id>.json   terminal jobs, by state, then by the time in their id:
    home/jobs/failed/...                      12 days, 17 minutes, one second. No directory of times
    home/jobs/cancelled/...                   has over 1024 entries, and the newest are found first
    home/jobs/principals/<name>/0ab/cd/<id>   an empty file for each job of a principal
    home/jobs/queue/<list>/<rank>.<id>        an empty file for each background job, by what it waits for;
    home/jobs/queue/<list>/0ab/cd/ef/<rank>.<id>  long lists have directories of times, too
    home/jobs/queue/keys/<xx>/<list>/...      the lists of jobs behind a key, by what its digest begins with
    home/jobs/groups.json                     says that every live record has such a file
    home/jobs/principals/complete.json        up to when records without such a file were looked for
    home/jobs/counts.json                     how many records lie in each directory of 17 minutes
    home/jobs/locks/<shard>                   the locks, a fixed number
    home/jobs/tmp/                            files that are being written
    home/jobs/trash/<id>.json                 records that prune is removing, files and all
    home/jobs/damaged/                        files that are not records
    home/jobs/swept                           its time is that of the last look at all folders of output
    home/output/<shard>/<id>/                 a job's files: stdout, stderr, result.json
    home/unbegun/<id>                         says that no worker has begun this job; see `pool.protocol`
    home/events/000000001.jsonl               the journal; see `store.journal`
    home/principal.key                        the key of the names of principals
    home/expired/<day>/<shard>                the ids of removed jobs; see `jobs.expired`
    home/keeping/                             when the home was cleaned; see `jobs.keeping`
    home/health/probe                         written to see whether the home can be; see `jobs.health`
    home/keeping/due/<time>/<rank>.<id>       jobs with a time of their own; see `jobs.expiry`
    home/same/<shard>/<name>                  which job a repeated submission gets; see `jobs.sameness`
    home/lanes/<name>/                        a worker's logs
    home/meta/jobs.json                       the list for people
    home/meta/jobs.imported.json              the list of an older version, as it was

All of it must lie on one file system. An id, made by `new_job_id`, starts with the time of its creation, so
names sort by time; no other text names a file.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final
from zlib import crc32

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import JobState, new_job_id
from python_mcp_server.regular import refuse_links

_log: Final = logging.getLogger(__name__)
LIVE: Final = "live"
TERMINAL: Final = tuple(state.value for state in JobState if state.terminal)
SEARCH_ORDER: Final = (*TERMINAL, LIVE, *TERMINAL)
"""Terminal records count first; a record that moved there during the search is found later."""
TIME_CHARS: Final = 9
"""Of an id: its time in ms."""
_MARGIN: Final = timedelta(minutes=1)
"""Guessed: a clock is seldom set by more between the creation of a job and its end."""
_SHARDS: Final = 1024
_STRIPES: Final = 64
TIME_WIDTHS: Final = (3, 2, 2)
"""How long the names of the directories of times are; what has another name is not ours."""
ENTRY_WIDTHS: Final = TIME_WIDTHS[:2]
"""Of the directories of times in the index of principals. A principal has few jobs in 17 minutes."""
_SUFFIX: Final = ".json"
_JOB_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{34}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")

Wanted = Callable[[str], bool]
"""Returns whether jobs whose id begins with this text, of any length, are asked for."""


def is_job_id(job_id: object) -> bool:
    """Whether this has the shape that `new_job_id` gives."""
    return isinstance(job_id, str) and _JOB_ID.fullmatch(job_id) is not None


def check_job_id(job_id: str) -> None:
    """Refuse an id that may not name a file.

    Raises:
        InvalidInput: The id is not from `new_job_id`.
    """
    if not is_job_id(job_id):
        raise InvalidInput(f"The job id {job_id!r} is not one that new_job_id() gives; take one of those")


def check_name(name: str) -> None:
    """Refuse the name of a lock or of a worker's directory that may not name a file.

    Raises:
        InvalidInput: The name is not plain.
    """
    if not is_plain_name(name):
        raise InvalidInput(f"The name {name!r} is not 1 to 100 of A-Z a-z 0-9 . _ -; take a plain one")


def is_plain_name(name: str) -> bool:
    """Whether this is 1 to 100 of A-Z a-z 0-9 . _ -, without a dot at its ends."""
    return _PLAIN.fullmatch(name) is not None


def shard(job_id: str) -> str:
    """Return one of 1024 names, the same for the same id for ever; any text will do as an id."""
    return f"{crc32(job_id.encode('utf-8', 'surrogatepass')) % _SHARDS:03x}"


def tree_of(status: JobState) -> str:
    """Return the directory for jobs in this state."""
    return status.value if status.terminal else LIVE


def created_before(moment: datetime) -> Wanted:
    """Return a filter for the jobs that may have ended by this moment: those that were created by then.

    Those that were created in the future, by a clock that was set back since, may have ended by then too.
    """
    last = new_job_id(moment + _MARGIN)[:TIME_CHARS]
    now = new_job_id()[:TIME_CHARS]
    return lambda front: front[:TIME_CHARS] <= last[: len(front)] or front[:TIME_CHARS] >= now[: len(front)]


def older_than(job_id: str) -> Wanted:
    """Return a filter for the jobs that were created before this one, which need not exist.

    Raises:
        InvalidInput: The text is not the id of a job.
    """
    check_before(job_id)
    return lambda front: front <= job_id[: len(front)] and front != job_id


def check_before(job_id: str) -> None:
    """Refuse a place in a list that is not the id of a job.

    Raises:
        InvalidInput: The text is something else.
    """
    if not is_job_id(job_id):
        raise InvalidInput(f"before is {job_id[:40]!r}; it must be the id of a job, 34 characters")


class Layout:
    """The paths of one home, as text without a slash at the end."""

    def __init__(self, home: str) -> None:
        self.home: Final = home
        self.jobs: Final = f"{home}/jobs"
        self.format: Final = f"{home}/jobs/format.json"
        self.counts: Final = f"{home}/jobs/counts.json"
        self.principals: Final = f"{home}/jobs/principals"
        self.queue: Final = f"{home}/jobs/queue"
        self.queue_complete: Final = f"{home}/jobs/groups.json"
        self.complete: Final = f"{home}/jobs/principals/complete.json"
        self.swept: Final = f"{home}/jobs/swept"
        self.locks: Final = f"{home}/jobs/locks"
        self.tmp: Final = f"{home}/jobs/tmp"
        self.trash: Final = f"{home}/jobs/trash"
        self.damaged: Final = f"{home}/jobs/damaged"
        self.meta: Final = f"{home}/meta"
        self.public: Final = f"{home}/meta/jobs.json"
        self.imported: Final = f"{home}/meta/jobs.imported.json"
        self.output: Final = f"{home}/output"
        self.worker_logs: Final = f"{home}/lanes"

    def refuse_links(self, path: str) -> None:
        """Refuse the path of a file or folder where a directory between the home and it is a symbolic link.

        Raises:
            LinkInHome: The text names the link.
        """
        refuse_links(os.path.dirname(path), path.count("/", len(self.home)) - 1)

    def directories(self) -> list[str]:
        """Return the directories that an open store has."""
        trees = [f"{self.jobs}/{tree}" for tree in (LIVE, *TERMINAL)]
        return [*trees, *self.file_directories(), self.trash, self.meta]

    def file_directories(self) -> list[str]:
        """Return those that do not depend on where the records are."""
        return [self.locks, self.tmp, self.output, self.worker_logs]

    def is_empty(self) -> bool:
        """Whether there is no record."""
        return not any(_names(f"{self.jobs}/{tree}") for tree in (LIVE, *TERMINAL))

    def record(self, tree: str, job_id: str) -> str:
        """Return the path of this job's record, if it is in this tree."""
        if tree == LIVE:
            return f"{self.jobs}/{tree}/{job_id}{_SUFFIX}"
        return f"{self.jobs}/{tree}/{job_id[:3]}/{job_id[3:5]}/{job_id[5:7]}/{job_id}{_SUFFIX}"

    def entry(self, name: str, job_id: str) -> str:
        """Return the path of this job's entry in the index of principals; the name is that of a directory."""
        return f"{self.principals}/{name}/{job_id[:3]}/{job_id[3:5]}/{job_id}"

    def entries(self, name: str, wanted: Wanted | None = None) -> Iterator[str]:
        """Yield the ids of the entries in this directory of the index, newest first."""
        found = _walk(f"{self.principals}/{name}", wanted, [], ENTRY_WIDTHS)
        return filter(wanted, filter(is_job_id, found))

    def principal_names(self) -> list[str]:
        """Return the names of the directories in the index of principals."""
        return [name for name in _names(self.principals) if not name.endswith(_SUFFIX)]

    def records(self, job_id: str) -> list[str]:
        """Return all paths that this job's record may have."""
        return [self.record(tree, job_id) for tree in (LIVE, *TERMINAL)]

    def tree_with(self, job_id: str) -> str | None:
        """Return the tree that has this job's record, or None."""
        return next((tree for tree in SEARCH_ORDER if os.path.lexists(self.record(tree, job_id))), None)

    def has_ended(self, job_id: str) -> bool:
        """Whether this job has a terminal record; a live one beside it was left by a killed process."""
        return any(map(os.path.lexists, self.records(job_id)[1:]))

    def trashed(self, job_id: str) -> str:
        """Return the path of the record of a job that is being removed."""
        return f"{self.trash}/{job_id}{_SUFFIX}"

    def folder(self, job_id: str) -> str:
        """Return the directory of a job's files. An id that may not name a file gets an unused directory."""
        part = shard(job_id)
        name = job_id if is_job_id(job_id) else f"no-{crc32(job_id.encode('utf-8', 'surrogatepass')):08x}"
        return f"{self.output}/{part}/{name}"

    def result(self, job_id: str) -> str:
        """Return the path of a result that is too large for the record."""
        return f"{self.folder(job_id)}/result.json"

    def stripe(self, job_id: str) -> str:
        """Return the name of the lock that guards this job, and some others."""
        return f"{int(shard(job_id), 16) % _STRIPES:02d}"

    def newest_first(
        self, *trees: str, wanted: Wanted | None = None, missed: list[str] | None = None
    ) -> Iterator[tuple[str, str]]:
        """Yield `(id, tree)` of the files in these trees, newest first.

        Directories are read as late as possible, but the live tree at once, so a job that moves meanwhile
        is seen, perhaps twice.

        Args:
            trees: The trees.
            wanted: The filter on ids; all where None.
            missed: Gets the directories that could not be read.
        """
        into = [] if missed is None else missed
        return heapq.merge(*[self._ids(tree, wanted, into) for tree in trees], reverse=True)

    def _ids(self, tree: str, wanted: Wanted | None, missed: list[str]) -> Iterator[tuple[str, str]]:
        top = f"{self.jobs}/{tree}"
        names = _names(top) if tree == LIVE else _walk(top, wanted, missed, TIME_WIDTHS)
        return ((job_id, tree) for job_id in filter(wanted, _stems(names)))

    def oldest_first(self, *trees: str) -> Iterator[tuple[str, str]]:
        """Yield `(id, tree)` of the files in these trees of terminal jobs, oldest first; directories are read
        as late as possible.
        """
        return heapq.merge(*map(self._oldest, trees))

    def _oldest(self, tree: str) -> Iterator[tuple[str, str]]:
        names = _walk(f"{self.jobs}/{tree}", None, [], TIME_WIDTHS, newest=False)
        return ((job_id, tree) for job_id in _stems(names))

    def tidy(self, path: str, levels: int = len(TIME_WIDTHS)) -> None:
        """Remove the directories above a file that are empty now: those of times, as far as `levels` says."""
        directory = os.path.dirname(path)
        for _ in range(levels):
            try:
                os.rmdir(directory)
            except OSError:
                return  # another file is there, or another process removed it
            directory = os.path.dirname(directory)


def _walk(
    directory: str,
    wanted: Wanted | None,
    missed: list[str],
    widths: tuple[int, ...],
    front: str = "",
    *,
    newest: bool = True,
) -> Iterator[str]:
    """Yield the names of the files below a directory, in directories of times, newest or oldest first."""
    try:
        refuse_links(directory, 1)
        names = _names(directory)
    except OSError as error:  # a directory that cannot be read costs only what is in it
        if not front:
            raise
        _log.warning("Left out all jobs in %s: %s", directory, error.strerror or error)
        missed.append(directory)
        return
    if not newest:
        names.reverse()
    if not widths:
        yield from names
        return
    for name in names:
        if len(name) == widths[0] and (wanted is None or wanted(front + name)):
            yield from _walk(f"{directory}/{name}", wanted, missed, widths[1:], front + name, newest=newest)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed meanwhile, or not ours


def _stems(names: Iterable[str]) -> Iterator[str]:
    return (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
