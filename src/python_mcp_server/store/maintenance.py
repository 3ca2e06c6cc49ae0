"""Makes a home ready when a store opens it, and removes what killed processes left. Used by the file
store only.

`open_home` makes the directories and the mark of the format, imports the list of an older version once, and
costs a look at the live, half written and half removed files, never one at the finished jobs.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any, Final, cast

from python_mcp_server.atomic import make_directory, read_file, translate_os_errors
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.encoding import FORMAT, to_json
from python_mcp_server.store.layout import LIVE, TERMINAL, Layout, is_job_id
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.records import Records
from python_mcp_server.store.sweep import clean_temporary, clean_worker_logs, close_to_others

_log: Final = logging.getLogger(__name__)
_INDEX_MARGIN_NS: Final = 60 * 10**9
"""Guessed: times of directories are those of the kernel's clock ticks, and clocks are set by less."""


def open_home(layout: Layout, locks: Locks, records: Records, *, fsync: bool) -> None:
    """Make the home ready for reading and writing.

    Raises:
        StoreError: It cannot be used, or a newer version made it.
    """
    with translate_os_errors(layout.home, "open the store"):
        close_to_others(layout.home)
        for directory in layout.directories():
            layout.refuse_links(f"{directory}/")
            make_directory(directory, fsync=fsync)
        marker = read_file(layout.format)
        if marker is None:
            _begin(layout, locks, records)
        else:
            _check(marker, layout.home)
        if not os.path.exists(layout.queue_complete):
            records.queue_anew()
            records.put(layout.queue_complete, b"{}")
    clean_up(layout, locks, records)


def _begin(layout: Layout, locks: Locks, records: Records) -> None:
    if layout.is_empty():
        _mark_complete(layout, records, time.time_ns(), records.key_id())
    if not os.path.exists(layout.public):  # a list of our own is written after the mark only
        mark(layout, records)
        return
    with locks.hold("open"):
        if not os.path.exists(layout.format):
            _import_old_list(layout, records)
            mark(layout, records)


def mark(layout: Layout, records: Records) -> None:
    """Mark the home as a store, so that its own list is not taken for the list of an older version."""
    records.put(layout.format, to_json({"format": FORMAT}, "format"))


def _check(marker: bytes, home: str) -> None:
    try:
        content: Any = json.loads(marker)
    except (ValueError, RecursionError):
        return  # damage to the mark does not make the records newer
    found = cast("dict[str, Any]", content).get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise StoreError(
            f"The store in {home} has format {found}, and this version reads up to {FORMAT}: "
            "upgrade python-mcp-server, or set PYTHON_MCP_HOME to another directory"
        )


def _import_old_list(layout: Layout, records: Records) -> None:
    data = read_file(layout.public)
    if data is None:
        return
    known = {stored.job.extra.get("old_id") for stored in records.newest_first(*TERMINAL)}
    for job in read_old_list(data, layout.public):
        if job.extra["old_id"] not in known:  # otherwise an import that was killed halfway wrote it
            records.write(job)
    records.put(layout.imported, data)


def read_old_list(data: bytes, path: str) -> list[Job]:
    """Return the jobs of an old list, in the shape of `meta/jobs.json`, under new ids.

    The old id is in `extra`, as `old_id`. An entry that cannot be read costs a warning and only itself.
    """
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        content = error
    if not isinstance(content, list):
        _log.warning(
            "The old list of jobs %s was not imported, because it is not a JSON list: %s", path, content
        )
        return []
    jobs: list[Job] = []
    for number, entry in enumerate(cast("list[Any]", content)):
        try:
            jobs.append(_imported(Job.from_record(entry)))
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            _log.warning("Entry %s of the old list of jobs %s was not imported: %r", number, path, error)
    return jobs


def _imported(old: Job) -> Job:
    job = old.evolve(
        id=new_job_id(old.created_at),
        completed_at=old.completed_at or old.started_at or old.created_at,
        background=True,
        questions=(),
        extra={**old.extra, "old_id": old.id},
    )
    if old.status.terminal:
        return job
    error = f"It was {old.status} under an older version, and how it ended is not known"
    return job.evolve(status=JobState.FAILED, completed_at=utc_now(), error=error, error_kind="lost")


def clean_up(layout: Layout, locks: Locks, records: Records) -> None:
    """Remove files that are no longer of use. A file that cannot be removed now stays for the next time."""
    try:
        for directory in layout.directories():
            layout.refuse_links(f"{directory}/")
        clean_temporary(layout.tmp)
        clean_worker_logs(layout.worker_logs)
        for job_id in _ids(layout.trash):
            _finish_removal(layout, locks, records, job_id)
        for job_id in _ids(f"{layout.jobs}/{LIVE}"):
            if layout.has_ended(job_id):
                with locks.hold(layout.stripe(job_id), wait_s=0):
                    stored = records.find(job_id, locked=True)
                    if stored is not None and stored.job.status.terminal:
                        records.drop_live(job_id)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.home, error)


def _finish_removal(layout: Layout, locks: Locks, records: Records, job_id: str) -> None:
    try:
        with locks.hold(layout.stripe(job_id), wait_s=0):
            records.finish_removal(job_id)
    except (OSError, StoreError) as error:
        _log.warning("The files of job %s stay, and are removed another time: %s", job_id, error)


def complete_index(layout: Layout, locks: Locks, records: Records) -> None:
    """Give each job of a principal its entry in the index, where an older version has written it without one.

    The first time, and where names of principals have another key since, all records are read. Later only
    those without an entry, in directories that were changed since the last time.

    Raises:
        StoreError: Another process does this for too long.
        OSError: The index cannot be written.
    """
    with locks.hold("principals"):
        began_ns, key_id = time.time_ns(), records.key_id()
        records.index_anew(_complete_until(layout.complete, key_id))
        _mark_complete(layout, records, began_ns, key_id)


def _mark_complete(layout: Layout, records: Records, until_ns: int, key_id: str | None) -> None:
    records.put(layout.complete, to_json({"until_ns": until_ns, "key": key_id}, "complete"))


def _complete_until(path: str, key_id: str | None) -> int:
    """Return the time in ns up to which the index has all records; 0 where it is not known, as where the
    clock was set back since.
    """
    try:
        found: Any = json.loads(read_file(path) or b"")
        until_ns = int(found["until_ns"])
        known = found["key"] == key_id and until_ns <= time.time_ns()
        return max(0, until_ns - _INDEX_MARGIN_NS) if known else 0
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return 0


def _ids(directory: str) -> list[str]:
    names = [name.removesuffix(".json") for name in os.listdir(directory)]
    return [name for name in names if is_job_id(name)]
