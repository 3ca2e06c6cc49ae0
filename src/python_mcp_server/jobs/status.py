"""What is known of one attempt while it runs: its times, its progress, its usage, its place."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.jobs.request import Listener, Notice, Request
from python_mcp_server.model import Call, Job, JobProgress, JobState, Usage
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.worker.progress import bounded, finite

if TYPE_CHECKING:
    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.jobs.inline import InlineLane
    from python_mcp_server.pool.monitor import Watch
    from python_mcp_server.questions.model import Question

_log: Final = logging.getLogger(__name__)


class RunStatus:
    """What others may see of an attempt.

    Attributes:
        message: Why it waits, or None.
        background: Whether it goes on without a caller.
        ended: Whether its body has ended: it is sampled no more.
        public: Whether others can read the job, so that its id may be told.
        recipe: What another server needs to start it while it is queued in the background, or None.
        questions: What it asks, once others can read it, and nobody has answered.
    """

    def __init__(self, front: Engine, call: Call, request: Request, listener: Listener | None) -> None:
        self.message: str | None = None
        self.background = self.ended = self.public = False
        self.recipe: dict[str, Any] | None = None
        self.questions: tuple[Question, ...] = ()
        self._front = front
        self._call = call
        self._tool, self._principal = request.tool, request.principal
        self._replies = request.replies
        self._listener = listener
        self._progress: JobProgress | None = None
        self._created_s = time.time()
        self._started_s: float | None = None
        self._lane: WorkerHandle | InlineLane | None = None
        self._watch: Watch | None = None

    @property
    def started(self) -> bool:
        """Whether its body was sent to a worker."""
        return self._started_s is not None

    @property
    def status(self) -> JobState:
        """Where it stands, as long as it has not ended."""
        if self.questions:
            return JobState.INPUT_REQUIRED
        return JobState.RUNNING if self.started else JobState.PENDING

    def adopt(self, job: Job) -> None:
        """It is a queued job that another server began."""
        self._created_s = job.created_at.timestamp()
        self.recipe = job.call
        self.background = True

    def wait(self, reason: str | None) -> None:
        """It waits for its turn, for this reason."""
        self.message = reason

    def start(self, lane: WorkerHandle | InlineLane) -> None:
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
        if isinstance(self._lane, WorkerHandle) and self._watch is None and not self.ended:
            sampler = self._front.pool.sampler
            self._watch = sampler.watch(self._lane.pid, self._call.job_id, self._lane.cpu_seconds)

    def note_peak(self, peak_bytes: int) -> None:
        """Its limits are looked at more often than its usage: take what was seen there."""
        if self._watch is not None:
            usage = self._watch.usage or Usage()
            self._watch.usage = replace(usage, peak_rss_bytes=max(peak_bytes, usage.peak_rss_bytes))

    def stop_sampling(self) -> None:
        """Have nothing read any more."""
        if self._watch is not None:
            self._front.pool.sampler.unwatch(self._watch)

    def hear(self, progress: JobProgress) -> None:
        """Take a report of the body."""
        if (shown := finite(bounded(progress))) is not None:
            self._progress = shown
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

    def listen(self, listener: Listener | None) -> None:
        """Another caller waits for it now."""
        self._listener = listener

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
            call=self.recipe if self.background and not self.started else None,
            principal=self._principal,
            reply=None if self._replies is None else dict(self._replies.form),
            questions=self.questions,
        )
