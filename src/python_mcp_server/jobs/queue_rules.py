"""The rules of a home's queues, which all its servers share: what is paused, what is bounded, what resources
there are. They lie in a file of the home and hold until they are changed. `jobs.queues` changes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import read_file, translate_os_errors, write_file
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs.quota import Quota, check_client
from python_mcp_server.options import check_name, listed_rates
from python_mcp_server.store.layout import Layout

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
        quotas: What each client may spend; see `jobs.quota`.
    """

    paused: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    bounds: Mapping[str, int] = field(default_factory=dict[str, int])
    resources: Mapping[str, int] = field(default_factory=dict[str, int])
    client_rate: tuple[str, ...] = ()
    quotas: Mapping[str, Quota] = field(default_factory=dict[str, Quota])


def read_rules(store: JobStore) -> QueueRules:
    """Return the rules of this home; the default ones where there are none. Blocks.

    Raises:
        StoreError: The file cannot be read, or is not one of rules.
    """
    with translate_os_errors(str(store.home), "read the rules of the queues"):
        data = read_file(_path(store))
    try:
        return QueueRules() if data is None else _rules(json.loads(data))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{_path(store)} does not have the rules of the queues ({error}): no queued job starts; correct "
            "the file, or remove it and set the rules again"
        ) from error


def _rules(data: dict[str, Any]) -> QueueRules:
    paused, closed = (tuple[str, ...](data.get(what, ())) for what in ("paused", "closed"))
    counts = {what: dict[str, int](data.get(what, {})) for what in ("limits", "bounds", "resources")}
    for name in chain(paused, closed, *counts.values()):
        check_name(name, "queue or resource")
    for count in chain.from_iterable(each.values() for each in counts.values()):
        check_count(count)
    rates = listed_rates(data.get("client_rate") or None, "client_rate")
    quotas = {client: Quota(**bounds) for client, bounds in data.get("quotas", {}).items()}
    for client in quotas:
        check_client(client)
    return QueueRules(paused, closed, **counts, client_rate=rates, quotas=quotas)


def check_count(count: Any) -> None:
    """Refuse a number of a rule that is not a whole number, 0 or more.

    Raises:
        InvalidInput: The text has the number.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise InvalidInput(f"the number is {count!r:.160}; it must be a whole number, 0 or more")


def change_rules(store: JobStore, change: Callable[[QueueRules], QueueRules]) -> QueueRules:
    """Replace the rules by `change(rules)` under their lock, and return the new ones. Blocks.

    Raises:
        StoreError: They cannot be read or written.
    """
    with store.exclusive(_LOCK):
        rules = change(read_rules(store))
        with translate_os_errors(str(store.home), "write the rules of the queues"):
            data, tmp = json.dumps(asdict(rules), indent=2).encode(), Layout(str(store.home)).tmp
            write_file(_path(store), data, temporary_in=tmp, fsync=store.fsync)
    return rules


def _path(store: JobStore) -> str:
    return os.path.join(store.home, _FILE)
