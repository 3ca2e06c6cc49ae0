"""`meta/jobs.json`, the list for people and other programs, kept up to date beside the work.

Used by the file store only. A thread of its own writes it, at most once a second over all processes
of a home, so that no reply waits for it. It says nothing that the records do not say.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job
from python_mcp_server.store.encoding import to_json
from python_mcp_server.store.layout import LIVE, TERMINAL, Layout
from python_mcp_server.store.maintenance import mark
from python_mcp_server.store.records import Records

_log: Final = logging.getLogger(__name__)
_PERIOD_S: Final = 1.0
_PATIENCE: Final = 20
"""It takes at most one part in so many of a core, however many jobs are live."""
_JOIN_S: Final = 5.0
_RECENT_JOBS: Final = 100
_LIVE_JOBS: Final = 1000
"""The newest of those that have not ended: a queue may hold a hundred times as many."""
_LARGE_BYTES: Final = 4096
"""A job that takes more in the list is shown without its result."""


class PublicList:
    """Rewrites the list after changes."""

    def __init__(self, layout: Layout, records: Records) -> None:
        self._layout = layout
        self._records = records
        self._start_over()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._changed_at = 0.0
        self._period_s = _PERIOD_S
        self._guard = threading.Lock()
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def touch(self) -> None:
        """Note that a record changed. This is cheap; the list is rewritten within about a second."""
        if self._pid != os.getpid():  # a thread does not survive a fork, and a lock may be taken for ever
            self._start_over()
        self._changed_at = time.time()
        self._changed.set()
        if self._thread is None:
            self._ensure_thread()

    def close(self) -> None:
        """Write pending changes, and end the thread. A later `touch` starts it again."""
        if self._pid != os.getpid():
            return
        with self._guard:
            thread, self._thread = self._thread, None
            self._closing.set()
            self._changed.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_S)
        if self._changed_at:
            self._write()

    def _ensure_thread(self) -> None:
        with self._guard:
            if self._thread is not None:
                return
            self._closing = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._closing,), name="jobs-list", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the record is written, so its job must not be refused for this
                _log.warning("The list %s is written later: %s", self._layout.public, error)
            else:
                self._thread = thread

    def _run(self, closing: threading.Event) -> None:
        while not closing.is_set():
            self._changed.wait()
            self._changed.clear()
            while not closing.is_set() and (delay_s := self._due_in()) is not None:
                if not closing.wait(delay_s) and self._due_in() == 0:
                    self._write()

    def _due_in(self) -> float | None:
        """Return in how many seconds to write, or None where the file has every change by now."""
        if not self._changed_at:
            return None
        written_at = self._written_at()
        age_s = time.time() - written_at
        if age_s < 0:  # the clock was set back
            return 0.0
        if written_at >= self._changed_at + _PERIOD_S:
            self._changed_at = 0.0  # another process began to write it after our change
            return None
        return max(0.0, self._period_s - age_s)

    def _written_at(self) -> float:
        try:
            return os.stat(self._layout.public).st_mtime
        except OSError:
            return 0.0

    def _write(self) -> None:
        seen, started = self._changed_at, time.thread_time()
        try:
            _publish(self._layout, self._records)
        except (OSError, StoreError) as error:
            _log.warning("The list %s is not up to date: %s", self._layout.public, error)
        self._period_s = max(_PERIOD_S, _PATIENCE * (time.thread_time() - started))
        if self._changed_at == seen:
            self._changed_at = 0.0


def _publish(layout: Layout, records: Records) -> None:
    """Write the list for people: the live jobs and the most recent ones, a line each."""
    if not os.path.isdir(layout.jobs):
        return  # the home is gone, perhaps with its disk: a list is no reason to make it anew
    if not os.path.exists(layout.format):  # the home was removed and made anew: the list is our own
        mark(layout, records)
    live = islice(records.newest_first(LIVE), _LIVE_JOBS)
    recent = [*live, *islice(records.newest_first(*TERMINAL), _RECENT_JOBS)]
    jobs = {stored.job.id: stored.listed for stored in recent}
    lines = b",\n".join(_lines(jobs[job_id] for job_id in sorted(jobs, reverse=True)))
    records.put(layout.public, b"[\n" + lines + b"\n]\n")


def _lines(jobs: Iterable[Job]) -> Iterator[bytes]:
    for job in jobs:
        line = to_json(job.to_json(), job.id)
        if len(line) > _LARGE_BYTES and job.result is not None:
            note = "the result is left out here; ask for the job itself"
            line = to_json(job.evolve(result=None, result_note=note).to_json(), job.id)
        yield line
