"""The jobs of a manager for plain code in any thread: every method blocks.

They act through the store, as any other process does. Where the job runs in this process, its run adds the
facts that the record does not have yet, and settles the job if its loop cannot notice the end.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.asked import check_job, check_number, check_text, check_whole
from python_mcp_server.jobs.cancel import cancel_record
from python_mcp_server.jobs.capacity import SlotLimits
from python_mcp_server.jobs.expired import Tombstones, not_found
from python_mcp_server.jobs.graph_jobs import cancel_graph
from python_mcp_server.jobs.item_pages import ItemPage, WantedItems, pause_s, read_items
from python_mcp_server.jobs.limit_watch import EndReason
from python_mcp_server.jobs.output import (
    RESULT,
    LinePage,
    OutputPage,
    Wanted,
    check_page,
    page_of,
    read_lines,
    read_page,
)
from python_mcp_server.jobs.questions import answer_record
from python_mcp_server.jobs.recovery import recovered
from python_mcp_server.jobs.request import state_named
from python_mcp_server.jobs.state import RunState
from python_mcp_server.jobs.waiting import WaitingReasons
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.store.contract import IN_PAGES
from python_mcp_server.store.keys import ATTACHED, RUNNING
from python_mcp_server.store.layout import older_than

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from python_mcp_server.jobs.dead_letters import DeadLetters
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.queues import Queues
    from python_mcp_server.jobs.quotas import Quotas
    from python_mcp_server.jobs.run import JobRun
    from python_mcp_server.questions.model import InputAnswer
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore, Pruned

_MOST_LIVE: Final = 10_000
_LOOP_POLL_S: Final = 0.2
"""Between two checks whether the loop of a cancel under way still runs."""


class BlockingJobs:
    """The jobs of one manager. Methods have the parameters and errors of their namesakes in `JobManager`."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        runs: dict[str, JobRun],
        engines: MutableMapping[asyncio.AbstractEventLoop, Engine],
    ) -> None:
        self._store = store
        self._grace_s = settings.cancel_grace_seconds
        limits = SlotLimits.of(settings)
        self._reasons = WaitingReasons(store, limits)
        self._runs = runs
        self._engines = engines

    @cached_property
    def queues(self) -> Queues:
        """The queues of the home."""
        from python_mcp_server.jobs.queues import Queues

        return Queues(self._store)

    @cached_property
    def quotas(self) -> Quotas:
        """The quotas of the clients of the home."""
        from python_mcp_server.jobs.quotas import Quotas

        return Quotas(self._store)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The jobs that failed for good and can be run again."""
        from python_mcp_server.jobs.dead_letters import DeadLetters

        return DeadLetters(self._store)

    def run_of(self, job_id: str) -> JobRun | None:
        """Return the run of a job that runs in this process; a loop that was closed without its manager is
        abandoned.
        """
        check_job(job_id)
        run = self._runs.get(job_id)
        if run is None or not run.loop.is_closed():
            return run
        if (engine := self._engines.pop(run.loop, None)) is not None:
            engine.abandon()
        self._runs.pop(job_id, None)
        return None

    def live_snapshot(self, job_id: str) -> Job | None:
        """Return a job with the facts that this process knows beyond its record, or None."""
        run = self.run_of(job_id)
        return run.snapshot() if run is not None and run.live else None

    def get(self, job_id: str, *, whole: bool = True) -> Job:
        """Return the present state of a job."""
        if (run := self.run_of(job_id)) is not None and run.live and not self._is_held_up(run):
            return run.snapshot()
        if (job := self._store.get(job_id) if whole else self._store.peek(job_id)) is None:
            raise not_found(self._store, job_id)
        return self._fresh(job)

    def _fresh(self, job: Job) -> Job:
        """Return the present state of the job of a record."""
        if job.status.terminal:
            return job
        if (run := self.run_of(job.id)) is None:
            return self._recovered(job)
        if self._is_held_up(run):
            job = run.settle_if_ended() or job
        elif run.live:
            return run.snapshot()
        job = self._recovered(job)
        if job.status.terminal and run.state < RunState.ENDING:
            self._runs.pop(job.id, None)  # its loop is blocked and sees the end later
        return run.snapshot() if run.live and not job.status.terminal else job

    def _is_held_up(self, run: JobRun) -> bool:
        """Whether this thread is the thread of the run's loop, which receives nothing from the worker
        meanwhile.
        """
        if run.loop.is_running():
            return run.loop is _running_loop()
        engine = self._engines.get(run.loop)
        return engine is not None and engine.services.thread_id == threading.get_ident()

    def _recovered(self, job: Job) -> Job:
        engines = list(self._engines.values())
        pending = any(engine.services.refresher.has_pending_write(job.id) for engine in engines)
        job = job if pending else recovered(self._store, job)
        return job.evolve(message=reason) if (reason := self._reasons.of(job)) is not None else job

    def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more."""
        check_whole(limit=limit)
        check_text(before=before)
        if limit < 1:
            raise InvalidInput(f"limit is {limit}; it must be 1 or more")
        status = state_named(status)
        if status is not None and status.terminal:
            for job in (job for name in (RUNNING, ATTACHED) for job in self._store.indexed(name, _MOST_LIVE)):
                if job.belongs_to(principal):
                    self._fresh(job)  # jobs that have ended unnoticed are settled first
        jobs, more = list[Job](), True
        while more and len(jobs) < limit:
            page, more = _page(self._store, status, limit - len(jobs), principal, before)
            jobs += [job for job in map(self._fresh, page) if status in (None, job.status)]
            before = page[-1].id if more else None
        return jobs, more

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; return when its last process is gone. The thread of the job's own loop may call this
        too.
        """
        run = self.run_of(job_id)
        if run is not None and run.loop is not _running_loop() and _cancelled_there(run):
            return self.get(job_id)
        job = self.cancel_by_record(job_id, run)
        cancel_graph(self._store, job, self.cancel)
        return job

    def cancel_by_record(self, job_id: str, run: JobRun | None) -> Job:
        """Cancel a job whose loop cannot: the loop belongs to this thread, is blocked, or does not exist."""
        own = run is not None and run.loop is _running_loop()
        job = cancel_record(self._store, job_id, self._grace_s, run.has_body_ended if run and own else bool)
        if run is not None and job.status is JobState.CANCELLED:
            self._runs.pop(job_id, None)  # its loop is blocked and sees the end later
            if not run.loop.is_closed():
                run.loop.call_soon_threadsafe(run.request_end, EndReason())
        return job

    def answer(self, job_id: str, answers: Mapping[str, InputAnswer], *, lenient: bool = False) -> Job:
        """Answer questions of a job, all of them or none."""
        if (job := self._store.get(job_id)) is None:
            raise not_found(self._store, job_id)
        job = answer_record(self._store, self._recovered(job), answers, lenient=lenient)
        if (run := self.run_of(job_id)) is not None:  # elsewhere its owner reads the answers in the record
            run.loop.call_soon_threadsafe(run.questions.apply, job)
        return job

    def prune(
        self,
        *,
        keep_completed: bool = True,
        keep_failed: bool = True,
        max_age_hours: float = 24.0,
        principal: str | None = None,
    ) -> Pruned:
        """Remove finished jobs older than the age: cancelled jobs, and those that are not kept."""
        check_number(max_age_hours=max_age_hours)
        if not 0 <= max_age_hours < float("inf"):
            raise InvalidInput(f"max_age_hours is {max_age_hours!r}; it must be a number of hours, 0 or more")
        age = timedelta(hours=min(max_age_hours, 24 * 365 * 100))
        kept = {JobState.COMPLETED: keep_completed, JobState.FAILED: keep_failed}
        going = [state for state in JobState if state.terminal and not kept.get(state, False)]
        tombstones = Tombstones(self._store)

        def goes(job: Job) -> bool:
            tombstones.add(job)
            return True

        return self._store.prune(goes, principal, going, utc_now() - age)

    def output(self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int = 65536) -> OutputPage:
        """Return a page of a job's output, from a byte offset."""
        check_page(stream, limit)
        check_whole(offset=offset)
        job = self.get(job_id, whole=False)
        with translate_os_errors(str(self._store.home), f"read the {stream} of job {job_id}"):
            if stream == RESULT:
                return self._result(job, offset, limit)
            return read_page(self._store.folder(job_id) / stream, offset, limit, ended=job.status.terminal)

    def _result(self, job: Job, offset: int, limit: int) -> OutputPage:
        """Return a page of the JSON of a result, which has a file only where it is large. A body may have
        written a file of that name itself.
        """
        path = self._store.folder(job.id) / f"{RESULT}.json"
        is_large = job.result is None and (job.result_note or "").endswith(IN_PAGES)
        if is_large and os.path.lexists(path):
            return read_page(path, offset, limit, ended=job.status.terminal)
        if is_large:  # in a store without such a file
            job = self.get(job.id)
        data = b"" if job.result is None else json.dumps(job.result, separators=(",", ":")).encode()
        return page_of(BytesIO(data), offset, limit, ended=job.status.terminal)

    def lines(self, job_id: str, wanted: Wanted) -> LinePage:
        """Return whole lines of a job's output, as a screen shows them."""
        wanted.check()
        if wanted.stream == RESULT:
            page = self.output(job_id, RESULT, wanted.offset, wanted.limit)
            return LinePage(page.text, page.next_offset, page.total_bytes, page.eof)
        ended = self.get(job_id, whole=False).status.terminal
        with translate_os_errors(str(self._store.home), f"read the {wanted.stream} of job {job_id}"):
            return read_lines(self._store.folder(job_id) / wanted.stream, wanted, ended=ended)

    def items(
        self,
        job_id: str,
        offset: int = 0,
        limit: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        pattern: str | None = None,
        wait_s: float = 0.0,
    ) -> ItemPage:
        """Return a page of the items that a job has emitted."""
        wanted = WantedItems(offset, limit, where or {}, pattern)
        deadline = time.monotonic() + wait_s
        while (pause := pause_s(page := self.items_so_far(job_id, wanted), deadline)) is not None:
            time.sleep(pause)
            wanted = replace(wanted, offset=page.next_offset)
        return page

    def items_so_far(self, job_id: str, wanted: WantedItems) -> ItemPage:
        """Return the page of items that is there now."""
        wanted.check()
        ended = self.get(job_id, whole=False).status.terminal
        with translate_os_errors(str(self._store.home), f"read the items of job {job_id}"):
            return read_items(self._store.folder(job_id), wanted, job_id, ended=ended)


