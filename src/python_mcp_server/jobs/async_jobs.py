"""The jobs of a manager on an event loop: what `blocking` does, in threads of the engine.

`JobManager` has these methods as its own. A server loads this module at its start, but `blocking`, with all
that it needs, later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from python_mcp_server.errors import ResultNotReady
from python_mcp_server.job_result import JobResult, result_of
from python_mcp_server.jobs.asked import check_number
from python_mcp_server.jobs.graph_jobs import cancel_jobs, is_graph, jobs_of, unended_of, wait_for_jobs
from python_mcp_server.jobs.request import states_named, status_of
from python_mcp_server.jobs.waits import Wait
from python_mcp_server.model import Job, JobState
from python_mcp_server.pool.steady import to_thread

if TYPE_CHECKING:
    from python_mcp_server.jobs.blocking import BlockingJobs
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.health import Health
    from python_mcp_server.jobs.item_pages import ItemPage
    from python_mcp_server.jobs.output import LinePage, OutputPage, Wanted
    from python_mcp_server.questions.model import InputAnswer
    from python_mcp_server.store.contract import JobStore, Pruned

T = TypeVar("T")
list_of = list
"""The builtin: `AsyncJobs.list` hides its name in the class."""


class AsyncJobs:
    """The jobs of one manager. No method blocks the loop.

    Args:
        store: Where the jobs lie.
        blocking: The same for plain code.
        engine: Returns the engine of the running loop.
    """

    def __init__(
        self, store: JobStore, blocking: BlockingJobs, engine: Callable[[], Awaitable[Engine]]
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._engine = engine

    async def _in_store(self, work: Callable[[JobStore, Job], T], job: Job) -> T:
        return await (await self._engine()).services.in_store(work, self._store, job)

    # ---- by token

    async def get_status(self, token: str) -> dict[str, Any]:
        """Return a job as `{"token", "state", "progress": {"current", "total", "message", "percentage"}}`, a
        failed one also with `error` and `error_kind`.

        `state` is queued, running, completed, failed or cancelled; `percentage` is from 0 to 100, or None
        where the total is not known.

        Raises:
            JobNotFound: There is no such job. The error is a `ValueError` too.
        """
        return status_of(await self.get(token, whole=False))

    async def get_result(self, token: str) -> JobResult:
        """Return the result of a job that has ended, in any process. Of a cancelled one, `success` is False
        and `error` is "cancelled".

        Raises:
            ResultNotReady: The job has not ended. The error is a `ValueError` too.
            JobNotFound: There is no such job.
        """
        job = await self.get(token)
        if not job.status.terminal:
            raise ResultNotReady(token, job.status.word)
        return result_of(job)

    async def cancel_job(self, token: str) -> bool:
        """Cancel a job; return when its last process is gone.

        Returns:
            Whether the job, or one of the graph, is cancelled; False where it has ended before.

        Raises:
            JobNotFound: There is no such job.
        """
        job = await self.cancel(token)
        jobs = [job, *await self._in_store(jobs_of, job)]
        return any(each.status is JobState.CANCELLED for each in jobs)

    async def list_jobs(self, state: str | None = None, limit: int = 50) -> list_of[dict[str, Any]]:
        """Return the status of up to `limit` jobs, newest first, as `get_status` does.

        Args:
            state: Only jobs in this state: queued, running, completed, failed or cancelled.
            limit: How many at most.

        Raises:
            InvalidInput: There is no such state, or the limit is not positive.
        """
        found = [job for each in states_named(state) for job in (await self.list(each, limit))[0]]
        return [status_of(job) for job in sorted(found, key=lambda job: job.id, reverse=True)[:limit]]

    # ---- whole jobs

    async def get(self, job_id: str, *, whole: bool = True) -> Job:
        """Return the present state of a job, with live progress and usage where the job runs here.

        Args:
            job_id: The job.
            whole: Whether a result of more than 500 kB is read; it may be None otherwise.

        Raises:
            JobNotFound: There is no such job.
        """
        read = partial(self._blocking.get, job_id, whole=whole)
        return self._blocking.live_snapshot(job_id) or await (await self._engine()).services.in_store(read)

    async def wait(
        self, job_id: str, timeout_s: float, *, or_question: bool = False, whole: bool = True
    ) -> tuple[Job, bool]:
        """Wait until a job ends, or all jobs of a graph do, or the time is over.

        Args:
            job_id: The job.
            timeout_s: The longest wait.
            or_question: Whether to return also as soon as the job asks a question.
            whole: As `get` takes it.

        Returns:
            The job in its state then, and whether the time ran out first.

        Raises:
            JobNotFound: There is no such job.
        """
        submissions, look = (await self._engine()).submissions, partial(self.get, job_id, whole=whole)
        began = time.monotonic()
        wait = Wait(job_id, submissions, self._blocking.run_of, look, or_question)
        job, timed_out = await wait.until_end(timeout_s)
        if is_graph(job):
            unended = await self._in_store(unended_of, job)
            timed_out = await wait_for_jobs(unended, timeout_s - (time.monotonic() - began), self.wait)
        return job, timed_out

    async def list(
        self,
        status: JobState | None = None,
        limit: int = 50,
        principal: str | None = None,
        before: str | None = None,
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more.

        Args:
            status: Only jobs in this state.
            limit: How many at most.
            principal: Only jobs of this principal; None for all.
            before: Only jobs older than the one with this id, which need not exist any more.

        Raises:
            InvalidInput: The limit is not positive, or `before` is not the id of a job.
        """
        work = partial(self._blocking.list, status, limit, principal, before)
        return await (await self._engine()).services.look_through(principal, work)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; return when its last process is gone and its state is written.

        A job that has ended is returned as it is. Of a graph, whose record has ended, the jobs are cancelled.

        Raises:
            JobNotFound: There is no such job.
        """
        run, engine = self._blocking.run_of(job_id), await self._engine()
        if run is not None and run.loop.is_running():
            if run.loop is engine.loop:
                await run.cancel()
            else:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run.cancel(), run.loop))
            job, run = await self.get(job_id), None
            if job.status.terminal or engine.services.refresher.has_pending_write(job_id):
                return job  # otherwise it waits for its next attempt, or runs elsewhere
        # takes seconds where the body ignores it: not in the threads for hand-offs
        job = await to_thread(engine.loop, None, self._blocking.cancel_by_record, job_id, run)
        if job.status.terminal:
            engine.submissions.let_go(job_id)
        if is_graph(job):
            await cancel_jobs(await self._in_store(unended_of, job), self.cancel)
        return job

    async def answer(self, job_id: str, answers: Mapping[str, InputAnswer], *, lenient: bool = False) -> Job:
        """Answer questions of a job, all of them or none; return the job in its state afterwards.

        Args:
            job_id: The job.
            answers: Mapping of a question's key to its answer.
            lenient: Whether answers to other questions are left out; otherwise they are refused.

        Raises:
            JobNotFound: There is no such job.
            QuestionNotOpen: The job does not ask this question, or no longer asks it.
            InvalidInput: An answer does not fit its question.
        """
        return await (await self._engine()).services.in_store(
            partial(self._blocking.answer, job_id, answers, lenient=lenient)
        )

    async def prune(
        self,
        *,
        keep_completed: bool = True,
        keep_failed: bool = True,
        max_age_hours: float = 24.0,
        principal: str | None = None,
    ) -> Pruned:
        """Remove finished jobs older than the age: cancelled jobs, and those that are not kept.

        Raises:
            InvalidInput: The age is negative or not a number.
        """
        work = partial(
            self._blocking.prune,
            keep_completed=keep_completed,
            keep_failed=keep_failed,
            max_age_hours=max_age_hours,
            principal=principal,
        )
        return await (await self._engine()).services.look_through(principal, work)

    async def output(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int = 65536
    ) -> OutputPage:
        """Return a page of a job's output, from a byte offset, while the job runs or afterwards.

        An offset below 0 counts from the end.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The stream or the limit is not valid.
        """
        work = partial(self._blocking.output, job_id, stream, offset, limit)
        return await (await self._engine()).services.read_output(job_id, work)

    async def lines(self, job_id: str, wanted: Wanted, principal: str | None = None) -> LinePage:
        """Return whole lines of a job's output, as a screen shows them.

        Args:
            job_id: The job.
            wanted: The request.
            principal: The principal that asks; searches of one do not keep those of others waiting.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The request is not valid, or its pattern takes too long.
        """
        work, services = partial(self._blocking.lines, job_id, wanted), (await self._engine()).services
        # takes seconds where much must be read: not in the threads for hand-offs
        if wanted.pattern is not None:  # a pattern that does not end takes longer: pages do not wait for it
            return await services.search(principal, work)
        return await services.read_output(job_id, work)

    async def items(
        self,
        job_id: str,
        offset: int = 0,
        limit: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        pattern: str | None = None,
        wait_s: float = 0.0,
        principal: str | None = None,
    ) -> ItemPage:
        """Return a page of the items that a job has emitted, while the job runs or afterwards.

        A page has at most 64 KiB of JSON; a larger item comes alone. Go on with `next_offset` until `eof`.

        Args:
            job_id: The job.
            offset: The number of the item to start at, from 0; below 0 it counts from the end.
            limit: The most items, up to 10,000.
            where: Mapping of a field to its value, such as `{"status": "failed", "file.size": 0}`: only items
                that have all of these. Values are texts, numbers, true, false and null.
            pattern: A regular expression: only items in whose JSON it is found.
            wait_s: How long to wait for the first item of the page.
            principal: As `lines` takes it.

        Returns:
            `items`, the `total` without a filter, the `next_offset`, and `eof`: whether the job has ended and
            no item comes after the page. An item of more than 500 kB is `{"left_out": ...}`, a sentence that
            says how to read it. With a filter a page may be empty before `eof`.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The request is not valid, or its pattern takes too long.
        """
        from python_mcp_server.jobs.item_pages import WantedItems, pause_s

        check_number(wait_s=wait_s)
        wanted = WantedItems(offset, limit, where or {}, pattern)
        services, deadline = (await self._engine()).services, time.monotonic() + wait_s
        while True:
            work = partial(self._blocking.items_so_far, job_id, wanted)
            if pattern is not None:
                page = await services.search(principal, work)
            else:
                page = await services.read_output(job_id, work)
            if (pause := pause_s(page, deadline)) is None:
                return page
            await asyncio.sleep(pause)
            wanted = replace(wanted, offset=page.next_offset)

    async def stats(
        self, window_seconds: float = 3600.0, by: str = "kind", principal: str | None = None
    ) -> dict[str, Any]:
        """Return what the home's jobs have done in the last seconds; see `jobs.stats.stats`."""
        from python_mcp_server.jobs.stats import stats

        work = partial(stats, self._store, window_seconds, by, principal)
        return await (await self._engine()).services.look_through(principal, work)

    async def health(self, principal: str | None = None, *, glance: bool = False) -> Health:
        """Return what is wrong in this server and its home now, or at a glance lately; see `jobs.health`."""
        health = (await self._engine()).health
        return await (health.glance() if glance else health.report(principal))

    async def aside(self, turn: str, work: Callable[[], T]) -> T:
        """Return the result of a blocking call that reads or makes something large for a caller.

        Args:
            turn: Two calls of the same turn run at once, so that one that hangs never takes all threads.
            work: The call.
        """
        return await (await self._engine()).services.read_output(turn, work)
