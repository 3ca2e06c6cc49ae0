"""Checks the promises against the history and what is left. Each breach is one line that names the job."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from chaos_testing.expected import RAW, REUSED, mismatch
from chaos_testing.final_state import FinalState
from chaos_testing.history import TERMINAL, History, KnownJob
from chaos_testing.queue_promises import queue_breaches


def breaches(history: History, final_state: FinalState) -> list[str]:
    """Return a line for each breach."""
    return [
        *history.breaches,
        *_started_once(history, final_state),
        *_none_lost(history, final_state),
        *_ends_are_final(history, final_state),
        *_end_reasons_hold(history, final_state),
        *_all_ended(final_state),
        *_results_are_right(history, final_state),
        *_deaths_have_a_cause(history, final_state),
        *_nothing_left(final_state),
        *queue_breaches(history, final_state),
    ]


def _started_once(history: History, final_state: FinalState) -> Iterator[str]:
    starts = Counter(start.job_id for start in final_state.starts)
    for job_id, count in starts.items():
        if count > 1:
            yield f"job {job_id} was started {count} times; see the file of starts"
    for job_id, record in final_state.jobs.items():
        needs_none = (
            record["label"].startswith((f"{RAW} ", "q-")) or job_id in history.hit_jobs
        )  # it may have been killed before it noted its start
        if record["status"] == "completed" and not (starts[job_id] or needs_none):
            yield f"job {job_id} is completed and was never started"


def _none_lost(history: History, final_state: FinalState) -> Iterator[str]:
    for job_id, known in history.jobs.items():
        if known.found_again is not None:
            yield f"job {job_id} was gone, and {known.found_again.by} saw it {known.found_again.status} later"
        if job_id in final_state.jobs:
            if known.missing is not None and known.told_at and known.missing.asked_at > known.told_at:
                yield f"job {job_id} was not found by {known.missing.by}, and is there in the end"
        elif known.told_at is not None and not _may_be_pruned(history, known):
            states = [end.status for end in known.ends.values()] or ["no end seen"]
            yield f"job {job_id} is lost: {', '.join(states)}, and no prune that removes it was requested"


def _may_be_pruned(history: History, known: KnownJob) -> bool:
    """Whether a prune may have run when the job, by all that is known, had ended long enough before."""
    ends = {end.status for end in known.ends.values()} | ({"cancelled"} if known.told_cancelled else set())
    possible = ends or TERMINAL - (set() if known.cancel_asked or known.follows else {"cancelled"})
    alive_at = max(known.made_after, known.living.asked_at if known.living else 0.0)
    gone_at = known.missing.read_at if known.missing else math.inf
    return any(
        min(prune.finished_at, gone_at) >= alive_at + prune.age_s
        and prune.asked_at < gone_at
        and possible & prune.dropped
        for prune in history.prunes
    )


def _ends_are_final(history: History, final_state: FinalState) -> Iterator[str]:
    for job_id, known in history.jobs.items():
        seen = [f"{end.status} {end.ended} by {end.by}" for end in known.ends.values()]
        if len(seen) > 1:
            yield f"job {job_id} ended in more than one way: {'; '.join(seen)}"
        first = min((end.read_at for end in known.ends.values()), default=None)
        if first is not None and known.living is not None and known.living.asked_at > first:
            yield f"job {job_id} had ended ({seen[0]}), and {known.living.by} saw it {known.living.status}"
        if known.told_cancelled and any(end.status != "cancelled" for end in known.ends.values()):
            yield f"job {job_id} was cancelled for {known.told_cancelled}, and was seen {'; '.join(seen)}"
        yield from _final_differs(job_id, known, final_state)


def _final_differs(job_id: str, known: KnownJob, final_state: FinalState) -> Iterator[str]:
    record = final_state.jobs.get(job_id)
    if record is None:
        return
    final = (record["status"], str((record["completed_at"], record["error_kind"])))
    listed = (record["status"], str((None, record["error_kind"])))
    if known.ends and final not in known.ends and listed not in known.ends:
        yield f"job {job_id} is {final} in the end, and was {list(known.ends)}"
    if known.told_cancelled and record["status"] != "cancelled":
        yield f"job {job_id} was cancelled for {known.told_cancelled}, and is {record['status']} in the end"
    steps = (record["progress"] or {}).get("current", 0)
    if steps < known.steps:
        yield f"job {job_id} lost an update: step {known.steps} was acknowledged, and it stands at {steps}"


def _end_reasons_hold(history: History, final_state: FinalState) -> Iterator[str]:
    for job_id, record in final_state.jobs.items():
        known = history.known(job_id)
        if record["ending"] not in (None, record["status"], record["error_kind"]):
            yield f"job {job_id} is {record['status']}, and its end reason was {record['ending']}"
        if record["status"] == "cancelled" and known.told_at and not (known.cancel_asked or known.follows):
            yield f"job {job_id} is cancelled, but no cancel was requested"
    for start in final_state.starts:
        known = history.known(start.job_id)
        ended_at = min((end.read_at for end in known.ends.values()), default=known.cancelled_at)
        if start.at > ended_at:
            yield f"job {start.job_id} was started {start.at - ended_at:.3f} s after its end was reported"
        elif known.queued and start.at > known.end_requested_at:
            yield f"job {start.job_id} had an end reason while it was queued, and was started after that"


def _all_ended(final_state: FinalState) -> Iterator[str]:
    for line in final_state.orphans:
        yield f"a listing left a job running without a live process: {line}"
    for job_id, record in final_state.jobs.items():
        if record["status"] not in TERMINAL:
            yield f"job {job_id} is {record['status']} in the end"


def _results_are_right(history: History, final_state: FinalState) -> Iterator[str]:
    for job_id, record in final_state.jobs.items():
        problem = mismatch(record, hit=job_id in history.hit_jobs)
        if problem is not None:
            yield f"job {job_id} ({record['label']}): {problem}"


def _deaths_have_a_cause(history: History, final_state: FinalState) -> Iterator[str]:
    for job_id, record in final_state.jobs.items():
        worker, owner = ((record[key] or {}).get("pid", 0) for key in ("worker", "owner"))
        made_so = record["label"].startswith(("body-exits ", "q-dies ", f"{REUSED} "))
        if record["error_kind"] != "worker_died" or made_so or worker in history.killed_at:
            continue
        if owner not in history.killed_at:
            yield f"job {job_id} lost its worker, and neither it nor its server was killed: {record['error']}"
        elif history.known(job_id).told_at is not None:
            yield f"job {job_id} lost its worker with its server, which it should outlive: {record['error']}"


def _nothing_left(final_state: FinalState) -> Iterator[str]:
    for what in ("processes", "leftovers", "damaged", "locks", "semaphores", "tracebacks", "bystanders"):
        for line in getattr(final_state, what):
            yield f"left behind ({what}): {line}"
