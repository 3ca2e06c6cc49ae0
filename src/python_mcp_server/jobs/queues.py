"""The rules of a home's queues, which all its servers share: what is paused, what is bounded, what resources
there are. They lie in a file of the home and hold until they are changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import read_file, translate_os_errors, write_file
from python_mcp_server.errors import InvalidInput
from python_mcp_server.options import check_name, listed_rates

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_FILE: Final = "queues.json"
_LOCK: Final = "queues"


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The rules of a home's queues.

    Attributes:
        paused: The queues whose jobs do not start.
        closed: The queues that take no new jobs, with the reason.
        limits: How many jobs of a queue run at once, over all servers.
        bounds: How many jobs may wait in a queue.
        resources: How much there is of each named resource.
        client_rate: How many jobs of each client with a name of its own start in a time, such as "10/minute".
    """

    paused: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    bounds: Mapping[str, int] = field(default_factory=dict[str, int])
    resources: Mapping[str, int] = field(default_factory=dict[str, int])
    client_rate: tuple[str, ...] = ()


def read_rules(store: JobStore) -> QueueRules:
    """Return the rules of this home; the default ones where there are none. Blocks.

    Raises:
        StoreError: The file cannot be read, or is not one of rules.
    """
    with translate_os_errors(str(store.home), "read the rules of the queues"):
        data = read_file(_path(store))
    return QueueRules() if data is None else _rules(json.loads(data))


def _rules(data: dict[str, Any]) -> QueueRules:
    paused, closed = (tuple(data.get(name, ())) for name in ("paused", "closed"))
    counts = {name: dict(data.get(name, {})) for name in ("limits", "bounds", "resources")}
    return QueueRules(paused, closed, **counts, client_rate=tuple(data.get("client_rate", ())))


def change_rules(store: JobStore, change: Callable[[QueueRules], QueueRules]) -> QueueRules:
    """Replace the rules by `change(rules)` under their lock, and return the new ones. Blocks.

    Raises:
        StoreError: They cannot be read or written.
    """
    with store.exclusive(_LOCK):
        rules = change(read_rules(store))
        with translate_os_errors(str(store.home), "write the rules of the queues"):
            write_file(_path(store), json.dumps(asdict(rules), indent=2).encode(), fsync=store.fsync)
    return rules


def _path(store: JobStore) -> str:
    return os.path.join(store.home, _FILE)


class Queues:
    """Changes the rules of a home's queues. All methods block for a moment."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def rules(self) -> QueueRules:
        """Return the present rules."""
        return read_rules(self._store)

    def pause(self, queue: str) -> QueueRules:
        """Start no more jobs of this queue; those that run go on."""
        check_name(queue, "queue")
        return self._change(lambda rules: replace(rules, paused=_with(rules.paused, queue)))

    def drain(self, queue: str) -> QueueRules:
        """Take no new jobs for this queue; those that wait and run go on."""
        check_name(queue, "queue")
        return self._change(lambda rules: replace(rules, closed=_with(rules.closed, queue)))

    def resume(self, queue: str) -> QueueRules:
        """Start jobs of this queue again, and take new ones."""
        check_name(queue, "queue")
        return self._change(
            lambda rules: replace(
                rules, paused=_without(rules.paused, queue), closed=_without(rules.closed, queue)
            )
        )

    def limit(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs of this queue run at once; None for no limit."""
        check_name(queue, "queue")
        return self._change(lambda rules: replace(rules, limits=_set(rules.limits, queue, most)))

    def bound(self, queue: str, most: int | None) -> QueueRules:
        """Let at most so many jobs wait in this queue; None for no bound. More are refused."""
        check_name(queue, "queue")
        return self._change(lambda rules: replace(rules, bounds=_set(rules.bounds, queue, most)))

    def resource(self, name: str, count: int | None) -> QueueRules:
        """Set how much there is of a named resource, over all servers; None removes it."""
        check_name(name, "resource")
        return self._change(lambda rules: replace(rules, resources=_set(rules.resources, name, count)))

    def client_rate(self, rate: str | Sequence[str] | None) -> QueueRules:
        """Let each client start so many jobs in a time, such as "10/minute", or several of these; None for no
        bound. Further jobs wait. A client is a principal of the HTTP server: the jobs of the account's owner
        are not counted.
        """
        rates = listed_rates(rate, "client_rate")
        return self._change(lambda rules: replace(rules, client_rate=rates))

    def _change(self, change: Callable[[QueueRules], QueueRules]) -> QueueRules:
        return change_rules(self._store, change)


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, name)))


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _set(counts: Mapping[str, int], name: str, count: int | None) -> dict[str, int]:
    if count is not None and (isinstance(count, bool) or count < 0):
        raise InvalidInput(f"the number for {name!r} is {count!r}; it must be a whole number, 0 or more")
    kept = {other: number for other, number in counts.items() if other != name}
    return kept if count is None else kept | {name: count}
