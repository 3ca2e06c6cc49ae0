"""The list of jobs that an older version left in `meta/jobs.json`, read into jobs.

Used by the file store only, once, in a home that has no store yet. Known are a list of objects and a
mapping of id to object, also below a key "jobs".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, cast

from python_mcp_server.model import Job, JobProgress, JobState, moment
from python_mcp_server.store.keys import is_plain

_log: Final = logging.getLogger(__name__)
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
