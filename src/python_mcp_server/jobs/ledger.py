"""What the clients with a quota have spent lately: a small file for each in the home, which all its servers
share, so that the removal of a record gives nothing back.

Spends of about one time are one cell, which leaves the window with the last of them: the file has some
hundred cells, however many jobs there are. A spend has a key, under which it counts once: the id of the job,
or of the run. So what a killed process has counted, and another one does again, counts once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.jobs.home_files import HomeFiles

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_DIRECTORY: Final = "quotas"
_SUFFIX: Final = ".json"
_NAME_CHARS: Final = 40
_LOCK: Final = "quota-{}"
"""The lock of one directory of ledgers."""

_CELLS: Final = 100
"""How many parts a window has."""

_KEYS: Final = 128
"""How many of the last keys are known. Guessed: far more than a killed process leaves to be counted again."""

_STEP_S: Final = 60.0
"""Spends that lie further in the future do not count: the clock was set back. Guessed."""


@dataclass(slots=True)
class Cell:
    """The spends of about one time.

    Attributes:
        first: When the first was, in seconds of the clock.
        last: When the last was.
        jobs: How many jobs were made.
        cpu_s: The CPU time of the runs that ended.
    """

    first: float
    last: float
    jobs: int = 0
    cpu_s: float = 0.0


@dataclass(slots=True)
class Ledger:
    """The recent spends of one client.

    Attributes:
        client: The client.
        cells: Its spends, the oldest first.
        keys: Mapping of each of the last keys to the time of its spend and its CPU time.
    """

    client: str
    cells: list[Cell] = field(default_factory=list[Cell])
    keys: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def within(self, per_s: float) -> list[Cell]:
        """Return the cells of the window that ends now."""
        now = time.time()
        return [cell for cell in self.cells if now - per_s < cell.last <= now + _STEP_S]

    def add_job(self, job_id: str, per_s: float) -> None:
        """Count a job, if it is not counted yet."""
        if job_id not in self.keys:
            self._cell(per_s).jobs += 1
            self._note(job_id, 0.0)

    def add_cpu(self, run: str, cpu_s: float, per_s: float) -> None:
        """Count the CPU time of a run, less what of it is counted already."""
        known_s = self.counted_s(run)
        if cpu_s > known_s:
            self._cell(per_s).cpu_s += cpu_s - known_s
            self._note(run, cpu_s)

    def counted_s(self, run: str) -> float:
        """Return how much of the CPU time of a run is counted already."""
        return self.keys.get(run, (0.0, 0.0))[1]

    def remove_job(self, job_id: str) -> None:
        """Take back a job that was counted and was not made after all."""
        at, _ = self.keys.pop(job_id, (time.time(), 0.0))
        for cell in reversed(self.cells):
            if cell.jobs and cell.first <= at:
                cell.jobs -= 1
                return

    def _cell(self, per_s: float) -> Cell:
        """Return the cell of this instant; those that have left the window go."""
        now = time.time()
        self.cells = self.within(per_s)
        newest = self.cells[-1] if self.cells else None
        if newest is None or not newest.first <= now < newest.first + per_s / _CELLS:
            newest = Cell(now, now)
            self.cells.append(newest)
        newest.last = now
        return newest

    def _note(self, key: str, cpu_s: float) -> None:
        self.keys.pop(key, None)  # to the end
        self.keys[key] = time.time(), cpu_s
        for old in list(self.keys)[:-_KEYS]:
            del self.keys[old]

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as its file has it."""
        cells = [[cell.first, cell.last, cell.jobs, round(cell.cpu_s, 3)] for cell in self.cells]
        return {"client": self.client, "cells": cells, "keys": self.keys}

    @classmethod
    def from_json(cls, data: Any) -> Ledger:
        """Read what `to_json` returned.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: It is something else.
        """
        cells = [
            Cell(float(first), float(last), int(jobs), float(cpu_s))
            for first, last, jobs, cpu_s in data["cells"]
        ]
        keys = {str(key): (float(at), float(cpu_s)) for key, (at, cpu_s) in data["keys"].items()}
        return cls(str(data["client"]), cells, keys)


def fits_at(amounts: Iterable[tuple[float, float]], most: float, per_s: float) -> float | None:
    """Return when enough of these spends has left the window, in seconds of the clock; None for never.

    Args:
        amounts: The time and the amount of each, the oldest first.
        most: How much less than what is left must be.
        per_s: The window.
    """
    known = list(amounts)
    left = sum(amount for _, amount in known)
    for at, amount in known:
        left -= amount
        if left < most:
            return at + per_s
    return None


class Ledgers:
    """The ledgers of one home. All methods block, and raise `StoreError` where a file cannot be read or
    written.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._files = HomeFiles(store, _DIRECTORY)

    def read(self, client: str) -> Ledger:
        """Return what a client has spent."""
        found = self._read(*_place(client))
        return Ledger(client) if found is None or found.client != client else found

    @contextmanager
    def changing(self, client: str) -> Generator[Ledger]:
        """Hold the lock of a ledger over the block, and write what has become of it, unless the block
        raises.
        """
        shard, name = _place(client)
        with self._store.exclusive(_LOCK.format(shard)):
            ledger = self.read(client)
            yield ledger
            data = json.dumps(ledger.to_json(), separators=(",", ":")).encode()
            self._files.write(shard, name, data=data)

    def clients(self) -> list[str]:
        """Return the clients that have a ledger."""
        found = [
            self._read(shard, name) for shard in self._files.names() for name in self._files.names(shard)
        ]
        return sorted({ledger.client for ledger in found if ledger is not None})

    def sweep(self, window_s: Callable[[str], float]) -> None:
        """Remove the ledgers without a spend in the window of their client, and what killed writers left."""
        for shard in self._files.names():
            with self._store.exclusive(_LOCK.format(shard)):
                for name in self._files.names(shard):
                    ledger = self._read(shard, name)
                    if ledger is None or not ledger.within(window_s(ledger.client)):
                        self._files.remove(shard, name)

    def _read(self, shard: str, name: str) -> Ledger | None:
        data = self._files.read(shard, name) if name.endswith(_SUFFIX) else None
        try:
            return None if data is None else Ledger.from_json(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.warning(
                "%s/%s is damaged, so the spends of a client are not known: %r", _DIRECTORY, name, error
            )
            return None


def _place(client: str) -> tuple[str, str]:
    """Return the directory and the name of the file of a client."""
    import hashlib  # costs 7 ms, and most homes have no quota

    digest = hashlib.sha256(client.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_CHARS]
    return digest[0], digest + _SUFFIX
