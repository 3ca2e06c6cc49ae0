"""A job's output on the caller's own stdout and stderr, byte by byte.

`run` follows its job from its start to its end, with a line of progress below the output; `jobs output`
copies what any job wrote. Imports rich, so it is loaded late.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Final

from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from python_mcp_server import errors, processes
from python_mcp_server.cli.show import SHORT_ID_CHARS, console, span, usage_words
from python_mcp_server.errors import InvalidInput
from python_mcp_server.items import ITEMS
from python_mcp_server.jobs.item_pages import whole_bytes
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.output import Wanted
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.rows import (
    SIGNALLED,
    elapsed_s,
    ending_words,
    error_sentence,
    exit_code,
    plain,
    progress_words,
)
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.regular import own_file

_PIECE_BYTES: Final = 1 << 20
_PIECES_AT_ONCE: Final = 16
"""The largest piece, so that a flood of output does not keep the caller from looking at the job."""


class Copy:
    """Copies a file that grows to a stream, from an offset on."""

    def __init__(self, path: Path, out: BinaryIO, offset: int = 0) -> None:
        self.offset = offset
        self.out = out
        self._path = path

    def read(self, limit: int = _PIECE_BYTES) -> bytes:
        """Return the next bytes, at most a piece; nothing where there are none yet."""
        try:
            with open(self._path, "rb", opener=own_file) as file:
                if self.offset > os.fstat(file.fileno()).st_size:  # the number may be too large for `seek`
                    return b""
                file.seek(self.offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def write(self, data: bytes) -> None:
        """Write a piece, at once."""
        self.out.write(data)
        self.out.flush()
        self.offset += len(data)


_MOMENT_S: Final = 1.0
_LOG_S: Final = 5.0
"""Between two lines of a log: guessed, so that a reader of minutes is not drowned."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a job tells of its progress where its output is not shown; an empty text tells nothing.

    Attributes:
        line: Returns the line of progress of a terminal.
        log: Returns what a pipe or a file gets, each time that it has changed, but not every time.
    """

    line: Callable[[Job], str]
    log: Callable[[Job], str] = lambda _job: ""


class Screen:
    """The terminal that shows a job's output while the job runs.

    Args:
        folder: The job's folder; None where its output is not shown.
        progress: How the job tells of its progress.
        clock: Returns seconds.
    """

    def __init__(
        self, folder: Path | None, progress: Progress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
        shown = {} if folder is None else {folder / name: out for name, out in streams.items()}
        self._copies = tuple(Copy(path, out) for path, out in shown.items())
        self._progress = progress
        self._console = console(stderr=True)
        self._clock = clock
        self._logged, self._logged_at = "", -math.inf
        self._shown = ""
        self._at_line_start = True

    @property
    def watched(self) -> bool:
        """Whether a person may look: stderr is a terminal."""
        return self._console.is_terminal

    def pump(self, *, everything: bool = False) -> None:
        """Copy the new output. This blocks while the copy is not read."""
        for copy in self._copies:
            pieces = 0
            while (data := copy.read()) and (everything or pieces < _PIECES_AT_ONCE):
                self.clear()
                copy.write(data)
                pieces += 1
                if copy.out.isatty():
                    self._at_line_start = data.endswith(b"\n")

    def show(self, job: Job, *, cancelling: bool = False) -> None:
        """Draw the line of progress, unless it would follow an unfinished line of output."""
        if not self.watched:
            self._log(job)
        if not (self.watched and self._at_line_start):
            return
        told = plain(
            f"cancelling · {span(elapsed_s(job))}"
            if cancelling
            else _waiting_words(job) or self._progress.line(job)
        )
        if told == self._shown:
            return
        self.clear()
        line = Text(told, style="dim")
        line.truncate(max(1, self._console.width - 1), overflow="ellipsis")
        self._console.print(line, end="")
        self._shown = told

    def _log(self, job: Job) -> None:
        told = plain(_waiting_words(job) or self._progress.log(job))
        if told and told != self._logged and self._clock() - self._logged_at >= _LOG_S:
            sys.stderr.write(f"{told}\n")
            self._logged, self._logged_at = told, self._clock()

    def clear(self) -> None:
        """Remove the line of progress."""
        if self._shown:
            self._erase()
            self._shown = ""

    def end(self, job: Job) -> None:
        """Say how the job ended, where its output was shown or it was cancelled."""
        if self._copies or job.status is JobState.CANCELLED:
            usage = f", {usage_words(job)}" if job.usage else ""
            ended = ending_words(job) or job.status.value
            self.say(f"job {job.id[:SHORT_ID_CHARS]}: {ended} after {span(elapsed_s(job))}{usage}")

    def say(self, sentence: str) -> None:
        """Write a line to the terminal, if there is one, in the place of the line of progress and of the `^C`
        that a terminal shows.
        """
        if self.watched:
            if self._at_line_start:
                self._erase()
            start = "" if self._at_line_start else "\n"
            self._console.print(Text(f"{start}{sentence}", style="dim"))
            self._shown, self._at_line_start = "", True

    def _erase(self) -> None:
        self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))


@contextmanager
def progress_line() -> Generator[Screen]:
    """Give a terminal for a line of progress alone, without output, and remove the line at the end."""
    screen = Screen(None, Progress(_state_words))
    try:
        yield screen
    finally:
        screen.clear()


def _state_words(job: Job) -> str:
    words = [job.status.value, span(elapsed_s(job))]
    words += [usage_words(job)] if job.usage else []
    words += [progress_words(job.progress)] if job.progress else []
    words += [job.message] if job.message else []
    return " · ".join(words)


def _waiting_words(job: Job) -> str:
    """Return why a job has not started, where it has waited for longer than a moment; else nothing."""
    waited_s = (utc_now() - (job.queued_at or job.created_at)).total_seconds()
    if job.status is not JobState.PENDING or not job.message or waited_s < _MOMENT_S:
        return ""
    return f"job {job.id[:SHORT_ID_CHARS]} is pending: {job.message}"


_LOOK_S: Final = 0.05
_FOREVER_S: Final = 1e9


def run_and_follow(request: Request) -> int:
    """Run a script tool's body as a job and return the exit code of its script.

    Raises:
        PythonMcpError: The script could not be run.
    """
    return asyncio.run(_run(request, exit_code))


def run_quietly(request: Request, progress: Progress, show: Callable[[Job], int]) -> int:
    """Run a body as a job behind a line of progress.

    Args:
        request: The body.
        progress: How it tells of its progress.
        show: Shows the result of the job, and returns the exit code; not called where a signal cancelled it.

    Raises:
        PythonMcpError: The body failed.
    """
    return asyncio.run(_run(request, show, progress))


async def _run(request: Request, show: Callable[[Job], int], progress: Progress | None = None) -> int:
    """Run a job to its end; its output is shown unless it has a way of its own to tell of its progress."""
    async with JobManager() as manager:
        follower = Follower(manager, progress)
        with _heard(follower.interrupt):
            job = await follower.follow(await manager.submit_request(request))
        code = follower.code_of_end(job)
    return show(job) if code is None else code


class Follower:
    """Shows a job's output and progress, and cancels it when asked to.

    Args:
        manager: The manager of the job.
        progress: How the job tells of its progress in the place of output; None where the output is shown.
    """

    def __init__(self, manager: JobManager, progress: Progress | None) -> None:
        self._manager = manager
        self._progress = progress
        self._id = ""
        self._screen: Screen | None = None
        self._signal: int | None = None
        self._work: set[asyncio.Task[Any]] = set()

    async def follow(self, job: Job) -> Job:
        """Return the job when it has ended and all of its output was shown."""
        self._id = job.id
        folder = self._manager.store.folder(job.id) if self._progress is None else None
        screen = self._screen = Screen(folder, self._progress or Progress(_state_words))
        if self._signal is not None:
            self._cancel(screen)
        end = asyncio.create_task(self._manager.wait(self._id, _FOREVER_S), name="end-of-job")
        try:
            while not end.done():
                await asyncio.wait({end}, timeout=_LOOK_S)
                await asyncio.to_thread(screen.pump)
                if not end.done():
                    screen.show(await self._manager.get(self._id), cancelling=self._signal is not None)
            await asyncio.to_thread(screen.pump, everything=True)
        finally:
            screen.clear()
            await self._manager.cancel(self._id)  # it has ended, unless the output is no longer read
            await asyncio.gather(end, *self._work)
        return (await end)[0]

    def interrupt(self, number: int) -> None:
        """Cancel the job, as soon as it is submitted; from the second time on kill it without grace."""
        first = self._signal is None
        self._signal = self._signal or number
        if self._screen is None:
            return
        if first:
            self._cancel(self._screen)
        else:
            self._begin(self._kill())

    def _cancel(self, screen: Screen) -> None:
        screen.say(f"Cancelling job {self._id[:SHORT_ID_CHARS]}; press Ctrl-C again to kill it")
        self._begin(self._manager.cancel(self._id))

    async def _kill(self) -> None:
        worker = (await self._manager.get(self._id)).worker
        if worker is not None:
            await asyncio.to_thread(processes.kill_tree, worker, job_id=self._id)

    def _begin(self, work: Any) -> None:
        self._work.add(asyncio.create_task(work))

    def code_of_end(self, job: Job) -> int | None:
        """Return the code to exit with if a signal cancelled the job; None if it has a result.

        Raises:
            PythonMcpError: The body failed, or another process or the MCP client cancelled the job.
        """
        failure = _refusal(job) if job.status is JobState.FAILED else None
        if self._screen is not None and not isinstance(failure, InvalidInput):
            self._screen.end(job)
        if job.status is JobState.CANCELLED:
            if self._signal is not None:
                return SIGNALLED + self._signal
            raise errors.JobFailed(f"job {job.id} was cancelled by somebody else")
        if failure is not None:
            raise failure
        return None


def _refusal(job: Job) -> errors.PythonMcpError:
    """Return the error of a failed job's record: bad input, or any other failure."""
    told = error_sentence(job)
    name, _, sentence = told.partition(": ")
    if sentence and name.rpartition(".")[2] == errors.InvalidInput.__name__:
        return errors.InvalidInput(sentence)
    return errors.JobFailed(f"job {job.id} failed: {told}", job.error_kind or "lost")


