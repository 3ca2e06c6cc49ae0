"""What processes that were killed left behind. Used by the file store only.

`sweep`, when a store is opened, costs a look at the live, half written and half removed files, never one at
the finished jobs. `sweep_output` looks at the folders of all jobs, as a prune does.


The list of jobs that an older version left in `meta/jobs.json`, read into jobs.

Used by the file store only, once, in a home that has no store yet. Known are a list of objects and a
mapping of id to object, also below a key "jobs".


Making a home ready: its directories, the mark of its format, the list of an older version, and
what killed processes left. Used by the file store only.

It costs a look at the live, half written and half removed files, never one at the finished jobs.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from typing import Any, Final, cast

from python_mcp_server.atomic import explained, make_directory, read_file, remove_file, remove_tree
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobProgress, JobState, moment
from python_mcp_server.store.layout import LIVE, TERMINAL, Layout, id_of, is_key, is_own, is_plain, key_of
from python_mcp_server.store.locks import Locks
from python_mcp_server.store.records import FORMAT, Records, to_json

_log: Final = logging.getLogger(__name__)
_STALE_S: Final = 60.0
"""Guessed: no write lasts that long. Should one, it starts again when its file is gone."""
_LANE_STALE_S: Final = 600.0
"""Guessed: a lane folder of a pid that is not here may be in use in another container for a while."""

_FOLDER_STALE_S: Final = 86_400.0
"""Guessed: a call has its record within seconds; on a full disk it may run for hours without one."""


def sweep(layout: Layout, locks: Locks, records: Records) -> None:
    """Remove what is of no use any more. What cannot be removed now stays for the next time."""
    try:
        _sweep_temporary(layout.tmp)
        _sweep_lanes(layout.lanes)
        for key in _keys(layout.trash):
            with locks.hold(layout.stripe(id_of(key)), wait_s=0):
                records.finish_removal(key)
        for key in _keys(f"{layout.jobs}/{LIVE}"):
            if any(os.path.exists(layout.record(tree, key)) for tree in TERMINAL):
                with locks.hold(layout.stripe(id_of(key)), wait_s=0):
                    _drop_leftover(records, key)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.home, error)


def sweep_output(layout: Layout, locks: Locks, records: Records, known: Container[str]) -> None:
    """Remove the folders of calls that were killed with their server before they had a record.

    Args:
        layout: The paths of the home.
        locks: Against those who write a record now.
        records: Asked again under the lock.
        known: The ids of all jobs that had a record a moment ago.
    """
    try:
        for shard in os.scandir(layout.output):
            for entry in os.scandir(shard.path):
                if entry.name not in known and is_own(entry.name) and _age_s(entry) > _FOLDER_STALE_S:
                    with locks.hold(layout.stripe(entry.name), wait_s=0):
                        if not records.known(entry.name):
                            remove_tree(entry.path)
    except (OSError, StoreError) as error:
        _log.warning("Cleaning up %s goes on another time: %s", layout.output, error)


def _drop_leftover(records: Records, key: str) -> None:
    stored = records.find(key, locked=True)
    if stored is not None and stored.job.status.terminal:
        records.drop_live(key)


def _keys(directory: str) -> list[str]:
    names = [name.removesuffix(".json") for name in os.listdir(directory)]
    return [name for name in names if is_key(name)]


def _sweep_temporary(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.name.endswith(".tmp") and _is_stale(entry):
            remove_file(entry.path)


def _sweep_lanes(directory: str) -> None:
    """Remove the logs of lanes whose server was killed long ago; what a job has taken is its own."""
    if not os.path.isdir(directory):
        return
    for entry in os.scandir(directory):
        if _age_s(entry) > _LANE_STALE_S and not _may_live(entry.name.partition("-")[0]):
            remove_tree(entry.path)


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def _is_stale(entry: os.DirEntry[str]) -> bool:
    return _age_s(entry) > _STALE_S or not _may_live(entry.name.partition("-")[0])


def _may_live(pid: str) -> bool:
    if os.name != "posix" or not pid.isdecimal():  # elsewhere signal 0 is no question, it ends the process
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


_STATES: Final = {
    "completed": JobState.COMPLETED, "success": JobState.COMPLETED, "succeeded": JobState.COMPLETED,
    "done": JobState.COMPLETED, "finished": JobState.COMPLETED,
    "failed": JobState.FAILED, "error": JobState.FAILED, "timeout": JobState.FAILED,
    "timed_out": JobState.FAILED,
    "cancelled": JobState.CANCELLED, "canceled": JobState.CANCELLED, "killed": JobState.CANCELLED,
}  # fmt: skip
_LIVE: Final = frozenset({"pending", "queued", "running", "input_required"})
_MILLISECONDS_FROM: Final = 1e11
"""Seconds since the epoch reach this in the year 5138, milliseconds reached it in 1973."""


def read_old_list(data: bytes, path: str) -> list[Job]:
    """Return the jobs of an old list; each that cannot be read costs a warning and only itself.

    Args:
        data: The file.
        path: Its name, for the warnings.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        _log.warning("The old list of jobs %s was not imported: it is no JSON (%s)", path, error)
        return []
    jobs: dict[str, Job] = {}
    for key, entry in _entries(content):
        try:
            job = _job(key, entry)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
            _log.warning("Entry %s of the old list of jobs %s was not imported: %r", key, path, error)
        else:
            jobs.setdefault(job.id, job)
    return list(jobs.values())


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        mapping = cast("dict[str, Any]", content)
        if isinstance(mapping.get("jobs"), dict | list):
            yield from _entries(mapping["jobs"])
        else:
            yield from mapping.items()
    elif isinstance(content, list):
        for number, entry in enumerate(cast("list[Any]", content)):
            yield f"number {number}", entry


