"""The health of a server: that of its home, and what only this process knows of itself.

A look at the home runs in a thread. `/healthz` is open to all and may be asked often, so it shares one look,
and a disk that hangs holds it up for a moment only.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from python_mcp_server.jobs.health import SLOW_S, Health, HomeHealth, Problem, slow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from python_mcp_server.jobs.limit_watch import HomeDisk
    from python_mcp_server.jobs.services import Services

_TURN: Final = "health"
_FRESH_S: Final = 1.0
"""How long a glance takes what the last look has found."""

_PATIENCE_S: Final = 0.5
"""How long a glance waits for a look where there was one before; guessed: probes often wait for a second."""


class ServerHealth:
    """Looks at the server of one engine. All methods belong to its loop."""

    def __init__(self, services: Services, home_disk: HomeDisk | None) -> None:
        """Make the part.

        Args:
            services: The objects that the parts of the engine share.
            home_disk: The bound on the disk space of the home, if it has one.
        """
        self._services = services
        self._home_disk = home_disk
        self._home = HomeHealth(services.store, services.settings, served=True)
        self._looking: asyncio.Task[None] | None = None
        self._began = 0.0
        self._seen: Health | None = None
        self._seen_at = 0.0

    async def report(self, principal: str | None = None) -> Health:
        """Return what is not as it should be now; with a principal, of jobs only of its own."""
        look = partial(HomeHealth(self._services.store, self._services.settings, served=True).look, principal)
        found = await self._services.read_output(f"{_TURN} of {principal}", look)
        return self._with_own(found, details=principal is None)

    async def glance(self) -> Health:
        """Return what was found a short time ago, for callers who ask often; a look that takes long goes on
        without its caller.
        """
        now = self._services.loop.time()
        if self._looking is None and (self._seen is None or now - self._seen_at > _FRESH_S):
            self._began = now
            self._looking = self._services.spawn(self._look(), "health")
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=SLOW_S if self._seen is None else _PATIENCE_S)
        found = self._seen or Health()
        took_s = self._services.loop.time() - self._began
        if self._looking is not None and took_s >= SLOW_S:
            found = Health((*found.problems, slow(took_s)))
        return self._with_own(found)

    async def _look(self) -> None:
        try:
            self._seen = await self._services.read_output(_TURN, self._home.look)
            self._seen_at = self._services.loop.time()
        finally:
            self._looking = None

    def _with_own(self, home: Health, *, details: bool = True) -> Health:
        return Health((*home.problems, *self._own(home, details=details)))

    def _own(self, home: Health, *, details: bool) -> Iterator[Problem]:
        pool, pending = self._services.pool, self._services.refresher.pending_writes
        if (reason := pool.trouble) is not None:
            pool.try_again()
            advice = "See that the machine has processes and memory left."
            at_home = any(problem.check in _OF_DISK for problem in home.problems)
            failing = pool.is_empty and not at_home  # on a full disk, another server would fare no better
            detail = reason if details else ""
            yield Problem("workers", "no worker process can be started", advice, detail, failing=failing)
        if pending:
            text = "the ends of jobs could not be written, and are tried again each second"
            detail = f"{len(pending)}: {', '.join(pending[:_NAMED])}" if details else ""
            yield Problem("writes", text, "Make the home writable, or free space on its disk.", detail)
        if self._home_disk is not None and self._home_disk.is_full:
            text = "the jobs take as much disk space as the home may have, so calls are refused"
            yield Problem("disk", text, "Remove some: python-mcp-server jobs prune.")


_OF_DISK: Final = frozenset({"home", "space"})
_NAMED: Final = 5
