"""A worker whose parent is gone while it has a detached job: the worker keeps the record fresh until the body
ends, writes the end, and exits.

All of this runs in the control thread, which has nothing else to watch by then, so a lock or a disk never
blocks the body. The class that writes the record is given by name, because the pool does not know the store.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

import psutil

from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound
from python_mcp_server.limits import DISK, MEMORY, Breach
from python_mcp_server.model import JobProgress, Outcome, Usage
from python_mcp_server.pool.monitor import LimitMonitor
from python_mcp_server.pool.worker.progress import bounded, finite
from python_mcp_server.pool.worker.questions import OrphanQuestions, QuestionRecord
from python_mcp_server.runner.enforce import LimitChecker

if TYPE_CHECKING:
    from python_mcp_server.questions.open import OpenQuestions

_log: Final = logging.getLogger(__name__)
_SAMPLE_S: Final = 0.5
"""Between two samples of memory and CPU, as often as in a server."""

_REFRESH_EVERY: Final = 2
"""Looks to a refresh of the record: once a second, as a server does."""

_BREACH_S: Final = 0.02
"""Between two checks of the limits; guessed, as short as the checker's own pauses."""

_RETRY_S: Final = 1.0
GONE_S: Final = 5.0
"""How long the place of a record may be missing until it counts as removed; guessed: mounting a file system
again takes a second.
"""

PATIENCE_S: Final = 3600.0
"""How long the write of an end is retried; guessed: a full disk has been cleaned up by then, and a process
that waits for longer is in the way.
"""

_CANCEL_AGAIN_S: Final = 0.02
_TRACKER: Final = re.compile(r"from ((?:multiprocessing|loky\.backend)\.resource_tracker) import main")
_TRACKERS_S: Final = 1.0
"""The time for resource trackers to clean up; guessed: they need some ms, and do not end while another
process holds their pipe.
"""


@dataclass(frozen=True, slots=True)
class DetachedJob:
    """The content of `detach`: the job, and the name and the arguments of the class that opens its record."""

    job_id: str
    record_class: str
    record_locator: Any


class Record(QuestionRecord, Protocol):
    """The record of a detached job. Any exception of its methods counts as a problem that may pass, except
    `JobNotFound`: the record was removed.

    Attributes:
        grace_s: How long a cancelled body may clean up.
    """

    grace_s: float

    def refresh(self, progress: JobProgress | None, usage: Usage | None) -> bool:
        """Write the progress of the job, and return whether its end was requested."""
        ...

    def request_end(self, breach: Breach) -> None:
        """Write that the job is about to be ended at a limit."""
        ...

    def commit(self, outcome: Outcome, progress: JobProgress | None, usage: Usage | None) -> None:
        """Write the end; a reason to end the job is left to the readers that find its processes gone."""
        ...

    def gone(self) -> bool:
        """Whether the place of the record was removed; False for a disk that is full or fails."""
        ...

    def close(self) -> None:
        """Finish background work, such as the list for people."""
        ...


def _asks_nothing() -> None:
    """The questions of a body that never asks."""


@dataclass(frozen=True, slots=True)
class Body:
    """The interface to the body, which runs in another thread.

    Attributes:
        cpu_base_s: The worker's CPU time before the body.
        progress: Returns its last report.
        await_end: Waits for this many seconds and returns its outcome, or None while it runs.
        cancel: Asks the body to end, and returns whether to ask again.
        adopt_logs: Gives the job the body's output; may be called repeatedly.
        checker: Checks its limits; None where it has none.
        questions: Returns its questions; None where it has asked none.
        terminated: Set once this process has got SIGTERM.
        runs_programs: Whether its memory is that of the programs it has started.
    """

    cpu_base_s: float
    progress: Callable[[], JobProgress | None]
    await_end: Callable[[float], Outcome | None]
    cancel: Callable[[str], bool]
    adopt_logs: Callable[[], None]
    checker: LimitChecker | None = None
    questions: Callable[[], OpenQuestions | None] = _asks_nothing
    terminated: threading.Event = field(default_factory=threading.Event)
    runs_programs: bool = False


