"""How a queued job is ordered, held back, limited and retried. They are plain data, checked when it is made.

Any module may import this one. A job without options waits for a slot only, in the order of submission.
`jobs.queue` says what each option does.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import CPU, DISK, MEMORY, TIME

DEFAULT_QUEUE: Final = "default"
OF_GRAPHS: Final = frozenset({"graph", "node"})
"""The fields of `JobOptions` that a graph sets, and no caller."""
HIGHEST_PRIORITY: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")
_MOST_ATTEMPTS: Final = 100
_LONGEST_WAIT_S: Final = 30 * 86_400.0
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 300.0
_MOST_PREDECESSORS: Final = 1_000
_KEY_CHARS: Final = 200
_LONGEST_S: Final = 36_500 * 86_400.0
"""100 years: longer ones leave the calendar."""

_PERIODS_S: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_RATE: Final = re.compile(rf"([0-9]{{1,6}})/({'|'.join(_PERIODS_S)})")
_MOST_STARTS: Final = 10_000
"""Each start is remembered for its period."""


def check_name(name: object, what: str) -> None:
    """Refuse a name of a queue or a resource that is not plain.

    Raises:
        InvalidInput: The name is something else than 1 to 60 of `A-Z a-z 0-9 _ -`.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidInput(f"the {what} is {name!r:.160}; it must be 1 to 60 of A-Z a-z 0-9 _ -")


class Retry:
    """How often a body may run, and how long the job waits between its attempts.

    A body runs again only where its author says so, because it may have done a part of its work.

    Attributes:
        attempts: How often the body may run in all.
        on: The qualified names of the exceptions, and the `error_kind`s, after which it runs again; None for
        all
            but limits.
        lost_workers: Whether it runs again also where its worker died, or its server before it had a result.
        delays: The seconds before the second attempt, the third, and so on.
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        on: type[BaseException] | str | Iterable[type[BaseException] | str] | None = None,
        wait: Any = None,
        lost_workers: bool = False,
    ) -> None:
        """Make a policy.

        Args:
            attempts: How often the body may run in all, 1 to 100.
            on: The exceptions after which the body runs again, with their subclasses, and `error_kind`s such
            as
                "time_limit"; where None every failure but a limit and a lost worker.
            wait: Seconds, or a wait strategy of tenacity; where None 1 s, 2 s, 4 s and so on up to 5 minutes.
            lost_workers: Whether the body runs again also where its worker was lost.

        Raises:
            InvalidInput: A value has no meaning.
        """
        if not _whole(attempts) or not 1 <= attempts <= _MOST_ATTEMPTS:
            raise InvalidInput(
                f"attempts is {attempts!r}; it must be a whole number from 1 to {_MOST_ATTEMPTS}"
            )
        self.attempts = attempts
        self.on = None if on is None else tuple(map(_exception_name, _listed(on)))
        self.lost_workers = lost_workers
        self.delays = tuple(_delay(wait, number) for number in range(1, attempts))

    def allows(self, kind: str, type_names: Iterable[str]) -> bool:
        """Whether a failure of this kind, by an exception of these classes, may be followed by an attempt."""
        if kind in LOST_KINDS:
            return self.lost_workers
        if self.on is not None:
            return not {kind, *type_names}.isdisjoint(self.on)
        return kind not in _LIMITS

    def delay_after(self, attempt: int) -> float | None:
        """Return the seconds that the job waits after this attempt, counted from 1; None after the last."""
        return self.delays[attempt - 1] if attempt <= len(self.delays) else None

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON."""
        on = None if self.on is None else list(self.on)
        return {"delays": list(self.delays), "on": on, "lost_workers": self.lost_workers}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        read = cls(1, lost_workers=data["lost_workers"])
        read.on = None if data["on"] is None else tuple(data["on"])
        read.delays = tuple(map(float, data["delays"]))
        read.attempts = len(read.delays) + 1
        return read

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


_BUILTIN: Final = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
)
_BUILTIN_BY_LOWER: Final = {name.lower(): name for name in _BUILTIN}
_LIMITS: Final = frozenset({MEMORY, CPU, TIME, DISK})
LOST_KINDS: Final = frozenset({"worker_died", "server_died", "lost", "no_worker"})
"""The `error_kind` of jobs that have lost their worker."""


def _exception_name(kind: Any) -> str:
    if isinstance(kind, str) and kind.strip():
        if kind not in _BUILTIN and (meant := _BUILTIN_BY_LOWER.get(kind.lower())) is not None:
            raise InvalidInput(f"on has {kind!r:.160}; the exception is {meant!r}")
        return kind
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise InvalidInput(f"on has {kind!r:.160}; it must be exception classes")
    return qualified_name(kind)


