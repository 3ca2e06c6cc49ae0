"""How often jobs may start: the recent starts of each kind and each client, in a file of the home.

A start is counted under the lock of the slots (`jobs.slots`), where the slot is taken, and before the record
says that the job runs: so several servers never exceed a rate, whatever dies.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import read_file, translate_os_errors, write_file
from python_mcp_server.options import Rate, read_rates

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_FILE: Final = "rates.json"
_STEP_S: Final = 60.0
"""Starts that lie further in the future do not count: the clock was set back. Guessed."""


class Rates:
    """The recent starts of a home's kinds and clients. All methods block; the file is read when it is needed.

    `count` is for the holder of the lock of the slots; the others may look at any time.
    """

    def __init__(self, store: JobStore, client_rate: tuple[str, ...]) -> None:
        """Read nothing yet.

        Args:
            store: The store whose home has the file.
            client_rate: The rates of each client.
        """
        self._store = store
        self._path = os.path.join(store.home, _FILE)
        self._of_clients = read_rates(client_rate, "client_rate")
        self._starts: dict[str, tuple[float, list[float]]] | None = None

    def wait(self, job: Job) -> tuple[float, str] | None:
        """Return in how many seconds the rates let this job start, and what it waits for; None where it may
        start now.

        Raises:
            StoreError: The file cannot be read.
        """
        now = time.time()
        waits = [
            (left_s, f"waiting for its {whose}rate: {rate}, the next starts in {max(1, round(left_s))} s")
            for name, whose, rates in self._bounds(job)
            for rate in rates
            if (left_s := self._left_s(name, rate, now)) > 0
        ]
        return max(waits, default=None)

    def add(self, job: Job) -> None:
        """Count a start that is not written down yet."""
        now = time.time()
        for name, _, rates in self._bounds(job):
            period_s, times = self._read().get(name, (0.0, []))
            longest_s = max(period_s, *(rate.period_s for rate in rates))
            self._read()[name] = longest_s, [when for when in times if when > now - longest_s] + [now]

    def count(self, job: Job) -> None:
        """Count the start of a job, for all servers.

        Raises:
            StoreError: The file cannot be read or written; the start is not counted.
        """
        if not any(self._bounds(job)):
            return
        self._starts = None
        self.add(job)
        self._write(job)

    def _bounds(self, job: Job) -> Iterator[tuple[str, str, tuple[Rate, ...]]]:
        if job.options is not None and job.options.rate:
            yield f"kind {job.tool}", "", job.options.rates
        if self._of_clients and job.principal is not None:
            yield f"client {job.principal}", "client's ", self._of_clients

    def _left_s(self, name: str, rate: Rate, now: float) -> float:
        _, times = self._read().get(name, (0.0, []))
        recent = [when for when in times if now - rate.period_s < when < now + _STEP_S]
        return recent[-rate.count] + rate.period_s - now if len(recent) >= rate.count else 0.0

    def _read(self) -> dict[str, tuple[float, list[float]]]:
        if self._starts is None:
            with translate_os_errors(str(self._store.home), "read the recent starts of jobs"):
                data = read_file(self._path)
            self._starts = {} if data is None else _parsed(data)
        return self._starts

    def _write(self, job: Job) -> None:
        now = time.time()
        folder = self._store.folder_text(job.id)  # what a killed writer leaves there is removed with the job
        kept = {
            name: {"period_s": period_s, "starts": times}
            for name, (period_s, times) in self._read().items()
            if times and times[-1] > now - period_s
        }
        with translate_os_errors(str(self._store.home), "write the recent starts of jobs"):
            data = json.dumps(kept).encode()
            write_file(self._path, data, temporary_in=folder, fsync=self._store.fsync)


def _parsed(data: bytes) -> dict[str, tuple[float, list[float]]]:
    try:
        found: dict[str, Any] = json.loads(data)
        return {
            name: (float(each["period_s"]), sorted(map(float, each["starts"])))
            for name, each in found.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("%s is damaged, so recent starts are not counted: %r", _FILE, error)
        return {}
