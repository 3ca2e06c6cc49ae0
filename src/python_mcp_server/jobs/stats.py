"""What the jobs of a home have done in a window of time, from the journal: no record is opened for it.

Used by `JobManager.stats`, the tool `py_job_stats` and the command `jobs stats`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import InvalidInput, quoted
from python_mcp_server.jobs.asked import check_number
from python_mcp_server.model import MB, JobState, iso, utc_now
from python_mcp_server.processes.host import memory
from python_mcp_server.store.events import EventKind, JobEvent
from python_mcp_server.store.journal import JournalReader
from python_mcp_server.store.keys import AFTER, ATTACHED, DELAYED, KEY, READY, RUNNING

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

GROUPS: Final[Mapping[str, Callable[[JobEvent], str]]] = {
    "kind": lambda event: event.tool,
    "client": lambda event: event.client or "",
    "label": lambda event: event.label,
    "queue": lambda event: event.queue,
}
_LONGEST_S: Final = 366 * 86_400.0
_MOST_GROUPS: Final = 50
_MOST_COUNTED: Final = 10_000
_MOST_MENDED: Final = 200
_COUNTED: Final = tuple(kind for kind in EventKind if kind not in (EventKind.RESUMED, EventKind.REQUEUED))


def stats(
    store: JobStore, window_seconds: float = 3600.0, by: str = "kind", principal: str | None = None
) -> dict[str, Any]:
    """Return what the jobs have done in the last seconds. Blocks: some 10 us for each event read.

    Args:
        store: Where the jobs are.
        window_seconds: How far to look back, up to a year.
        by: What makes a group: "kind" (the tool or body), "client", "label" or "queue".
        principal: With one, the jobs of others are left out, and so is the memory of the machine.

    Returns:
        `since`, ISO 8601; `complete`: whether the journal goes back so far; `queue`: how many jobs are
        `ready`, `running`, `delayed` and `waiting` for others now, up to 10,000; `memory` in MB; `total` and
        `groups`, up to 50, those with most jobs first. Each of these has the number of each event,
        `ended_per_minute`, `waiting_seconds` and `running_seconds` (`count`, `p50`, `p90`, `p99`, `max`),
        `failures` by kind, and the sums `cpu_seconds` and `wall_seconds` and the `peak_rss_mb` of the
        attempts that ended.

    Raises:
        InvalidInput: The window or `by` is not valid.
        StoreError: The journal cannot be read.
    """
    check_number(window_seconds=window_seconds)
    if by not in GROUPS:
        raise InvalidInput(f"by is {quoted(str(by))}; it must be one of {', '.join(GROUPS)}")
    if not 0 < window_seconds <= _LONGEST_S:
        raise InvalidInput(f"window_seconds is {window_seconds}; it must be above 0 and up to a year")
    since = utc_now() - timedelta(seconds=window_seconds)
    with translate_os_errors(str(store.home), "read the events of the jobs"):
        events, complete = read_since(store, since)
    own = [event for event in events if principal in (None, event.principal)]
    minutes = window_seconds / 60
    groups: dict[str, list[JobEvent]] = {}
    for event in own:
        groups.setdefault(GROUPS[by](event), []).append(event)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    found: dict[str, Any] = {"since": iso(since), "complete": complete, "by": by}
    found["queue"] = _queue(store, principal)
    if principal is None:
        now = memory()
        found["memory"] = {"available_mb": round(now.available / MB), "total_mb": round(now.total / MB)}
    found["total"] = summary(own, minutes)
    found["groups"] = [{"name": name} | summary(each, minutes) for name, each in largest[:_MOST_GROUPS]]
    return found | {"groups_left_out": max(0, len(largest) - _MOST_GROUPS)}


def read_since(store: JobStore, since: datetime) -> tuple[list[JobEvent], bool]:
    """Return the events since a time, each once, and whether the journal goes back so far.

    The ends that killed writers could not append are appended first.

    Raises:
        OSError, StoreError: The journal cannot be read.
    """
    position, reaches = store.journal.start_of(since)
    reader = JournalReader(store.journal, position)
    if events := reader.read_all():
        _mend(store, events)
        events += reader.read_all()
    complete = reaches or any(event.at < since for event in events[:1])
    return [event for event in events if event.at >= since], complete


def _mend(store: JobStore, events: Iterable[JobEvent]) -> None:
    """Look at the records of the jobs that have not ended as far as the journal tells, the latest ones."""
    unended = {event.job_id: event.number for event in events}
    for event in events:
        if event.kind.is_end:
            unended.pop(event.job_id, None)
    for job_id, number in list(unended.items())[-_MOST_MENDED:]:
        job = store.peek(job_id)
        if job is not None and job.status.terminal:
            store.journal.mend(job, number)


def summary(events: Iterable[JobEvent], minutes: float) -> dict[str, Any]:
    """Return what a group of events comes to; see `stats`."""
    events = list(events)
    counts = Counter(event.kind for event in events)
    failed = [event for event in events if event.kind in (EventKind.FAILED, EventKind.RETRIED)]
    failures = Counter(event.error_kind or "exception" for event in failed)
    waited = [event.waited_s for event in events if event.waited_s is not None]
    ran = [event.ran_s for event in events if event.ran_s is not None]
    ended = sum(count for kind, count in counts.items() if kind.is_end)
    return {
        **{kind.value: counts[kind] for kind in _COUNTED},
        "ended_per_minute": round(ended / minutes, 3),
        "waiting_seconds": latencies(waited),
        "running_seconds": latencies(ran),
        "failures": dict(failures.most_common()),
        "cpu_seconds": round(sum(event.cpu_seconds or 0.0 for event in events), 3),
        "wall_seconds": round(sum(ran), 3),
        "peak_rss_mb": max((event.peak_rss_mb or 0.0 for event in events), default=0.0),
    }


def latencies(seconds: list[float]) -> dict[str, float]:
    """Return `count`, and where there are any the percentiles `p50`, `p90`, `p99` and the `max`."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    ranks = {f"p{share}": ordered[math.ceil(share / 100 * len(ordered)) - 1] for share in (50, 90, 99)}
    rounded = {name: round(value, 3) for name, value in ranks.items()}
    return {"count": len(ordered), **rounded, "max": round(ordered[-1], 3)}


def _queue(store: JobStore, principal: str | None) -> dict[str, int]:
    if principal is not None:
        return _queue_of(store, principal)
    lists = {"ready": (READY, KEY), "delayed": (DELAYED,), "waiting": (AFTER,)}
    counts = {
        name: _count(store, chain.from_iterable(map(store.index_names, prefixes)))
        for name, prefixes in lists.items()
    }
    return counts | {"running": _count(store, (RUNNING, ATTACHED))}


def _count(store: JobStore, names: Iterable[str]) -> int:
    count = 0
    for name in names:
        count += store.index_count(name, _MOST_COUNTED - count)
    return count


def _queue_of(store: JobStore, principal: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for job in store.live(principal):
        if job.status is not JobState.PENDING:
            counts["running"] += 1
        elif job.waits_for:
            counts["waiting"] += 1
        else:
            counts["ready" if job.not_before is None else "delayed"] += 1
    return {name: counts[name] for name in ("ready", "delayed", "waiting", "running")}
