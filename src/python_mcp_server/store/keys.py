"""The index of jobs that have not ended, and of dead letters: the name and the rank by which a record is
found.

Every store keeps this index: a record that is written gets its new key, and loses the former one. So the cost
of the next start does not grow with the number of queued jobs. A record has one key or none:

    ready.<group>   queued, and held back by nothing but a slot; in the order in which they start
    key.<key>.<group>  queued, and behind others of its key; in the same order
    delayed.<queue> queued, until a time; by this time
    after.<id>      queued, until the job with this id ends
    ending          queued, and to be ended before its start
    running         started in the background
    attached        not ended, and waited for by a caller
    dead.<time>     failed for good, with the spec by which it can be run again; newest first. The time is the
                    front of its id, some 9 hours, so that no list grows without end
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from python_mcp_server.model import ALPHABET, Job, JobState, base32
from python_mcp_server.options import DEFAULT_QUEUE

READY: Final = "ready."
KEY: Final = "key."
DELAYED: Final = "delayed."
AFTER: Final = "after."
ENDING: Final = "ending"
RUNNING: Final = "running"
ATTACHED: Final = "attached"
DEAD: Final = "dead."

PRIORITY_STEP_S: Final = 600.0
"""How much waiting a step of priority is worth. A job's place is fixed when it is queued, so none starves."""

_RANK_CHARS: Final = 9
_TIME_BITS: Final = 45
_DEAD_CHARS: Final = 4
_FALLING: Final = str.maketrans(ALPHABET, ALPHABET[::-1])


@dataclass(frozen=True, slots=True)
class IndexKey:
    """Where a record is in the index.

    Attributes:
        name: The name of the list.
        rank: The place in it; a text that sorts as the time in it.
    """

    name: str
    rank: str


def index_key(job: Job) -> IndexKey | None:
    """Return the key of a record, or None where it is in no list, because it has ended."""
    if job.status.terminal:
        return _dead(job)
    if not job.background:
        return IndexKey(ATTACHED, rank_of(job.created_at))
    if job.status is not JobState.PENDING:
        return IndexKey(RUNNING, rank_of(job.started_at or job.created_at))
    if job.ending:
        return IndexKey(ENDING, rank_of(job.created_at))
    if job.waits_for:
        return IndexKey(AFTER + job.waits_for[0], rank_of(job.created_at))
    if job.not_before is not None:
        queue = DEFAULT_QUEUE if job.options is None else job.options.queue
        return IndexKey(DELAYED + queue, rank_of(job.not_before))
    return IndexKey(name_behind_key(job) if job.behind_key else READY + _group(job), start_rank(job))


def name_behind_key(job: Job) -> str:
    """Return the list in which a job with a key waits while others of its key go first."""
    return names_behind_key(str(job.options and job.options.key)) + _group(job)


def names_behind_key(key: str) -> str:
    """Return the text with which the lists of the jobs begin that wait behind this key."""
    return f"{KEY}{_digest({'key': key})}."


def start_rank(job: Job) -> str:
    """Return the place of a queued job in the order in which jobs start."""
    head_start_s = 0.0 if job.options is None else job.options.priority * PRIORITY_STEP_S
    return rank_of(job.queued_at or job.created_at, head_start_s)


def is_dead_letter(job: Job) -> bool:
    """Whether a job has failed for good and has the spec by which it can be run again."""
    return job.status is JobState.FAILED and job.call is not None


def _dead(job: Job) -> IndexKey | None:
    return IndexKey(dead_name(job.id), dead_rank(job.id)) if is_dead_letter(job) else None


def dead_name(job_id: str) -> str:
    """Return the list of the dead letters that were created about when this job was."""
    return DEAD + job_id[:_DEAD_CHARS]


def dead_rank(job_id: str) -> str:
    """Return the place of a dead letter in its list: newer jobs have a lower one."""
    return job_id.translate(_FALLING)


def rank_of(when: datetime, head_start_s: float = 0.0) -> str:
    """Return the rank of a time, to the millisecond."""
    time_ms = int((when.timestamp() - head_start_s) * 1000)
    return base32(min(max(time_ms, 0), (1 << _TIME_BITS) - 1), _RANK_CHARS)


def queue_of(name: str) -> str:
    """Return the queue of a list of jobs that wait for a slot, behind their key or for a time."""
    return name.split(".")[2 if name.startswith(KEY) else 1]


def _group(job: Job) -> str:
    """Return the queue, and a digest of what else decides whether a job may start, and where: if one of a
    group may not start for another reason than its key, none of them may.
    """
    options, call = job.options, job.call
    queue = DEFAULT_QUEUE if options is None else options.queue
    client = job.client if job.principal is None else None
    facts: dict[str, Any] = {"principal": job.principal, "client": client}  # its client may have a quota
    facts["memory"] = job.memory_limit_mb
    if job.owner is not None:
        facts["owner"] = [job.owner.pid, job.owner.start_ticks, job.owner.boot_id]
    if call is not None:
        facts["body"] = [call.get("body"), call.get("file"), call.get("cwd")]
    if options is not None:
        facts["kind"] = [job.tool, options.max_concurrency] if options.max_concurrency else None
        facts["key"] = options.key_concurrency if options.key and options.key_concurrency > 1 else None
        facts["rate"] = [job.tool, list(options.rate)] if options.rate else None
        facts["resources"] = dict(sorted(options.resources.items())) or None
    given = {name: value for name, value in facts.items() if value}
    return f"{queue}.{_digest(given)}" if given else queue


def _digest(facts: dict[str, Any]) -> str:
    import hashlib  # costs 7 ms, and a worker does not need it

    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