def _job(key: str, entry: Any) -> Job:
    job_id = entry.get("id") or entry.get("job_id") or key
    if not (isinstance(job_id, str) and is_plain(job_id)):
        raise ValueError(f"{job_id!r} is no id")
    started_at, ended_at = _time(entry, "started_at"), _time(entry, "completed_at")
    created_at = _time(entry, "created_at") or started_at or ended_at
    if created_at is None:
        raise ValueError("it has no time")
    status, error, kind = _ending(entry)
    return Job(
        id=job_id,
        label=str(entry.get("label") or entry.get("tool") or job_id),
        status=status,
        created_at=created_at,
        tool=str(entry.get("tool") or ""),
        started_at=started_at,
        completed_at=ended_at or (datetime.now(UTC) if kind == "lost" else started_at or created_at),
        error=error,
        error_kind=kind,
        result=entry.get("result"),
        progress=_progress(entry.get("progress")),
        background=True,
    )


def _ending(entry: dict[str, Any]) -> tuple[JobState, str | None, str | None]:
    word = str(entry.get("status") or entry.get("state") or "").lower().rpartition(".")[2]
    error = entry.get("error")
    if word in _LIVE:
        return JobState.FAILED, f"It was {word} under an older version, and nobody knows how it ended", "lost"
    if word not in _STATES:
        raise ValueError(f"its status is {word!r}")
    text = None if error is None else str(error)
    kind = entry.get("error_kind") or ("exception" if _STATES[word] is JobState.FAILED else None)
    return _STATES[word], text, kind if isinstance(kind, str) else None


def _progress(value: Any) -> JobProgress | None:
    return JobProgress.from_json(cast("dict[str, Any]", value)) if isinstance(value, dict) else None


def _time(entry: dict[str, Any], name: str) -> datetime | None:
    value: Any = entry.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS_FROM else value, UTC)
    when = moment(cast("str | None", value))
    return None if when is None else when.astimezone(UTC)


def open_home(layout: Layout, locks: Locks, records: Records, *, fsync: bool) -> None:
    """Make the home ready for reading and writing.

    Raises:
        StoreError: It cannot be used, or a newer version made it.
    """
    with explained(layout.home, "open the store"):
        for directory in layout.directories():
            make_directory(directory, fsync=fsync)
        marker = read_file(layout.format)
        if marker is None:
            _begin(layout, locks, records)
        else:
            _check(marker, layout.home)
    sweep(layout, locks, records)


def _begin(layout: Layout, locks: Locks, records: Records) -> None:
    with locks.hold("open"):
        if not os.path.exists(layout.format):
            _import_old_list(layout, records)
            mark(layout, records)


def mark(layout: Layout, records: Records) -> None:
    """Say that there is a store here, so that its own list is not taken for that of an older version."""
    records.put(layout.format, to_json({"format": FORMAT}, "format"))


def _check(marker: bytes, home: str) -> None:
    try:
        content: Any = json.loads(marker)
    except ValueError:
        return  # whoever damaged it did not thereby make the records newer
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

    for job in read_old_list(data, layout.public):
        if records.find(key_of(job.id, job.created_at)) is None:
            records.write(job)
    records.put(layout.imported, data)
