"""The quotas of a home's clients, as operators set, list and remove them: `JobManager.quotas`.

`Quotas` blocks, `AsyncQuotas` is the same on an event loop. The quotas are among the rules of
`jobs.queue_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from python_mcp_server.jobs.ledger import Ledgers
from python_mcp_server.jobs.queue_rules import change_rules, read_rules
from python_mcp_server.jobs.quota import Quota, Spent, check_client, is_prefix, quota_of
from python_mcp_server.jobs.spending import spent_by

if TYPE_CHECKING:
    from python_mcp_server.jobs.queues import InStore
    from python_mcp_server.store.contract import JobStore


@dataclass(frozen=True, slots=True)
class QuotaList:
    """The quotas of a home, and what was spent of them.

    Attributes:
        quotas: Mapping of a client, or of a prefix with `*` behind it, to its quota.
        spent: What each client with a quota has spent, by name.
    """

    quotas: Mapping[str, Quota]
    spent: tuple[Spent, ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"quotas": {...}, "spent": [...]}`."""
        quotas = {client: quota.to_json() for client, quota in self.quotas.items()}
        return {"quotas": quotas, "spent": [spent.to_json() for spent in self.spent]}


class Quotas:
    """The quotas of one home. All methods block for a moment, and raise `InvalidInput` for a name or a number
    that has no meaning, `StoreError` where the rules or a ledger cannot be read or written.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def set(
        self,
        client: str,
        *,
        jobs: int | None = None,
        cpu_seconds: float | None = None,
        memory_mb: float | None = None,
        per: str = "1h",
    ) -> Quota:
        """Set what a client may spend, in the place of its former quota, and return that.

        Args:
            client: The principal of an HTTP server, as `list` shows it where `*` has a quota, or the name and
                version that an MCP client gives itself; with `*` at the end each client whose name begins
                so, `*` alone each client. Of several quotas that fit, the one with the longest name holds.
            jobs: How many jobs it may make in the window.
            cpu_seconds: How much CPU time its jobs may take in the window.
            memory_mb: How much memory its running jobs may take at once, in MB of 10^6 bytes: the sum of
                their memory limits, and of the measured memory of those without. A job that does not fit
                waits.
            per: The window, such as "90s", "30m", "1h" or "7d".
        """
        check_client(client)
        quota = Quota(jobs=jobs, cpu_seconds=cpu_seconds, memory_mb=memory_mb, per=per)
        change_rules(self._store, lambda rules: replace(rules, quotas={**rules.quotas, client: quota}))
        return quota

    def remove(self, client: str) -> bool:
        """Remove the quota of this name, and return whether it was there."""
        check_client(client)
        found = False

        def without(quotas: Mapping[str, Quota]) -> dict[str, Quota]:
            nonlocal found
            found = client in quotas
            return {name: quota for name, quota in quotas.items() if name != client}

        change_rules(self._store, lambda rules: replace(rules, quotas=without(rules.quotas)))
        return found

    def spent(self, client: str) -> Spent:
        """Return what a client has spent of its quota."""
        return spent_by(self._store, client, read_rules(self._store))

    def list(self) -> QuotaList:
        """Return all quotas, and what the clients have spent."""
        rules = read_rules(self._store)
        named = {client for client in rules.quotas if not is_prefix(client)}
        clients = named | {each for each in Ledgers(self._store).clients() if quota_of(rules.quotas, each)}
        spent = [spent_by(self._store, client, rules) for client in sorted(clients)]
        return QuotaList(dict(sorted(rules.quotas.items())), tuple(spent))


def sweep_ledgers(store: JobStore) -> None:
    """Remove the ledgers of clients that have spent nothing in their window, or have no quota. Blocks.

    Raises:
        StoreError: They cannot be read or removed.
    """
    quotas = read_rules(store).quotas

    def window_s(client: str) -> float:
        quota = quota_of(quotas, client)
        return 0.0 if quota is None else quota.per_s

    Ledgers(store).sweep(window_s)


class AsyncQuotas:
    """The quotas of one home on an event loop; each method does as its namesake of `Quotas`."""

    def __init__(self, quotas: Quotas, in_store: InStore) -> None:
        self._quotas = quotas
        self._in_store = in_store

    async def set(
        self,
        client: str,
        *,
        jobs: int | None = None,
        cpu_seconds: float | None = None,
        memory_mb: float | None = None,
        per: str = "1h",
    ) -> Quota:
        """Set what a client may spend, in the place of its former quota, and return that."""
        bounds: dict[str, Any] = {
            "jobs": jobs,
            "cpu_seconds": cpu_seconds,
            "memory_mb": memory_mb,
            "per": per,
        }
        return await self._in_store(partial(self._quotas.set, client, **bounds))

    async def remove(self, client: str) -> bool:
        """Remove the quota of this name, and return whether it was there."""
        return await self._in_store(self._quotas.remove, client)

    async def spent(self, client: str) -> Spent:
        """Return what a client has spent of its quota."""
        return await self._in_store(self._quotas.spent, client)

    async def list(self) -> QuotaList:
        """Return all quotas, and what the clients have spent."""
        return await self._in_store(self._quotas.list)
