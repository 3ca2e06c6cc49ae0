"""What is known of one attempt while it runs: its times, its progress, its usage, its place."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from python_mcp_server.jobs.request import Listener, Notice
from python_mcp_server.model import Call, Job, JobProgress, JobState, Usage
from python_mcp_server.pool.lane import Lane

if TYPE_CHECKING:
    from python_mcp_server.jobs.front import Front
    from python_mcp_server.jobs.inline import InlineLane
    from python_mcp_server.pool.sampler import Watch

_log: Final = logging.getLogger(__name__)


class Observation:
    """What others may see of an attempt.

    Attributes:
        message: Why it waits, or None.
        background: Whether it goes on without a caller.
        ended: Whether its body has ended: it is sampled no more.
        public: Whether others can read the job, so that its id may be told.
    """

    def __init__(self, front: Front, call: Call, tool: str, listener: Listener | None) -> None:
        self.message: str | None = None
        self.background = self.ended = self.public = False
        self._front = front
        self._call = call
        self._tool = tool
        self._listener = listener
        self._progress: JobProgress | None = None
        self._created_s = time.time()
        self._started_s: float | None = None
        self._lane: Lane | InlineLane | None = None
        self._watch: Watch | None = None

    @property
    def started(self) -> bool:
        """Whether its body was sent to a worker."""
        return self._started_s is not None

    @property
    def status(self) -> JobState:
        """Where it stands, as long as it has not ended."""
        return JobState.RUNNING if self.started else JobState.PENDING

    def start(self, lane: Lane | InlineLane) -> None:
        """The body was sent to this lane."""
        self._lane = lane
        self._started_s = time.time()
        self.message = None

    def restart(self) -> None:
        """It waits again: the worker was gone before it read the call."""
        self.stop_sampling()
        self._lane = self._watch = self._started_s = None

    def sample(self) -> None:
        """Have the memory and CPU of its worker read from now on."""
        if isinstance(self._lane, Lane) and self._watch is None and not self.ended:
            sampler = self._front.pool.sampler
            self._watch = sampler.watch(self._lane.pid, self._call.job_id, self._lane.cpu_seconds)

    def stop_sampling(self) -> None:
        """Have nothing read any more."""
        if self._watch is not None:
            self._front.pool.sampler.unwatch(self._watch)

    def hear(self, progress: JobProgress) -> None:
        """Take a report of the body."""
        if (finite := _finite(progress)) is not None:
            self._progress = finite
            self.notify()

    def notify(self) -> None:
        """Tell the caller, if it listens and still waits."""
        if self._listener is None:
            return
        job_id = self._call.job_id if self.public else None
        try:
            self._listener(Notice(job_id, self._progress, self.usage, self.message))
        except Exception:  # noqa: BLE001  a caller's code; logged with its traceback
            _log.exception("the listener of job %s failed and hears no more", self._call.job_id)
            self._listener = None

    def hush(self) -> None:
        """The caller has its answer, or left: it hears no more."""
        self._listener = None

    @property
    def usage(self) -> Usage | None:
        """The latest sample; after the end with the worker's own count of CPU time."""
        watch = self._watch
        if watch is None or watch.usage is None or self._lane is None or not self.ended:
            return None if watch is None else watch.usage
        exact_s = self._lane.cpu_seconds - watch.cpu_base_s
        return replace(watch.usage, cpu_seconds=max(watch.usage.cpu_seconds, exact_s))

    def snapshot(self) -> Job:
        """Return the job as it stands now, with its live progress and usage."""
        return Job(
            id=self._call.job_id,
            label=self._call.label,
            tool=self._tool,
            status=self.status,
            created_at=datetime.fromtimestamp(self._created_s, UTC),
            started_at=None if self._started_s is None else datetime.fromtimestamp(self._started_s, UTC),
            message=self.message,
            progress=self._progress,
            usage=self.usage,
            owner=self._front.identity,
            worker=self._lane.identity if self._lane else None,
            background=self.background,
        )


def _finite(progress: JobProgress) -> JobProgress | None:
    """Progress as JSON can say it: without a total that is no finite number, None without a current."""
    try:
        if not math.isfinite(progress.current):
            return None
        endless = progress.total is not None and not math.isfinite(progress.total)
    except OverflowError:  # too big for a float, and so for most readers of JSON
        return None
    return replace(progress, total=None) if endless else progress
