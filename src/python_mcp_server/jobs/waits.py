"""How a caller waits for a job: it is told of the start and the end of a job that runs here, and looks at the
record of any other one again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from python_mcp_server.jobs.asked import check_job, check_number
from python_mcp_server.jobs.budget import within

if TYPE_CHECKING:
    from python_mcp_server.jobs.run import JobRun
    from python_mcp_server.jobs.submission import Submissions
    from python_mcp_server.model import Job

_POLL_S: Final = 0.2
"""Between two looks at the record of a job of another process."""

_HELD_POLL_S: Final = 1.0
"""The same for a job that waits here for its start, of which this process hears; only other processes end it
unseen."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The wait of one caller for one job.

    Attributes:
        job_id: The job.
        submissions: The queued jobs of the engine of the running loop.
        run_of: Returns the run of the job in this process, or None.
        look: Returns the present state of the job.
        or_question: Whether a question of the job ends the wait, too.
    """

    job_id: str
    submissions: Submissions
    run_of: Callable[[str], JobRun | None]
    look: Callable[[], Awaitable[Job]]
    or_question: bool

    async def until_end(self, timeout_s: float) -> tuple[Job, bool]:
        """Return the job in its state at the end of the wait, and whether the time ran out first.

        Raises:
            JobNotFound: There is no such job.
        """
        check_job(self.job_id)
        check_number(timeout_s=timeout_s)
        deadline = time.monotonic() + timeout_s
        while True:
            start = self.submissions.start_of(self.job_id)
            run = self._run_here()
            if run is not None and not self.or_question:
                await within(run.join(), deadline - time.monotonic())
            elif self.submissions.holds(self.job_id):
                await _within(start.wait(), deadline, _HELD_POLL_S)
                if start.is_set():
                    continue  # it runs here
            job = await self.look()
            if job.status.terminal or (self.or_question and job.open_questions):
                return job, False
            if (rest_s := deadline - time.monotonic()) <= 0:
                return job, True
            if run is not None and self.or_question:
                await run.questions.wait_for_question(rest_s)
            elif run is None and not self.submissions.holds(self.job_id):
                await _within(start.wait(), deadline, _POLL_S)

    def _run_here(self) -> JobRun | None:
        run = self.run_of(self.job_id)
        return run if run is not None and run.loop is asyncio.get_running_loop() else None


async def _within(event: Coroutine[None, None, object], deadline: float, most_s: float) -> None:
    await within(event, min(deadline - time.monotonic(), most_s))
