"""What can be asked of jobs, whoever runs them: get, wait, list, prune, output.

The base of the manager. Each question has an async form, which never blocks the loop, and a blocking
one for plain code in any thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.jobs.answering import answer_record
from python_mcp_server.jobs.budget import within
from python_mcp_server.jobs.output import LinePage, OutputPage, Wanted, check_page, read_lines, read_page
from python_mcp_server.jobs.recovery import recovered
from python_mcp_server.model import Job, JobState, utc_now

if TYPE_CHECKING:
    from python_mcp_server.jobs.run import JobRun
    from python_mcp_server.questions.model import InputAnswer
    from python_mcp_server.store.contract import JobStore, Pruned

T = TypeVar("T")
_FOREIGN_POLL_S: Final = 0.2
"""Between two looks at a job of another process while somebody waits for it."""


class JobQueries(ABC):
    """Answers questions about jobs: from memory for those that run here, else from the store.

    Attributes:
        store: Where the jobs lie.
    """

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._live: dict[str, JobRun] = {}

    def _attempt_of(self, job_id: str) -> JobRun | None:
        """The attempt that runs here; those of a loop that was closed without us are let go."""
        attempt = self._live.get(job_id)
        if attempt is None or not attempt.loop.is_closed():
            return attempt
        attempt.let_go()
        left = [a for a in list(self._live.values()) if a.loop is attempt.loop]
        for one in left:
            self._live.pop(one.call.job_id, None)
        try:
            threading.Thread(target=_leave, args=(left,), name="leave-queued").start()  # this may be a loop
        except RuntimeError:  # no thread is to be had
            _leave(left)
        return None

    @abstractmethod
    def _owes(self, job_id: str) -> bool:
        """Whether the end of this job is known here and waits to be written."""

    def _recovered(self, job: Job) -> Job:
        """The job as it stands where nothing of it is left here. Blocks."""
        return job if self._owes(job.id) else recovered(self.store, job)

    @abstractmethod
    async def _in_store(self, work: Callable[[], T]) -> T:
        """Run a blocking call to the store off the loop."""

    @abstractmethod
    async def _in_search(self, work: Callable[[], T]) -> T:
        """Run a search off the loop, when it is its turn."""

    async def get(self, job_id: str) -> Job:
        """Return a job as it stands now, with live progress and usage where it runs here.

        Raises:
            JobNotFound: There is no such job.
        """
        attempt = self._attempt_of(job_id)
        if attempt is not None:
            attempt.look_while_still()
            if attempt.live:
                return attempt.seen.snapshot()
        return await self._in_store(lambda: self.get_blocking(job_id))

    async def wait(self, job_id: str, timeout_s: float, *, or_question: bool = False) -> tuple[Job, bool]:
        """Wait for the end of a job or of the time.

        Args:
            job_id: The job.
            timeout_s: The longest wait.
            or_question: Whether to return, too, as soon as the job asks something.

        Returns:
            The job as it then stands, and whether the time ran out first.

        Raises:
            JobNotFound: There is no such job.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            attempt = self._attempt_of(job_id)
            job = await self.get(job_id)
            rest_s = deadline - time.monotonic()
            if job.status.terminal or (or_question and job.open_questions):
                return job, False
            if rest_s <= 0:
                return job, True
            if attempt is not None and attempt.loop is asyncio.get_running_loop():
                await (attempt.questions.news(rest_s) if or_question else within(attempt.end(), rest_s))
            else:
                await asyncio.sleep(min(rest_s, _FOREIGN_POLL_S))

    def get_blocking(self, job_id: str) -> Job:
        """Do what `get` does, for plain code in any thread."""
        if (known := self._known_here(self._attempt_of(job_id))) is not None:
            return known
        job = self.store.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return self._recovered(job)

    async def list(
        self, status: JobState | None = None, limit: int = 50, principal: str | None = None
    ) -> tuple[list[Job], bool]:
        """Return up to `limit` jobs, newest first, and whether there are more.

        Args:
            status: Only jobs in this state.
            limit: How many at most.
            principal: Only jobs of this one; None for all.

        Raises:
            InvalidInput: The limit is not positive.
        """
        return await self._in_store(lambda: self.list_blocking(status, limit, principal))

    def list_blocking(
        self, status: JobState | None = None, limit: int = 50, principal: str | None = None
    ) -> tuple[list[Job], bool]:
        """Do what `list` does, for plain code in any thread."""
        if limit < 1:
            raise InvalidInput(f"limit is {limit}; it must be 1 or more")
        if status is not None and status.terminal:
            for job in self.store.live():
                self._fresh(job)  # those that have ended unseen are among them from now on
        jobs, more = self._listed(status, limit, principal)
        if status is not None and any(job.status is not status for job in jobs):
            jobs, more = self._listed(status, limit, principal)
            jobs = [job for job in jobs if job.status is status]
        return jobs, more

    def _listed(self, status: JobState | None, limit: int, principal: str | None) -> tuple[list[Job], bool]:
        jobs, more = self.store.list(status, limit, **_whose(principal))
        return [self._fresh(job) for job in jobs], more

    def _fresh(self, job: Job) -> Job:
        if job.status.terminal:
            return job
        attempt = self._attempt_of(job.id)
        if attempt is None:
            return self._recovered(job)
        if (known := self._known_here(attempt)) is not None:
            return known
        return job if attempt.loop.is_running() else self.store.get(job.id) or job

    def _known_here(self, attempt: JobRun | None) -> Job | None:
        """What this process knows of a job beyond its record; its end is written first. Blocks."""
        if attempt is None:
            return None
        attempt.look_while_still()
        attempt.settle_while_still()
        return attempt.seen.snapshot() if attempt.live else None

    async def answer(self, job_id: str, answers: Mapping[str, InputAnswer], *, lenient: bool = False) -> Job:
        """Answer questions of a job, all of them or none; return the job as it then stands.

        Args:
            job_id: The job.
            answers: Mapping of a question's key to its answer.
            lenient: Whether what the job does not ask is left out; else it is refused.

        Raises:
            JobNotFound: There is no such job.
            QuestionNotOpen: It does not ask this, or not any more.
            InvalidInput: An answer does not fit its question.
        """
        job = await self._in_store(lambda: answer_record(self.store, job_id, answers, lenient=lenient))
        self._pass_on(job, asyncio.get_running_loop())
        return job

    def answer_blocking(self, job_id: str, answers: Mapping[str, InputAnswer]) -> Job:
        """Do what `answer` does, for plain code in any thread."""
        job = answer_record(self.store, job_id, answers)
        self._pass_on(job, None)
        return job

    def _pass_on(self, job: Job, loop: asyncio.AbstractEventLoop | None) -> None:
        """Let the body have the answers at once where it runs here; elsewhere its owner will see them."""
        attempt = self._attempt_of(job.id)
        if attempt is None:
            return
        if attempt.loop is loop:
            attempt.questions.take(job)
        else:
            attempt.loop.call_soon_threadsafe(attempt.questions.take, job)

    async def prune(
        self,
        *,
        keep_completed: bool = True,
        keep_failed: bool = True,
        max_age_hours: float = 24.0,
        principal: str | None = None,
    ) -> Pruned:
        """Remove finished jobs older than the age: cancelled ones, and those that are not kept."""
        return await self._in_store(
            lambda: self.prune_blocking(keep_completed, keep_failed, max_age_hours, principal)
        )

    def prune_blocking(
        self, keep_completed: bool, keep_failed: bool, max_age_hours: float, principal: str | None = None
    ) -> Pruned:
        """Do what `prune` does, for plain code in any thread.

        Raises:
            InvalidInput: The age is negative or no number.
        """
        if isinstance(max_age_hours, bool) or not 0 <= max_age_hours < float("inf"):
            raise InvalidInput(f"max_age_hours is {max_age_hours!r}; it must be a number of hours, 0 or more")
        age = timedelta(hours=min(max_age_hours, 24 * 365 * 100))
        kept = {JobState.COMPLETED: keep_completed, JobState.FAILED: keep_failed}
        going = [state for state in JobState if state.terminal and not kept.get(state, False)]

        return self.store.prune(principal=principal, among=going, ended_before=utc_now() - age)

    async def output(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int = 65536
    ) -> OutputPage:
        """Return a page of what a job wrote, from a byte offset, while it runs or afterwards.

        An offset below 0 counts from the end.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: The stream or the limit cannot be meant.
        """
        return await self._in_store(lambda: self.output_blocking(job_id, stream, offset, limit))

    def output_blocking(
        self, job_id: str, stream: str = "stdout", offset: int = 0, limit: int = 65536
    ) -> OutputPage:
        """Do what `output` does, for plain code in any thread."""
        check_page(stream, limit)
        ended = self.get_blocking(job_id).status.terminal
        return read_page(self.store.folder(job_id) / stream, offset, limit, ended=ended)

    async def lines(self, job_id: str, wanted: Wanted) -> LinePage:
        """Return whole lines of what a job wrote, as they stand on a screen.

        Raises:
            JobNotFound: There is no such job.
            InvalidInput: What is wanted cannot be meant, or its pattern comes to no end.
        """
        # for seconds, where much must be read: not in the threads that hand-offs need
        if wanted.pattern is not None:  # and for longer where it comes to no end: pages do not wait for that
            return await self._in_search(lambda: self.lines_blocking(job_id, wanted))
        return await asyncio.to_thread(self.lines_blocking, job_id, wanted)

    def lines_blocking(self, job_id: str, wanted: Wanted) -> LinePage:
        """Do what `lines` does, for plain code in any thread."""
        wanted.check()
        ended = self.get_blocking(job_id).status.terminal
        return read_lines(self.store.folder(job_id) / wanted.stream, wanted, ended=ended)


def _leave(attempts: Sequence[JobRun]) -> None:
    for attempt in attempts:
        attempt.leave()


def _whose(principal: str | None) -> dict[str, str]:
    """Only where it matters: a store of somebody's own may not know of principals."""
    return {} if principal is None else {"principal": principal}
