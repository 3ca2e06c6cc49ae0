"""The facts of one job while it runs: its times, its progress, its usage, its questions."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.jobs.request import Listener, Notice, Request
from python_mcp_server.jobs.rows import Ran, what_ran
from python_mcp_server.model import Call, Job, JobProgress, JobState, Usage, cut_label
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.monitor import Watch
from python_mcp_server.pool.worker.progress import bounded, finite

if TYPE_CHECKING:
    from python_mcp_server.jobs.inline import InlineWorker
    from python_mcp_server.jobs.services import Services
    from python_mcp_server.questions.model import Question

_log: Final = logging.getLogger(__name__)


class RunStatus:
    """The public facts of one run of a job.

    Attributes:
        public: Whether others can read the job, so that its id may be shown.
        cpu_s: The CPU time of the body once it has ended, also where it was too short for a sample.
        spec: The spec with which another server may start the job while it is queued in the background, or
            None.
        questions: The unanswered questions that others can read.
    """

    def __init__(self, services: Services, call: Call, request: Request, listener: Listener | None) -> None:
        self.public = False
        self.cpu_s = 0.0
        self.spec: dict[str, Any] | None = None
        self._adopted: Job | None = None
        self.questions: tuple[Question, ...] = ()
        self._owner = services.identity
        self._sampler = services.pool.sampler
        self._call = call
        self._request = request
        self._listener = listener
        self._reason: str | None = None
        self._progress: JobProgress | None = None
        self._created_s = time.time()
        self._started_s: float | None = None
        self._worker: WorkerHandle | InlineWorker | None = None
        self._watch: Watch | None = None

    @property
    def started(self) -> bool:
        """Whether the call was sent to a worker."""
        return self._started_s is not None

    def adopt(self, job: Job) -> None:
        """Take the facts of a queued job that another server began."""
        self._created_s = job.created_at.timestamp()
        self.spec = job.call
        self._adopted = job

    def set_pending_reason(self, reason: str | None) -> None:
        """Set why the job is still pending."""
        self._reason = reason

    def start(self, worker: WorkerHandle | InlineWorker) -> None:
        """Note that the call was sent to this worker."""
        self._worker = worker
        self._started_s = time.time()
        self._reason = None

    def restart(self) -> None:
        """Make the job pending again, because the worker was gone before it read the call."""
        if self._watch is not None:
            self._sampler.unwatch(self._watch)
        self._worker = self._watch = self._started_s = None

    # ---- usage

    def sample(self) -> None:
        """Sample the memory and CPU of the worker from now on."""
        if isinstance(self._worker, WorkerHandle) and self._watch is None:
            worker, call = self._worker, self._call
            watch = Watch(worker.pid, call.job_id, worker.cpu_seconds, call.runs_programs)
            self._watch = self._sampler.add(watch)

    def note_peak(self, peak_bytes: int) -> None:
        """Keep the higher peak that the limit monitor saw; it samples more often."""
        if self._watch is not None:
            usage = self._watch.usage or Usage()
            self._watch.usage = replace(usage, peak_rss_bytes=max(peak_bytes, usage.peak_rss_bytes))

    def end(self) -> None:
        """Note the end of the body: stop sampling, and take the worker's own count of CPU time."""
        if (watch := self._watch) is None:
            return
        self._sampler.unwatch(watch)
        if self._worker is not None:
            self.cpu_s = self._worker.cpu_seconds - watch.cpu_base_s
        if watch.usage is not None:
            self.cpu_s = max(watch.usage.cpu_seconds, self.cpu_s)
            watch.usage = replace(watch.usage, cpu_seconds=self.cpu_s)

    @property
    def usage(self) -> Usage | None:
        """The latest sample."""
        return None if self._watch is None else self._watch.usage

    # ---- the caller

    def on_progress(self, progress: JobProgress) -> None:
        """Take a progress report of the body."""
        if (shown := finite(bounded(progress))) is not None:
            self._progress = shown
            self.publish()

    def publish(self) -> None:
        """Send the job's progress to the caller, if the caller listens and still waits."""
        if self._listener is None:
            return
        job_id = self._call.job_id if self.public else None
        try:
            self._listener(Notice(job_id, self._progress, self.usage, self._reason))
        except Exception:  # noqa: BLE001  a caller's code; logged with its traceback
            _log.exception("the listener of job %s failed and hears no more", self._call.job_id)
            self._listener = None

    @cached_property
    def _ran(self) -> Ran:
        """What the job runs: made with its record, which most calls never have."""
        return what_ran(self._request.body, self._request.args, self._request.kwargs)

    def subscribe(self, listener: Listener | None) -> None:
        """Send notices to this caller from now on; None when the caller has its answer or left."""
        self._listener = listener

    def snapshot(self, *, background: bool) -> Job:
        """Return the present state of the job, with its live progress and usage."""
        started_s = self._started_s
        status = JobState.PENDING if started_s is None else JobState.RUNNING
        facts: dict[str, Any] = {
            "status": JobState.INPUT_REQUIRED if self.questions else status,
            "started_at": None if started_s is None else datetime.fromtimestamp(started_s, UTC),
            "message": self._reason,
            "progress": self._progress,
            "usage": self.usage,
            "owner": self._owner,
            "worker": self._worker.identity if self._worker else None,
            "background": background,
            "call": self.spec if background and started_s is None else None,
            "questions": self.questions,
        }
        return self._as_requested(facts) if self._adopted is None else self._adopted.evolve(**facts)

    def _as_requested(self, facts: dict[str, Any]) -> Job:
        request, ran = self._request, self._ran
        return Job(
            id=self._call.job_id,
            label=request.label or cut_label(ran.program or self._call.label),
            tool=request.tool,
            ran=ran.program,
            directory=ran.directory,
            client=request.client,
            created_at=datetime.fromtimestamp(self._created_s, UTC),
            grace_s=self._call.grace_s,
            principal=request.principal,
            memory_limit_mb=None if request.limits is None else request.limits.memory_limit_mb,
            reply=None if request.replies is None else dict(request.replies.form),
            options=request.options,
            waits_for=() if request.options is None else request.options.after,
            not_before=None if request.options is None else request.options.run_at,
            **facts,
        )
