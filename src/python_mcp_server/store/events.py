"""The transitions of jobs as data: which change of a record is one, and what its event tells.

The stores and `jobs` import this module; users get `JobEvent` from hooks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from python_mcp_server.model import Job, JobState, Transition, iso, moment
from python_mcp_server.options import DEFAULT_QUEUE


class EventKind(StrEnum):
    """What has happened to a job. The last four are ends: nothing follows them."""

    CREATED = "created"  # its record is there; a call that a caller waits for runs by then
    STARTED = "started"  # from pending to running
    RETRIED = "retried"  # an attempt has failed, and the next one waits
    SNOOZED = "snoozed"  # the body asked to be run again later
    REQUEUED = "requeued"  # back to pending without an attempt: no body had begun
    INPUT_REQUIRED = "input_required"  # the body asks a question
    RESUMED = "resumed"  # the body has its answers
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # not started, because a job that it waits for did not complete

    @property
    def is_end(self) -> bool:
        """Whether the job has ended with this."""
        return self in ENDS


ENDS: Final = frozenset(
    {EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED, EventKind.SKIPPED},
)
_SKIPPED: Final = "skipped: "
"""How the error of a skipped job begins."""


def kind_of(job: Job, former: Job | None) -> EventKind | None:
    """Return the kind of the transition between two states of a record, or None if the state is the same.

    Args:
        job: The job as it is written now.
        former: The job as its record had it; None for a new record.
    """
    if former is not None and former.status is job.status:
        return None
    if job.status.terminal:
        waited = former is not None and former.status is JobState.PENDING and former.waits_for
        skipped = waited and (job.error or "").startswith(_SKIPPED)
        return EventKind.SKIPPED if skipped else EventKind(job.status.value)
    if former is None:
        return EventKind.CREATED
    if job.status is JobState.INPUT_REQUIRED:
        return EventKind.INPUT_REQUIRED
    if job.status is JobState.RUNNING:
        return EventKind.STARTED if former.status is JobState.PENDING else EventKind.RESUMED
    if job.attempt > former.attempt:
        return EventKind.RETRIED
    return EventKind.REQUEUED if job.not_before is None else EventKind.SNOOZED


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One transition of one job. A job's id and the number of the transition name it.

    Attributes:
        job_id: The job.
        number: The number of the transition in the life of this job, counted from 1.
        kind: What has happened.
        before: The state before; None where the record is new.
        after: The state after.
        at: When the record was written; from the clock of the process that wrote it.
        tool: The name of the tool or body.
        label: The job's label.
        queue: Its queue.
        principal: Who created the job, where the server knew.
        client: The MCP client that asked for it, as it named itself.
        background: Whether it was handed over: if not, a caller waits for it.
        attempt: The number of the attempt, counted from 1.
        waited_s: How long a started job could have started before; None elsewhere.
        ran_s: How long the body ran, in events that end an attempt.
        cpu_seconds: CPU time of the attempt, in events that end one.
        peak_rss_mb: Its highest memory in MB of 10^6 bytes, in events that end one.
        error_kind: As in the job.
        cursor: The place in the journal after this event, for `JobManager.events`; set by readers.
    """

    job_id: str
    number: int
    kind: EventKind
    before: str | None
    after: str
    at: datetime
    tool: str = ""
    label: str = ""
    queue: str = DEFAULT_QUEUE
    principal: str | None = None
    client: str | None = None
    background: bool = False
    attempt: int = 1
    waited_s: float | None = None
    ran_s: float | None = None
    cpu_seconds: float | None = None
    peak_rss_mb: float | None = None
    error_kind: str | None = None
    cursor: str = field(default="", compare=False)

    @classmethod
    def of(cls, job: Job, transition: Transition) -> Self:
        """Return the event of the last transition of a job, from its record."""
        kind = EventKind(transition.kind)
        facts: dict[str, Any] = {}
        if kind in (EventKind.CREATED, EventKind.STARTED):
            facts["waited_s"] = _between(job.queued_at or job.created_at, job.started_at)
        elif kind.is_end:
            facts = _spent(job.started_at, job.completed_at, job.usage and job.usage.to_json())
            facts["error_kind"] = job.error_kind
        elif kind is EventKind.RETRIED and job.attempts:
            last = job.attempts[-1]
            facts = _spent(moment(last["started_at"]), moment(last["ended_at"]), last["usage"])
            facts["error_kind"] = last["error_kind"]
        return cls(
            job.id,
            transition.number,
            kind,
            transition.before,
            job.status.value,
            transition.at,
            tool=job.tool,
            label=job.label,
            queue=DEFAULT_QUEUE if job.options is None else job.options.queue,
            principal=job.principal,
            client=job.client,
            background=job.background,
            attempt=job.attempt,
            **facts,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON; what is not known is left out."""
        facts = {name: getattr(self, name) for name in _NAMES}
        facts |= {"kind": self.kind.value, "at": iso(self.at)}
        return {name: fact for name, fact in facts.items() if fact not in (None, "")}

    @classmethod
    def from_json(cls, data: dict[str, Any], cursor: str = "") -> Self:
        """Read what `to_json` wrote; keys of a newer version are left out.

        Raises:
            KeyError, ValueError, TypeError: It is no event.
        """
        facts: dict[str, Any] = {"kind": EventKind(data["kind"]), "at": moment(data["at"])}
        facts |= {name: data[name] for name in data.keys() & _FIELDS - facts.keys()}
        facts |= {"before": data.get("before"), "cursor": cursor}
        return cls(**facts)


_NAMES: Final = tuple(each.name for each in fields(JobEvent))
_FIELDS: Final = frozenset(_NAMES)


def _between(since: datetime, until: datetime | None) -> float | None:
    return None if until is None else round(max(0.0, (until - since).total_seconds()), 6)


def _spent(since: datetime | None, until: datetime | None, usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return what an attempt took: `ran_s`, `cpu_seconds`, `peak_rss_mb`; a job that never began took
    nothing.
    """
    if since is None:
        return {}
    usage = usage or {}
    numbers = {name: usage.get(name) for name in ("cpu_seconds", "peak_rss_mb")}
    return numbers | {"ran_s": _between(since, until)}