class Orphan:
    """Takes one detached job to its end."""

    def __init__(self, detached: DetachedJob, body: Body) -> None:
        from python_mcp_server.pool.monitor import Watch

        self._detached = detached
        self._body = body
        self._questions = OrphanQuestions(body.questions)
        self._watch = Watch(os.getpid(), detached.job_id, body.cpu_base_s, body.runs_programs)
        self._record: Record | None = None
        self._breach: Breach | None = None
        self._troubles: set[str] = set()

    def run_to_completion(self) -> None:
        """Return when the end is written, or when this process has nothing left to write."""
        if self._body.checker is not None:  # in a thread of its own: a write of the record may take long
            LimitMonitor(holds=False).watch(self._body.checker, self._on_breach)
        self._adopt_logs()
        outcome = self._loop()
        if outcome is not None:
            self._commit(outcome)
        if self._record is not None:
            self._record.close()

    def _on_breach(self, breach: Breach) -> None:
        self._breach = breach

    def _loop(self) -> Outcome | None:
        """Wait for the end of the body; None where it was asked to end and did not."""
        outcome = self._body.await_end(0)
        looks = count()
        while outcome is None:
            if self._look(refresh=next(looks) % _REFRESH_EVERY == 0):
                return self._cancel()
            outcome = self._wait_for_look()
            if outcome is None and self._breach is not None:
                return self._end_at_limit(self._breach)
        return outcome

    def _wait_for_look(self) -> Outcome | None:
        """Wait until the next look at the record, the end, or the breach of a limit."""
        if self._body.checker is None:
            return self._body.await_end(_SAMPLE_S)
        over_at, outcome = time.monotonic() + _SAMPLE_S, None
        while outcome is None and self._breach is None and time.monotonic() < over_at:
            outcome = self._body.await_end(_BREACH_S)
        return outcome

    def _end_at_limit(self, breach: Breach) -> Outcome | None:
        """End the body at its limit; the reason is written first, for a reader that finds us gone."""
        try:
            self._open().request_end(breach)
        except Exception as error:  # noqa: BLE001  a full disk or a lost record must not lift the limit
            self._log_once("state", f"cannot be written now: {error!r}")
        return None if breach.kind in (DISK, MEMORY) else self._cancel()

    def _look(self, *, refresh: bool) -> bool:
        """Sample, write, and return whether the job's end was requested."""
        try:
            self._sample()
            self._questions.run(self._open)
            if not refresh:
                return False
            ends = self._open().refresh(self._progress(), self._watch.usage)
        except JobNotFound as error:
            self._questions.withdraw(str(error))
            return False  # the body goes on: its work may matter without a record
        except Exception as error:  # noqa: BLE001  no trouble with the record is worth the job
            self._log_once("state", f"cannot be written now: {error!r}")
            return False
        self._troubles.clear()
        return ends

    def _sample(self) -> None:
        from python_mcp_server.pool.monitor import sample

        sample(self._watch)

    def _progress(self) -> JobProgress | None:
        last = self._body.progress()
        return None if last is None else finite(bounded(last))

    def _open(self) -> Record:
        if self._record is None:
            module, _, name = self._detached.record_class.partition(":")
            record_class: Callable[[str, Any], Record] = getattr(importlib.import_module(module), name)
            self._record = record_class(self._detached.job_id, self._detached.record_locator)
        return self._record

    def _cancel(self) -> Outcome | None:
        deadline = time.monotonic() + self._open().grace_s
        asking, outcome = True, None
        while outcome is None and time.monotonic() < deadline:
            asking = asking and self._body.cancel(self._detached.job_id)
            outcome = self._body.await_end(_CANCEL_AGAIN_S)
        return outcome

    # ---- the end

    def _commit(self, outcome: Outcome) -> None:
        if outcome.cancelled:  # ended from outside: dead before it is written
            kill_leftovers(self._detached.job_id, body_runs=False)
        told, deadline = self._body.terminated, time.monotonic() + PATIENCE_S
        gone_at: float | None = None
        while True:
            last = told.is_set()
            if self._committed(outcome):
                return
            now = time.monotonic()
            gone_at = (gone_at or now) if self._open().gone() else None
            if last or now > deadline or (gone_at is not None and now > gone_at + GONE_S):
                self._log_trouble("end", "is lost: its record could not be written")
                return
            told.wait(_RETRY_S)

    def _committed(self, outcome: Outcome) -> bool:
        try:
            self._adopt_logs()
            self._sample()
            self._open().commit(outcome, self._progress(), self._watch.usage)
        except JobNotFound as error:
            self._log_trouble("end", f"is not kept: {error}")
        except Exception as error:  # noqa: BLE001  the disk, the lock, descriptors, memory: it may pass
            self._log_once("end", f"will be written later: {error!r}")
            return False
        return True

    def _adopt_logs(self) -> None:
        try:
            self._body.adopt_logs()
        except OSError as error:  # the outcome matters more
            self._log_once("output", f"is not whole: {error!r}")

    def _log_once(self, what: str, trouble: str) -> None:
        """Write a problem into the job's own stderr, once until the problem is over."""
        if what not in self._troubles:
            self._troubles.add(what)
            self._log_trouble(what, trouble)

    def _log_trouble(self, what: str, trouble: str) -> None:
        with suppress(Exception):  # a body may have replaced sys.stderr by anything
            _log.warning("the %s of job %s %s", what, self._detached.job_id, trouble)


def kill_leftovers(job_id: str | None, *, body_runs: bool) -> None:
    """End the processes of this worker that still run. Resource trackers end last and by themselves: they
    remove the semaphores and the shared memory that the others have left.

    Args:
        job_id: Processes that carry this id in their environment are ended too.
        body_runs: Whether the body may start more processes: then there is no time to wait for trackers.
    """
    pid = os.getpid()
    left = [] if body_runs else processes.find_tree(pid, job_id)
    trackers = {process.pid: module for process in left if (module := _tracker_module(process.pid))}
    for process in left:
        if process.pid not in trackers:
            with suppress(OSError):
                processes.send_signal(process, processes.KILL)
    if trackers:
        for module in {*trackers.values()}:
            os.close(module.getfd())
        _await_gone(set(trackers))
    if body_runs or left:
        processes.kill_tree(pid, job_id=job_id, with_root=False)


def _tracker_module(pid: int) -> Any:
    """Return the module whose resource tracker, of this worker, a process is; None for any other."""
    try:
        process = psutil.Process(pid)
        found = process.ppid() == os.getpid() and _TRACKER.search(" ".join(process.cmdline()))
    except psutil.Error:
        return None  # the process has ended
    return sys.modules.get(found[1]) if found else None


def _await_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + _TRACKERS_S
    while any(processes.identify(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.005)
