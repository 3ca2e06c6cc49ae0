"""The data of the product: frozen, plain, JSON in and out.

Any module may import this one. It holds no behaviour beyond conversion, so that a record written
by one version can be read by the next: unknown keys are kept in `Job.extra` and written back.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from typing import Any, Final, Self

from python_mcp_server.errors import bare_name
from python_mcp_server.limits import Limits, number_words
from python_mcp_server.options import JobOptions
from python_mcp_server.questions.model import Question, still_open
from python_mcp_server.settings import DEFAULT_GRACE_S

MB: Final = 1_000_000
JOB_RESULT: Final = "job_result"
"""The key of a reply; a reply that has it is that of a job which ends with a `JobResult`."""

OUR_TOOLS: Final = "python_mcp_server.tools."
"""The modules of the bodies that start programs."""

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts as it counts
_PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)


class JobState(StrEnum):
    """The state of a job. The last three are terminal: written once, never changed."""

    PENDING = "pending"  # accepted and durable, no body has started
    RUNNING = "running"  # its body was started
    INPUT_REQUIRED = "input_required"  # its body waits for an answer from the user
    COMPLETED = "completed"  # the body returned
    FAILED = "failed"  # the body raised, or ended otherwise without a result
    CANCELLED = "cancelled"  # it was cancelled, and its last process is gone

    @property
    def terminal(self) -> bool:
        """Whether a job in this state can never change again."""
        return self in _TERMINAL

    @property
    def word(self) -> str:
        """The state as the framework of jobs names it: queued, running, completed, failed or cancelled."""
        return _WORDS.get(self, self.value)


_TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
_WORDS: Final = {JobState.PENDING: "queued", JobState.INPUT_REQUIRED: "running"}


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress that a body reports; `total` is None if the body does not know it."""

    current: float
    total: float | None = None
    message: str | None = None

    @property
    def percentage(self) -> float | None:
        """How much of the total is done, from 0 to 100; None where the total is not known, or 0."""
        if not self.total or not math.isfinite(share := self.current / self.total):
            return None
        return round(min(100.0, max(0.0, 100.0 * share)), 1)

    def to_json(self) -> dict[str, Any]:
        """Return `{"current", "total", "message"}`."""
        return {"current": self.current, "total": self.total, "message": self.message}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(data["current"], data.get("total"), data.get("message"))

    def numbers(self, between: str) -> str:
        """Return how far it is, and of how much where that is known, with a word between."""
        total = "" if self.total is None else f"{between}{number_words(self.total)}"
        return f"{number_words(self.current)}{total}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory and CPU of a job's process tree. Peaks are sampled, so a short spike may be missed.

    A script's is that of its processes, without the worker that started it: what `memory_limit_mb` counts.
    """

    rss_bytes: int = 0
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    cpu_percent: float | None = None
    processes: int = 0
    source: str = "sampled"

    def to_json(self) -> dict[str, Any]:
        """Return the wire form: sizes in MB of 10^6 bytes."""
        return {
            "rss_mb": round(self.rss_bytes / MB, 3),
            "peak_rss_mb": round(self.peak_rss_bytes / MB, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "cpu_percent": self.cpu_percent,
            "processes": self.processes,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            rss_bytes=round(data.get("rss_mb", 0.0) * MB),
            peak_rss_bytes=round(data.get("peak_rss_mb", 0.0) * MB),
            cpu_seconds=float(data.get("cpu_seconds", 0.0)),
            cpu_percent=data.get("cpu_percent"),
            processes=data.get("processes", 0),
            source=data.get("source", "sampled"),
        )


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process for all time, because a pid alone is reused.

    `start_ticks` counts since boot, so that a step of the wall clock changes nothing. Two fields are no part
    of it, and empty where they are not known: `worker_id`, which a worker and all that it forks carry in
    their environment, and `machine`, which tells another machine from an earlier boot of the same one.
    """

    pid: int
    start_ticks: int
    boot_id: str = ""
    pid_namespace: str = ""
    worker_id: str = field(default="", compare=False)
    machine: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the facts under their own names."""
        return {
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "boot_id": self.boot_id,
            "pid_namespace": self.pid_namespace,
            "lane": self.worker_id,  # as records have always named it
            "machine": self.machine,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError: The data is not an identity.
        """
        numbers = (data["pid"], data["start_ticks"])
        texts = [data.get(name, "") for name in ("boot_id", "pid_namespace", "lane", "machine")]
        if {*map(type, numbers)} != {int} or {*map(type, texts)} != {str}:
            raise TypeError(f"no process is {data!r}")
        return cls(*numbers, *texts)


