"""The queues of a home: how many jobs wait and run in each, and the changes of their rules.

`Queues` blocks, `AsyncQueues` is the same on an event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

from python_mcp_server.jobs.capacity import SlotLimits, capacity_of
from python_mcp_server.jobs.queue_rules import QueueRules, change_rules, check_count, read_rules
from python_mcp_server.options import DEFAULT_QUEUE, check_name, listed_rates
from python_mcp_server.store.keys import DELAYED, KEY, READY, queue_of

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_MOST_COUNTED: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One queue of a home, as it is now.

    Attributes:
        name: Its name.
        ready: How many jobs wait in it for nothing but a slot, their key or a resource.
        running: How many of its jobs run.
        delayed: How many of its jobs wait for a time.
        limit: How many of its jobs may run at once; None for no limit.
        bound: How many jobs may wait in it, ready or for a time; None for no bound.
        paused: Whether none of its jobs starts.
        draining: Whether it takes no new jobs.
    """

    name: str
    ready: int
    running: int
    delayed: int
    limit: int | None
    bound: int | None
    paused: bool
    draining: bool


@dataclass(frozen=True, slots=True)
class ResourceState:
    """One named resource of a home.

    Attributes:
        name: Its name.
        there: How much of it there is.
        taken: How much of it the running jobs take.
    """

    name: str
    there: int
    taken: int


@dataclass(frozen=True, slots=True)
class QueueList:
    """The queues of a home that have a job or a rule, and its resources, both by name.

    Attributes:
        queues: The queues; the queue `default` is always there.
        resources: The resources.
    """

    queues: tuple[QueueState, ...]
    resources: tuple[ResourceState, ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"queues": [...], "resources": [...]}` with the attributes of each."""
        return {"queues": [*map(asdict, self.queues)], "resources": [*map(asdict, self.resources)]}


class Queues:
    """The queues of one home. All methods block for a moment, and raise `InvalidInput` for a name or a number
    that has no meaning, `StoreError` where the rules cannot be read or written.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def rules(self) -> QueueRules:
        """Return the present rules."""
        return read_rules(self._store)

    def list(self) -> QueueList:
        """Return the queues and the resources, counted now; no job that waits is read."""
        rules = read_rules(self._store)
        taken = capacity_of(self._store, SlotLimits(0), rules)[0].taken
        running = Counter({name: count for (what, name), count in taken.items() if what == "queue"})
        ready, delayed = self._waiting(READY, KEY), self._waiting(DELAYED)
        ruled = {*rules.paused, *rules.closed, *rules.limits, *rules.bounds}
        queues = [
            QueueState(
                name=name,
                ready=ready[name],
                running=running[name],
                delayed=delayed[name],
                limit=rules.limits.get(name),
                bound=rules.bounds.get(name),
                paused=name in rules.paused,
                draining=name in rules.closed,
            )
            for name in sorted({DEFAULT_QUEUE, *ready, *running, *delayed, *ruled})
        ]
        resources = [
            ResourceState(name, there, taken["resource", name])
            for name, there in sorted(rules.resources.items())
        ]
        return QueueList(tuple(queues), tuple(resources))

    def _waiting(self, *prefixes: str) -> Counter[str]:
        counts = Counter[str]()
        for name in chain.from_iterable(map(self._store.index_names, prefixes)):
            counts[queue_of(name)] += self._store.index_count(name, _MOST_COUNTED)
        return +counts  # a list of the index may be empty

    def pause(self, queue: str) -> QueueRules:
        """Start no more jobs of this queue; those that run go on."""
        return self._change(queue, lambda rules: replace(rules, paused=_with(rules.paused, queue)))

    def drain(self, queue: str) -> QueueRules:
        """Take no new jobs for this queue; those that wait and run go on."""
        return self._change(queue, lambda rules: replace(rules, closed=_with(rules.closed, queue)))

    def resume(self, queue: str) -> QueueRules:
        """Start jobs of this queue again, and take new ones."""
        return self._change(
            queue,
            lambda rules: replace(
                rules, paused=_without(rules.paused, queue), closed=_without(rules.closed, queue)
            ),
        )

    def limit(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs of this queue run at once; None for no limit."""
        return self._change(queue, lambda rules: replace(rules, limits=_set(rules.limits, queue, most)))

    def bound(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs wait in this queue, ready or for a time; None for no bound. More are
        refused.
        """
        return self._change(queue, lambda rules: replace(rules, bounds=_set(rules.bounds, queue, most)))

    def resource(self, name: str, count: int | None) -> QueueRules:
        """Set how much there is of a named resource, over all servers; None removes it."""
        check_name(name, "resource")
        return change_rules(
            self._store, lambda rules: replace(rules, resources=_set(rules.resources, name, count))
        )

    def client_rate(self, rate: str | Sequence[str] | None) -> QueueRules:
        """Let each client start so many jobs in a time, such as "10/minute", or several of these; None for no
        bound. Further jobs wait. A client is a principal of the HTTP server: the jobs of the account's owner
        are not counted.
        """
        rates = listed_rates(rate, "client_rate")
        return change_rules(self._store, lambda rules: replace(rules, client_rate=rates))

    def _change(self, queue: str, change: Callable[[QueueRules], QueueRules]) -> QueueRules:
        check_name(queue, "queue")
        return change_rules(self._store, change)


class InStore(Protocol):
    """Runs blocking work in a thread of the store."""

    def __call__(self, work: Callable[..., Any], /, *args: Any) -> Awaitable[Any]:
        """Return the result of `work(*args)`."""
        ...


class AsyncQueues:
    """The queues of one home on an event loop; each method does as its namesake of `Queues`."""

    def __init__(self, queues: Queues, in_store: InStore) -> None:
        self._queues = queues
        self._in_store = in_store

    async def list(self) -> QueueList:
        """Return the queues and the resources, counted now."""
        return await self._in_store(self._queues.list)

    async def pause(self, queue: str) -> QueueRules:
        """Start no more jobs of this queue; those that run go on."""
        return await self._in_store(self._queues.pause, queue)

    async def drain(self, queue: str) -> QueueRules:
        """Take no new jobs for this queue; those that wait and run go on."""
        return await self._in_store(self._queues.drain, queue)

    async def resume(self, queue: str) -> QueueRules:
        """Start jobs of this queue again, and take new ones."""
        return await self._in_store(self._queues.resume, queue)

    async def limit(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs of this queue run at once; None for no limit."""
        return await self._in_store(self._queues.limit, queue, most)

    async def bound(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs wait in this queue; None for no bound. More are refused."""
        return await self._in_store(self._queues.bound, queue, most)

    async def resource(self, name: str, count: int | None) -> QueueRules:
        """Set how much there is of a named resource, over all servers; None removes it."""
        return await self._in_store(self._queues.resource, name, count)


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, name)))


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _set(counts: Mapping[str, int], name: str, count: int | None) -> dict[str, int]:
    if count is not None:
        check_count(count)
    kept = {other: number for other, number in counts.items() if other != name}
    return kept if count is None else kept | {name: count}
