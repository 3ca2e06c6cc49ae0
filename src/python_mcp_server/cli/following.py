"""A job of one's own, followed from its start to its end; loaded when there is one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, cast

from python_mcp_server import errors, processes
from python_mcp_server.cli.ids import error_sentence
from python_mcp_server.cli.screen import Screen
from python_mcp_server.cli.show import elapsed_s, span, usage_words
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState

_LOOK_S: Final = 0.05
_FOREVER_S: Final = 1e9
_TIMED_OUT: Final = 124
_SIGNALLED: Final = 128


def run_and_follow(request: Request) -> int:
    """Run a script tool's body as a job and return the exit code of its script.

    Raises:
        PythonMcpError: The script could not be run.
    """
    return asyncio.run(_run(request))


async def _run(request: Request) -> int:
    async with JobManager() as manager:
        follower = Follower(manager, await manager.submit(request))
        with _heard(follower.interrupt):
            job = await follower.follow()
    return follower.exit_code(job)


class Follower:
    """Shows a job's output and progress, and cancels it when asked to.

    Args:
        manager: Whose job it is.
        job: As it was submitted.
    """

    def __init__(self, manager: JobManager, job: Job) -> None:
        self._manager = manager
        self._id = job.id
        self._screen = Screen(manager.store.folder(job.id))
        self._signal: int | None = None
        self._work: set[asyncio.Task[Any]] = set()

    async def follow(self) -> Job:
        """Return the job when it has ended and all of its output was shown."""
        end = asyncio.create_task(self._manager.wait(self._id, _FOREVER_S), name="end-of-job")
        try:
            while not end.done():
                await asyncio.wait({end}, timeout=_LOOK_S)
                await asyncio.to_thread(self._screen.pump)
                if not end.done():
                    self._screen.show(await self._manager.get(self._id))
            await asyncio.to_thread(self._screen.pump, everything=True)
        finally:
            self._screen.clear()
            await self._manager.cancel(self._id)  # it has ended, unless nobody reads the output any more
            await asyncio.gather(end, *self._work)
        return (await end)[0]

    def interrupt(self, number: int) -> None:
        """Cancel the job; from the second time on kill it without grace."""
        if self._signal is None:
            self._signal = number
            self._screen.say(f"cancelling job {self._id}; once more kills it at once")
            self._begin(self._manager.cancel(self._id))
        else:
            self._begin(self._kill())

    async def _kill(self) -> None:
        worker = (await self._manager.get(self._id)).worker
        if worker is not None:
            await asyncio.to_thread(processes.kill_tree, worker, job_id=self._id)

    def _begin(self, work: Any) -> None:
        self._work.add(asyncio.create_task(work))

    def exit_code(self, job: Job) -> int:
        """Return the code to exit with; whoever looks is told how it ended.

        Raises:
            PythonMcpError: The script could not be run.
        """
        usage = f", {usage_words(job.usage)}" if job.usage else ""
        self._screen.say(f"job {job.id}: {job.status.value} after {span(elapsed_s(job))}{usage}")
        if job.status is JobState.CANCELLED:
            if self._signal is not None:
                return _SIGNALLED + self._signal
            raise errors.JobFailed(f"job {job.id} was cancelled by somebody else")
        if job.status is JobState.FAILED:
            raise _refusal(job)
        result = cast("dict[str, Any]", job.result)
        if result.get("timed_out"):
            return _TIMED_OUT
        code = int(result["exit_code"])
        return code if code >= 0 else _SIGNALLED - code


def _refusal(job: Job) -> errors.PythonMcpError:
    """Return the error that a failed job's record tells of: bad input, or anything else."""
    told = error_sentence(job)
    name, _, sentence = told.partition(": ")
    if sentence and name.rpartition(".")[2] == errors.InvalidInput.__name__:
        return errors.InvalidInput(sentence)
    return errors.JobFailed(f"job {job.id} failed: {told}", job.error_kind or "lost")


@contextmanager
def _heard(interrupt: Any) -> Generator[None]:
    """Call `interrupt` on the loop when SIGINT or SIGTERM comes, instead of what they would do."""
    loop = asyncio.get_running_loop()

    def hear(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(interrupt, number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
