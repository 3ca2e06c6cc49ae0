"""The promises on queued jobs, checked with the notes of their bodies, the records and the index.

A body that was killed has noted no end; it counts until the instant before it was killed, where the run knows
that, and otherwise not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from chaos_testing.environment import SLOTS
from chaos_testing.final_state import FinalState
from chaos_testing.history import History
from chaos_testing.notes import Run
from chaos_testing.queue_bodies import SNOOZE_S
from chaos_testing.queue_rules import BOUNDED, QUEUE_LIMITS, QUOTA, RESOURCES

_ROUNDING_S: Final = 0.01
"""Times in records are rounded, and the index has milliseconds."""

Record = dict[str, Any]


def queue_breaches(history: History, final_state: FinalState) -> Iterator[str]:
    """Yield a line for each breach."""
    yield from final_state.notes.wrong
    yield from final_state.index
    for job_id, runs in final_state.notes.by_job().items():
        if (record := final_state.jobs.get(job_id)) is not None:
            yield from _attempts(job_id, runs, record)
            yield from _times(job_id, runs, record)
        yield from _one_at_a_time(job_id, runs, history)
        yield from _ends_hold(job_id, runs, history)
    yield from _crowds(history, final_state)
    yield from _fired_once(final_state)
    yield from _within_quota(final_state)
    for record in final_state.jobs.values():
        yield from _predecessors(record, history, final_state)


def _options(record: Record) -> dict[str, Any]:
    return record.get("options") or {}


def _schedule(record: Record) -> dict[str, Any]:
    return record.get("schedule") or {}


def _fired_once(final_state: FinalState) -> Iterator[str]:
    times = Counter((one["id"], one["time"]) for one in map(_schedule, final_state.jobs.values()) if one)
    for (schedule_id, time), count in times.items():
        if count > 1:
            yield f"the schedule {schedule_id} made {count} jobs for {time}"


def _within_quota(final_state: FinalState) -> Iterator[str]:
    """Yield a line for each window in which more jobs of a client were surely accepted than its quota allows.

    A job was accepted after its id was made and before its record was written.
    """
    spans = sorted((made_s, recorded_s) for made_s, recorded_s in final_state.accepted)
    for number, (begin_s, _) in enumerate(spans):
        inside = sum(recorded_s < begin_s + QUOTA.per_s for _, recorded_s in spans[number:])
        if inside > (QUOTA.jobs or 0):
            yield f"{inside} jobs of {BOUNDED} were accepted within {QUOTA.per}, and {QUOTA.jobs} may be"


def _attempts(job_id: str, runs: list[Run], record: Record) -> Iterator[str]:
    retry = _options(record).get("retry") or {"delays": [], "lost_workers": False}
    allowed = len(retry["delays"]) + 1
    made = sum(run.how != "snoozed" for run in runs)
    if made > allowed or record.get("attempt", 1) > allowed:
        attempt = record.get("attempt", 1)
        yield f"job {job_id} was started {made} times, the last as attempt {attempt}, and {allowed} may be"
    for run, following in pairwise(runs):
        step = following.attempt - run.attempt
        wanted = (0, 1) if run.how == "snoozed" and retry["lost_workers"] else (int(run.how != "snoozed"),)
        if run.how and step not in wanted:
            yield f"job {job_id}: attempt {following.attempt} follows attempt {run.attempt}, which {run.how}"
        if not run.how and step < 1:
            yield f"job {job_id}: attempt {run.attempt} was killed, and attempt {following.attempt} followed"
        if run.how in ("", "returned") and not retry["lost_workers"]:
            yield f"job {job_id} was started again after it {run.how or 'was killed'}; its retry forbids that"
    if record["status"] == "completed" and not (runs and runs[-1].how == "returned"):
        yield f"job {job_id} is completed, and its last start {runs[-1].how or 'noted no end'}"


def _times(job_id: str, runs: list[Run], record: Record) -> Iterator[str]:
    options = _options(record)
    if (at := options.get("run_at")) and (
        early := datetime.fromisoformat(at).timestamp() - runs[0].began_s
    ) > _ROUNDING_S:
        yield f"job {job_id} was started {early:.3f} s before its time"
    delays = (options.get("retry") or {}).get("delays", [])
    for run, following in pairwise(runs):
        if run.ended_at is None:
            continue
        waits = (SNOOZE_S,) if following.attempt == run.attempt else delays[run.attempt - 1 : run.attempt]
        least_s = sum(waits)  # of no wait where the attempt is one too many
        if following.began_at - run.ended_at < least_s - _ROUNDING_S:
            yield f"job {job_id} waited {following.began_at - run.ended_at:.3f} s instead of {least_s:g} s"


def _end_of(run: Run, history: History) -> float:
    """Return the last instant at which the body ran for sure."""
    return run.ended_at or max(run.began_at, history.kill_begun_at.get(run.pid, 0.0))


def _one_at_a_time(job_id: str, runs: list[Run], history: History) -> Iterator[str]:
    for run, following in pairwise(runs):
        if following.began_at < _end_of(run, history):
            yield f"job {job_id} ran twice at once: attempts {run.attempt} and {following.attempt}"


def _ends_hold(job_id: str, runs: list[Run], history: History) -> Iterator[str]:
    known = history.known(job_id)
    ended_at = min((end.read_at for end in known.ends.values()), default=known.cancelled_at)
    for run in runs:
        if run.began_at > min(ended_at, known.end_requested_at):
            yield f"job {job_id} was started after its end was reported, or requested while it was queued"


def _crowds(history: History, final_state: FinalState) -> Iterator[str]:
    for name, most, weigh in _bounds():
        events = list[tuple[float, int, str]]()
        for run in final_state.notes.runs:
            record = final_state.jobs.get(run.job_id)
            weight = 0 if record is None else weigh(record)
            if weight and _end_of(run, history) > run.began_at:
                events += [(run.began_at, weight, run.job_id), (_end_of(run, history), -weight, run.job_id)]
        yield from _crowd(name, most, sorted(events))


def _crowd(name: str, most: int, events: list[tuple[float, int, str]]) -> Iterator[str]:
    there, running = 0, list[str]()
    for _, weight, job_id in events:
        there += weight
        running.append(job_id) if weight > 0 else running.remove(job_id)
        if weight > 0 and there > most:
            yield f"{there} of {name} are in use, and {most} may be: {', '.join(running)}"


def _bounds() -> Iterator[tuple[str, int, Callable[[Record], int]]]:
    yield "the slots", SLOTS, lambda _: 1
    for name, count in RESOURCES.items():
        yield (
            f"the resource {name}",
            count,
            lambda one, name=name: _options(one).get("resources", {}).get(name, 0),
        )
    for name, count in QUEUE_LIMITS.items():
        yield f"the queue {name}", count, lambda one, name=name: int(_options(one).get("queue") == name)
    for number in range(2):
        yield (
            f"the key {number}",
            1 + number,
            lambda one, n=number: int(_options(one).get("key") == f"key {n}"),
        )
    yield "the schedule skip", 1, lambda one: int(_schedule(one).get("name") == "skip")
    yield (
        "the memory of a client",
        int(QUOTA.memory_mb or 0),
        lambda one: int(one["memory_limit_mb"] or 0) if one["client"] == BOUNDED else 0,
    )
    yield "the kind", 2, lambda one: int(one["tool"] == "narrow")


def _predecessors(record: Record, history: History, final_state: FinalState) -> Iterator[str]:
    job_id, options = record["id"], _options(record)
    others = [final_state.jobs[one] for one in options.get("after", []) if one in final_state.jobs]
    pruned = len(others) < len(options.get("after", []))
    bad = [one for one in others if one["status"] in ("failed", "cancelled")]
    started = any(run.job_id == job_id for run in final_state.notes.runs)
    skipped = record["error_kind"] == "skipped"
    if skipped and started:
        yield f"job {job_id} is skipped, and was started"
    if skipped and not (bad or pruned):
        yield f"job {job_id} is skipped, and no job that it waits for has failed"
    if bad and not options.get("run_after_failure") and (started or record["status"] == "completed"):
        yield f"job {job_id} is {record['status']}, although job {bad[0]['id']} is {bad[0]['status']}"
    asked = history.known(job_id).cancel_asked
    alone = options.get("run_after_failure") or all(one["status"] != "cancelled" for one in others)
    if options.get("after") and record["status"] == "cancelled" and not (asked or pruned) and alone:
        yield f"job {job_id} is cancelled, and no cancel of it or of a predecessor was requested"