@dataclass(frozen=True, slots=True)
class Transition:
    """The last change of a job's state, as its record has it; see `store.events`.

    `number` counts the transitions of the job from 1; `before` is the state before, None for a new record.
    """

    number: int
    kind: str
    before: str | None
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with the time as ISO 8601."""
        return {"number": self.number, "kind": self.kind, "before": self.before, "at": iso(self.at)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(int(data["number"]), data["kind"], data["before"], moment(data["at"]) or utc_now())


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as it is in the store. Change it with `evolve`, on the store's locked path only.

    Attributes:
        id: Unguessable, and sorted by the time of creation.
        label: The caller's name for the job; where the caller gave none, what it runs, or the tool's name.
        tool: The name of the tool or body.
        ran: What the job runs: its script with the arguments, or a line of its code. None where that is not
            known; secrets are left out.
        directory: The directory that it was started for.
        client: The MCP client that asked for it, as it named itself.
        message: A sentence on the present state, such as why the job still waits.
        result: Plain JSON, or None; set when completed, or when the job says itself that it failed.
        result_note: Set where the body's value was not JSON and `result` is its text; says so.
        error_kind: "exception", "worker_died", "memory_limit", "time_limit", "cpu_limit", "disk_limit",
            "server_died", "no_worker" (the machine gave no process), "unsuccessful" (its own result says so),
            "lost", "moved".
        error_type: The qualified name of the class of the body's exception; `error` has its last part.
        rpc_error: The JSON-RPC error that the body raised on purpose, by the SDK's `MCPError`.
        ending: Why the job is about to be ended: "cancelled", "time_limit", "cpu_limit", "disk_limit" or
            "memory_limit". Once it is set, only this reason may be settled.
        owner: The process that settles the job, as long as that process lives.
        worker: The process that runs the body.
        background: Whether the job was handed over, so that it outlives its caller.
        grace_s: How long its body may clean up after a cancel; None where the canceller decides.
        principal: Who created the job, where the server knew; only they and the account's owner see it.
        memory_limit_mb: Its memory limit, in MB of 10^6 bytes; None where it has none.
        call: The spec with which another server may start the job, until a worker has surely begun it; see
            `jobs.spec`. A job with options keeps it while it runs, and where it fails for good.
        call_note: Why a job with options has no spec, so that it cannot be run again.
        reply: How its call answers beyond its result; see `jobs.reply`. None where that was not given.
        missed_at: When a reader first saw its worker dead while its owner lived.
        questions: The body's questions, until the body has the answers.
        options: How it is queued and retried; None for a job that waits for a slot only.
        queued_at: Since when it could start, if it had to wait for something else than a slot.
        not_before: It starts at this time at the earliest; None once that is over.
        waits_for: The jobs of `options.after` that have not ended yet.
        behind_key: Whether it waits in the list of its key, until one that goes first has ended.
        attempt: The number of the present attempt, counted from 1.
        attempts: The attempts that have failed: `{"attempt", "started_at", "ended_at", "error", "error_kind",
            "usage"}` of each, oldest first.
        schedule: The schedule that made the job: `{"id", "name", "time"}`; the time is None where a person
            let it run now.
        event: The last transition; the store sets it, and it is no part of what makes two jobs equal.
        extra: Keys of a newer version, kept as they are.
    """

    id: str
    label: str
    status: JobState
    created_at: datetime
    tool: str = ""
    ran: str | None = None
    directory: str | None = None
    client: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    message: str | None = None
    error: str | None = None
    error_kind: str | None = None
    error_type: str | None = None
    rpc_error: dict[str, Any] | None = None
    result: Any = None
    result_note: str | None = None
    progress: JobProgress | None = None
    usage: Usage | None = None
    ending: str | None = None
    owner: ProcessIdentity | None = None
    worker: ProcessIdentity | None = None
    background: bool = False
    grace_s: float | None = None
    principal: str | None = None
    memory_limit_mb: float | None = None
    call: dict[str, Any] | None = None
    call_note: str | None = None
    reply: dict[str, Any] | None = None
    missed_at: datetime | None = None
    questions: tuple[Question, ...] = ()
    options: JobOptions | None = None
    queued_at: datetime | None = None
    not_before: datetime | None = None
    waits_for: tuple[str, ...] = ()
    behind_key: bool = False
    attempt: int = 1
    attempts: tuple[dict[str, Any], ...] = ()
    schedule: dict[str, Any] | None = None
    event: Transition | None = field(default=None, compare=False)
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def belongs_to(self, principal: str | None) -> bool:
        """Whether this principal may see the job: its own, for as long as `token_seconds` says; None, the
        account's owner, sees all.
        """
        return principal is None or (self.principal == principal and not self._is_token_over())

    def _is_token_over(self) -> bool:
        lasts_s = None if self.options is None else self.options.token_seconds
        return lasts_s is not None and (utc_now() - self.created_at).total_seconds() >= lasts_s

    def without_result(self, size_bytes: int, way: str) -> Self:
        """Return a copy without its result; the note says how large that is as JSON, and the way to it."""
        notes = [self.result_note, f"result of {size_bytes} bytes; {way}"]
        return self.evolve(result=None, result_note="; ".join(filter(None, notes)))

    @property
    def open_questions(self) -> tuple[Question, ...]:
        """The questions that have no answer yet."""
        return still_open(self.questions)

    def to_json(self) -> dict[str, Any]:
        """Return the form that tools show: only JSON types, no process identities, no arguments, no
        answers. The metadata of a job's own `JobResult` is in it where there is any.
        """
        asked = [question.to_json() for question in self.open_questions]
        shown: dict[str, Any] = {
            "id": self.id,
            "label": self.label,
            "tool": self.tool,
            "ran": self.ran,
            "directory": self.directory,
            "client": self.client,
            "status": self.status.value,
            "created_at": iso(self.created_at),
            "started_at": iso(self.started_at),
            "completed_at": iso(self.completed_at),
            "message": self.message,
            "error": self.error,
            "error_kind": self.error_kind,
            "result": self.result,
            "result_note": self.result_note,
            "progress": self.progress.to_json() if self.progress else None,
            "usage": self.usage.to_json() if self.usage else None,
        }
        if asked:
            shown["questions"] = asked
        told: dict[str, Any] = (self.reply or {}).get(JOB_RESULT) or {}
        if metadata := told.get("metadata"):
            shown["metadata"] = metadata
        if self.schedule is not None:
            shown["schedule"] = self.schedule
        return shown if self.options is None else shown | self._queueing(self.options)

    def _queueing(self, options: JobOptions) -> dict[str, Any]:
        retryable = {"retryable": self.call is not None} if self.status is JobState.FAILED else {}
        shown = options.to_json() | {"priority": options.priority}
        shown |= {"not_before": iso(self.not_before), "waits_for": list(self.waits_for)}
        history = {"attempt": self.attempt, "attempts": list(self.attempts)}
        return {"queueing": shown, **history, **retryable}

    def to_record(self) -> dict[str, Any]:
        """Return the form that the store writes: `to_json` plus the fields that only processes need."""
        return (
            self.extra
            | self.to_json()
            | {
                "error_type": self.error_type,
                "rpc_error": self.rpc_error,
                "ending": self.ending,
                "owner": self.owner.to_json() if self.owner else None,
                "worker": self.worker.to_json() if self.worker else None,
                "background": self.background,
                "grace_s": self.grace_s,
                "principal": self.principal,
                "memory_limit_mb": self.memory_limit_mb,
                "call": self.call,
                "reply": self.reply,
                "missed_at": iso(self.missed_at),
                "questions": [question.to_record() for question in self.questions],
                "event": self.event.to_json() if self.event else None,
            }
            | ({} if self.options is None else self._options_record(self.options))
        )

    def _options_record(self, options: JobOptions) -> dict[str, Any]:
        return {
            "options": options.to_json(),
            "call_note": self.call_note,
            "queued_at": iso(self.queued_at),
            "not_before": iso(self.not_before),
            "waits_for": list(self.waits_for),
            "behind_key": self.behind_key,
        }

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Self:
        """Read what `to_record` wrote.

        Raises:
            KeyError, ValueError, TypeError: The data is not a record of a job.
        """
        plain = {key: value for key, value in data.items() if key in _FIELDS}
        for key in plain.keys() & _KINDS.keys():
            if not isinstance(plain[key], _KINDS[key]):
                raise TypeError(f"{key} is {plain[key]!r}")
        plain["status"] = JobState(data["status"])
        plain["created_at"] = moment(data["created_at"]) or utc_now()
        for key in plain.keys() & _MOMENTS:
            plain[key] = moment(plain[key])
        for key in plain.keys() & _NESTED.keys():
            plain[key] = _NESTED[key].from_json(plain[key]) if plain[key] else None
        plain["label"] = cut_label(plain["label"])
        plain["questions"] = tuple(map(Question.from_record, data.get("questions") or ()))
        for key in ("waits_for", "attempts"):
            plain[key] = tuple(plain.get(key) or ())
        plain["extra"] = {key: data[key] for key in data.keys() - _KNOWN}
        return cls(**plain)