def qualified_name(kind: type[BaseException]) -> str:
    """Return the name of an exception class as records have it: without the module where that is builtins."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _listed(on: Any) -> Iterable[type[BaseException] | str]:
    if not isinstance(on, Iterable) and not isinstance(on, type):
        raise InvalidInput(f"on is {on!r:.160}; it must be exception classes")
    return (on,) if isinstance(on, (str, type)) else cast("Iterable[Any]", on)


def _delay(wait: Any, attempt: int) -> float:
    if wait is None:
        return min(_FIRST_WAIT_S * 2 ** (attempt - 1), _MOST_WAIT_S)
    if callable(wait):
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=cast("Any", None), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        wait = wait(state)
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait <= _LONGEST_WAIT_S:
        raise InvalidInput(f"wait is {wait!r:.160}; it must be seconds, or a wait strategy of tenacity")
    return float(wait)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often jobs may start.

    Attributes:
        count: The most starts in any period of this length.
        period: "second", "minute", "hour" or "day".
    """

    count: int
    period: str

    @property
    def period_s(self) -> float:
        """The length of the period, in seconds."""
        return _PERIODS_S[self.period]

    def __str__(self) -> str:
        return f"{self.count} {'an' if self.period == 'hour' else 'a'} {self.period}"


def read_rates(rates: Sequence[str], what: str) -> tuple[Rate, ...]:
    """Return the rates that these texts name.

    Raises:
        InvalidInput: A text is no rate; the text of the error calls it `what`.
    """
    return tuple(_read_rate(text, what) for text in rates)


def _read_rate(text: object, what: str) -> Rate:
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or not 1 <= int(found[1]) <= _MOST_STARTS:
        periods = ", ".join(_PERIODS_S)
        raise InvalidInput(
            f"{what} is {text!r:.160}; it must be a count from 1 to {_MOST_STARTS} and one of {periods}, "
            'such as "10/minute"'
        )
    return Rate(int(found[1]), found[2])


def listed_rates(given: Any, what: str) -> tuple[str, ...]:
    """Return rates, of which one or several are given, as a tuple; none where None is given.

    Raises:
        InvalidInput: It is something else.
    """
    texts = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(texts, Iterable):
        raise InvalidInput(f'{what} is {given!r:.160}; it must be a text such as "10/minute", or several')
    listed = tuple(cast("Iterable[str]", texts))
    read_rates(listed, what)
    return listed