def _page(
    store: JobStore, status: JobState | None, limit: int, principal: str | None, before: str | None
) -> tuple[list[Job], bool]:
    """Return a page of a store's jobs. An author's own store may not know `principal` and `before`; then the
    page is taken from all of its jobs.
    """
    given = {"principal": principal, "before": before}
    named = {name: value for name, value in given.items() if value is not None}
    if not named or _knows(store.list, named):
        return store.list(status, limit, **named)
    is_older = None if before is None else older_than(before)
    everything, _ = store.list(status, sys.maxsize)
    fitting = [job for job in everything if job.belongs_to(principal) and (not is_older or is_older(job.id))]
    return fitting[:limit], len(fitting) > limit


def _knows(function: Callable[..., Any], names: Iterable[str]) -> bool:
    parameters = inspect.signature(function).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return takes_all or all(name in parameters for name in names)


def _cancelled_there(run: JobRun) -> bool:
    """Cancel on the run's own loop, from another thread; False where that loop no longer runs."""
    if not run.loop.is_running():
        return False
    ending = asyncio.run_coroutine_threadsafe(run.cancel(), run.loop)
    while True:
        try:
            ending.result(_LOOP_POLL_S)
        except (TimeoutError, CancelledError):  # CancelledError where that loop ends at this moment
            if ending.cancelled() or not run.loop.is_running():
                return False
        else:
            return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