MOST_LABEL_CHARS: Final = 200


def cut_label(text: str) -> str:
    """Return a text as a label: a longer one, of a record of an earlier version, without its end."""
    return cut(text, MOST_LABEL_CHARS)


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; a longer one ends in "…"."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


_FIELDS: Final = frozenset(f.name for f in fields(Job))
_KNOWN: Final = _FIELDS | {"queueing", "metadata", "retryable"}
_MOMENTS: Final = frozenset(("started_at", "completed_at", "missed_at", "queued_at", "not_before"))
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("id", "label", "tool"), (str,)),
    **dict.fromkeys(
        (
            "message",
            "error",
            "error_kind",
            "error_type",
            "result_note",
            "call_note",
            "ending",
            "principal",
            "ran",
            "directory",
            "client",
        ),
        (str, NoneType),
    ),
    **dict.fromkeys(("rpc_error", "call", "reply", "schedule"), (dict, NoneType)),
    **dict.fromkeys(("waits_for", "attempts"), (list, NoneType)),
    "attempt": (int,),
    "background": (bool,),
    "behind_key": (bool,),
    **dict.fromkeys(("grace_s", "memory_limit_mb"), (float, int, NoneType)),
}
_NESTED: Final[dict[str, Any]] = {
    "progress": JobProgress,
    "usage": Usage,
    "owner": ProcessIdentity,
    "worker": ProcessIdentity,
    "options": JobOptions,
    "event": Transition,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One start of a body, as it travels to a worker.

    Attributes:
        job_id: The job that this starts.
        label: The job's label.
        body: `"module:qualname"`, or `"digest:<sha256>"` for a body sent by value.
        code: The cloudpickled body, the first time a worker gets this digest.
        args: Positional arguments; pickled with the call.
        kwargs: Keyword arguments.
        folder: The folder of the job's files; the first process that writes there makes it.
        limits: The limits of the body; None for no limits.
        unbegun: The note in the home that no worker has begun it, if there is one; see `pool.protocol`.
        queued: Whether the job has waited in the queue: then it may have the output of an earlier attempt.
        grace_s: How long the body may clean up after a cancel.
        main: The part of the main module that the worker loads first, or why it must not load it; see
            `pool.main_module`.
    """

    job_id: str
    label: str
    body: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    folder: str = ""
    code: bytes | None = None
    limits: Limits | None = None
    unbegun: str = ""
    queued: bool = False
    grace_s: float = DEFAULT_GRACE_S
    main: Any = None

    @property
    def runs_programs(self) -> bool:
        """Whether the body is one of our tools, which start the program that the job is about."""
        return self.body.startswith(OUR_TOOLS)


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as data.

    Attributes:
        type_name: Qualified name of its class.
        message: Its text.
        traceback_text: The worker's traceback.
        pickled: The pickled exception, only where it is proven to survive pickling.
        error: The exception itself where the body ran in this process.
        kind: The job's `error_kind`.
        bases: The qualified names of its class and the classes above.
        exit_code: The exit code of a worker that died; negative for a signal's number.
        rpc_error: The code, message and data of the SDK's `MCPError`.
    """

    type_name: str
    message: str
    traceback_text: str = ""
    pickled: bytes | None = None
    kind: str = "exception"
    bases: tuple[str, ...] = ()
    exit_code: int | None = None
    rpc_error: dict[str, Any] | None = None
    error: Exception | None = None

    @property
    def sentence(self) -> str:
        """The exception in a sentence, which names its class without the module."""
        name = bare_name(self.type_name)
        return f"{name}: {self.message}" if self.message else name


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a body ended: a value, a failure, or cancelled. A worker returns one and never raises.

    Attributes:
        value: The value that the body returned.
        failure: Set where it raised.
        cancelled: Whether it ended by `JobCancelled`.
        wants_record: Whether the body asked for a record, because its files must stay readable.
        touched: Whether the job's folder may exist.
        shown: The substitute for a value that cannot be sent: its JSON form, and a note that says so.
    """

    value: Any = None
    failure: Failure | None = None
    cancelled: bool = False
    wants_record: bool = False
    touched: bool = False
    shown: tuple[Any, str | None] | None = None


def new_job_id(created_at: datetime | None = None) -> str:
    """Return a new id: 9 characters of time in ms, then 125 random bits in 25 characters.

    Args:
        created_at: The time in the id; now where None.
    """
    time_ms = (
        time.time_ns() // 1_000_000 if created_at is None else max(0, int(created_at.timestamp() * 1000))
    )
    return base32(time_ms << 125 | int.from_bytes(os.urandom(16), "big") >> 3, 34)


def utc_now() -> datetime:
    """Return the present as an aware UTC time."""
    return datetime.now(UTC)


def iso(when: datetime | None) -> str | None:
    """Return ISO 8601 with offset, or None."""
    return None if when is None else when.isoformat()


def moment(text: str | None) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is taken as UTC."""
    if text is None:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def base32(number: int, length: int) -> str:
    """Return the number's lowest 5 x `length` bits as text that sorts as it counts."""
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(10 * ((length - 1) // 2), -1, -10)]
    return "".join(pairs)[-length:]