@dataclass(frozen=True, slots=True)
class Snooze:
    """Returned by a body that wants to run again later; that counts as no attempt.

    Attributes:
        seconds: How long the job waits.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Returned by a body that finds that its job is of no use any more: the job is cancelled.

    Attributes:
        reason: A sentence for those who read the job.
    """

    reason: str = ""

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.reason), str):
            raise InvalidInput(f"reason is {self.reason!r:.160}; it must be a text")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options of one queued job.

    Attributes:
        queue: The name of its queue, which can be paused and bounded.
        priority: From -100 to 100; a step is worth 10 minutes of waiting, so that nothing starves.
        run_at: It starts at this time at the earliest; None for at once.
        after: The ids of the jobs that must end before it starts.
        run_after_failure: Whether it starts also where one of those failed; otherwise it is skipped.
        key: Jobs with the same key run `key_concurrency` at a time, over all servers of a home.
        key_concurrency: How many of its key run at once.
        max_concurrency: How many of its kind run at once; None for no bound.
        rate: How many of its kind start in a time, such as "10/minute", or several of these.
        resources: How much it takes of each named resource while it runs.
        retry: Whether and when its body runs again; None for one attempt.
        idempotency_key: A repeated submission of this key gets the job that was made first, however that
            ended, until it is pruned. With other arguments it is refused, and so are arguments that cannot be
            compared, such as a generator.
        cache_seconds: Where an equal call runs, or has completed less than so long ago, the submission gets
            that job. Only calls whose arguments are plain JSON, without secrets, are compared.
        keep_seconds: How long its record is kept after its end, and some minutes; None for ever. A job that
            failed for good, and can be run again, stays until it is retried, dropped or pruned.
        token_seconds: How long after its creation a client with a token sees the job; None for ever. The
            account's owner sees it always.
        graph: The id of the job that stands for its graph; set where a graph is submitted.
        node: Its name in the graph.

    Raises:
        InvalidInput: A value has no meaning; the text names it.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    run_at: datetime | None = None
    after: tuple[str, ...] = ()
    run_after_failure: bool = False
    key: str | None = None
    key_concurrency: int = 1
    max_concurrency: int | None = None
    rate: str | Sequence[str] = ()
    resources: Mapping[str, int] = field(default_factory=dict[str, int])
    retry: Retry | None = None
    idempotency_key: str | None = None
    cache_seconds: float | None = None
    keep_seconds: float | None = None
    token_seconds: float | None = None
    graph: str | None = None
    node: str | None = None

    def __post_init__(self) -> None:
        check_name(self.queue, "queue")
        _check_whole("priority", self.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)
        _check_whole("key_concurrency", self.key_concurrency, 1)
        if self.max_concurrency is not None:
            _check_whole("max_concurrency", self.max_concurrency, 1)
        for name in ("key", "idempotency_key", "graph", "node"):
            _check_key(name, getattr(self, name))
        _check_run_at(self.run_at)
        self._check_after()
        object.__setattr__(self, "rate", listed_rates(self.rate, "rate"))
        if not isinstance(cast("object", self.resources), Mapping):
            raise InvalidInput(f"resources is {self.resources!r:.160}; it must be counts by name")
        for name, count in self.resources.items():
            check_name(name, "resource")
            _check_whole(f"resources[{name!r}]", count, 0)
        for name in ("cache_seconds", "keep_seconds", "token_seconds"):
            if (seconds := getattr(self, name)) is not None:
                check_seconds(name, seconds)
        if self.retry is not None and not isinstance(cast("object", self.retry), Retry):
            raise InvalidInput(f"retry is {self.retry!r:.160}; it must be a Retry")

    def _check_after(self) -> None:
        given: Any = self.after
        listed = isinstance(given, Iterable) and not isinstance(given, str)
        after: tuple[Any, ...] = tuple(cast("Iterable[Any]", given)) if listed else (None,)
        if not all(isinstance(token, str) for token in after):
            raise InvalidInput(f"after is {self.after!r:.160}; it must be a list of job ids")
        if len(after) > _MOST_PREDECESSORS:
            raise InvalidInput(f"after names {len(after)} jobs; it may name {_MOST_PREDECESSORS}")
        object.__setattr__(self, "after", tuple(dict.fromkeys(after)))

    @classmethod
    def delayed(cls, delay: float, **others: Any) -> Self:
        """Return the options of a job that starts after so many seconds, or later.

        Args:
            delay: The seconds.
            **others: The other options, by their names.

        Raises:
            InvalidInput: A value has no meaning; the text names it.
        """
        check_seconds("delay", delay)
        if "run_at" in others:
            raise InvalidInput("delay and run_at exclude each other; give one of them")
        return cls(run_at=datetime.now(UTC) + timedelta(seconds=delay), **others)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What `rate` says."""
        return read_rates(self.rate, "rate")

    def to_json(self) -> dict[str, Any]:
        """Return the queue, and the other options that differ from their defaults, as JSON."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        shown = {name: value for name, value in given.items() if name == "queue" or value != _DEFAULTS[name]}
        if self.run_at is not None:
            shown["run_at"] = self.run_at.isoformat()
        if self.retry is not None:
            shown["retry"] = self.retry.to_json()
        return shown | {name: list(given[name]) for name in ("after", "rate") if given[name]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; options of a newer version are left out.

        Raises:
            InvalidInput, KeyError, TypeError, ValueError: The data is not such options.
        """
        given = {name: value for name, value in data.items() if name in _DEFAULTS}
        if "run_at" in given:
            given["run_at"] = datetime.fromisoformat(given["run_at"])
        if "retry" in given:
            given["retry"] = Retry.from_json(given["retry"])
        return cls(**given)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    if not _whole(value) or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise InvalidInput(f"{name} is {value!r:.160}; it must be a whole number {bounds}")


def _check_key(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, str) and 1 <= len(value) <= _KEY_CHARS):
        raise InvalidInput(f"{name} is {value!r:.160}; it must be a text of 1 to {_KEY_CHARS} characters")


def _check_run_at(when: Any) -> None:
    if when is not None and not (isinstance(when, datetime) and when.tzinfo is not None):
        raise InvalidInput(f"run_at is {when!r:.160}; it must be a datetime with a time zone")


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is no number of seconds, 0 or more.

    Raises:
        InvalidInput: The text has the name and the value.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0 <= value <= _LONGEST_S):
        raise InvalidInput(f"{name} is {value!r:.160}; it must be seconds, from 0 to {_LONGEST_S:.0f}")


_NO_OPTIONS: Final = JobOptions()
_DEFAULTS: Final[dict[str, Any]] = {f.name: getattr(_NO_OPTIONS, f.name) for f in fields(JobOptions)}