@contextmanager
def _heard(interrupt: Any) -> Generator[None]:
    """Call `interrupt` on the loop when SIGINT or SIGTERM comes, instead of their default action."""
    loop = asyncio.get_running_loop()

    def hear(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(interrupt, number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_POLL_S: Final = 0.1


def copy_output(
    manager: JobManager, job_id: str, stream: str, *, offset: int, limit: int | None, follow: bool
) -> None:
    """Copy a job's output to our stdout; with `follow` until the job ends.

    Raises:
        InvalidInput: The offset or the limit is not valid.
    """
    if offset < 0:
        raise InvalidInput(f"--offset is {offset}; it must be 0 or more")
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit is {limit}; it must be 1 or more")
    folder = manager.store.folder(job_id)
    copy = Copy(folder / stream, sys.stdout.buffer, offset)
    last = end = None if limit is None else offset + limit
    while True:
        ended = manager.blocking.get(job_id).status.terminal  # before the copy: then nothing comes after it
        if stream == ITEMS:  # only whole ones: a killed worker may have left a part of the last
            whole = max(copy.offset, whole_bytes(folder))
            end = whole if last is None else min(whole, last)
        while data := copy.read(_PIECE_BYTES if end is None else min(_PIECE_BYTES, end - copy.offset)):
            copy.write(data)
        if ended or not follow or copy.offset == last:
            return
        time.sleep(_POLL_S)


def copy_matches(manager: JobManager, job_id: str, wanted: Wanted, *, follow: bool) -> None:
    """Copy the lines of a job's output that match a pattern, each after its number.

    With `follow` it goes on until the job ends.

    Raises:
        InvalidInput: The request is not valid.
    """
    while True:
        page = manager.blocking.lines(job_id, wanted)
        sys.stdout.write(page.text)
        sys.stdout.flush()
        stays = page.next_offset == wanted.offset and wanted.line is None
        if page.eof or (not follow and (stays or page.next_offset >= page.total_bytes)):
            return
        if stays:
            time.sleep(_POLL_S)
        wanted = replace(wanted, offset=page.next_offset, line=None)
