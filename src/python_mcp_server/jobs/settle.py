"""The one way to a terminal state, for manager, worker and recovery alike.

First writer wins, under the store's lock; a verdict that was written before a kill (`ending`) beats
whatever the body still said.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.jobs.questions import exchange
from python_mcp_server.jobs.reply import Show, Shown, show_raw
from python_mcp_server.model import MB, Failure, Job, JobProgress, JobState, Outcome, Usage, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from python_mcp_server.limits import Breach
    from python_mcp_server.questions import InputAnswer, Question
    from python_mcp_server.store.contract import JobStore
    from python_mcp_server.store.files import FileJobStore

KEPT_RECORD: Final = "python_mcp_server.jobs.settle:KeptRecord"
"""How the worker of a kept job finds its record, without the pool knowing this module."""


def _settled(job: Job, outcome: Outcome, shown: Shown) -> Job:
    """Return the job in the terminal state that this outcome, or its verdict, gives it."""
    job = job.evolve(completed_at=utc_now(), message=None, call=None, missed_at=None, questions=())
    if job.ending == JobState.CANCELLED or (outcome.cancelled and job.ending is None):
        return job.evolve(status=JobState.CANCELLED)
    if job.ending is not None:
        sentence = job.error or f"ended at its {job.ending.replace('_', ' ')}"
        return job.evolve(status=JobState.FAILED, error=sentence, error_kind=job.ending)
    if outcome.failure is not None:
        return _failed(job, outcome.failure)
    reply = (job.reply or {}) | dict(shown.reply)
    return job.evolve(
        status=JobState.COMPLETED, result=shown.result, result_note=shown.note, reply=reply or None
    )


def _failed(job: Job, failure: Failure) -> Job:
    if failure.kind == "exception":
        error = failure.sentence + (f"\n\n{failure.traceback_text}" if failure.traceback_text else "")
    else:
        error = failure.message + (_memory(job.usage) if failure.kind == "worker_died" else "")
    return job.evolve(
        status=JobState.FAILED, error=error, error_kind=failure.kind, rpc_error=failure.rpc_error
    )


def _memory(usage: Usage | None) -> str:
    """What was seen of its memory last: the kernel may have ended it for want of that."""
    if usage is None or not usage.rss_bytes:
        return ""
    return (
        f" (its last memory was {usage.rss_bytes / MB:.0f} MB, its peak {usage.peak_rss_bytes / MB:.0f} MB)"
    )


def _shown(outcome: Outcome, show: Show) -> Shown:
    """The value as the record has it. The value's own code may run here, so never under a lock."""
    if outcome.cancelled or outcome.failure is not None:
        return Shown()
    if outcome.shown is not None:
        return Shown(*outcome.shown, {"raw": True})
    try:
        return show(outcome.value)
    except BaseException as error:  # noqa: BLE001  such as SystemExit: it must not cost the outcome
        return Shown(None, f"the result cannot be shown: {type(error).__name__}", {"raw": True})


def _merged(former: Usage | None, latest: Usage | None) -> Usage | None:
    """The latest usage, with what only the process before could see: its peak."""
    if former is None or latest is None:
        return latest or former
    peak_bytes = max(former.peak_rss_bytes, latest.peak_rss_bytes)
    cpu_s = max(former.cpu_seconds, latest.cpu_seconds)
    return replace(latest, peak_rss_bytes=peak_bytes, cpu_seconds=cpu_s)


def settle(
    store: JobStore,
    job_id: str,
    outcome: Outcome,
    *,
    progress: JobProgress | None = None,
    usage: Usage | None = None,
    tree_gone: bool = True,
    show: Show | None = None,
    only_if: Callable[[Job], bool] | None = None,
) -> Job:
    """Write the terminal state of a job, unless it has one; return what stands.

    Args:
        store: Where it lies.
        job_id: The job.
        outcome: How its body ended.
        progress: The last progress, where it is known.
        usage: The last sample, where it is known.
        only_if: Asked of what then stands; where it says no, nothing is written.
        tree_gone: Whether its last process is gone. Where it may live, a verdict that somebody wrote
            is not settled: the job is returned unfinished, and the tree must be ended first.
        show: Makes of the value what the record has; without it nobody has the tool's model.

    Raises:
        JobNotFound, StoreError: As the store's `update`.
    """
    shown = _shown(outcome, show or (lambda value: show_raw(value, None)))

    def change(job: Job) -> Job:
        if only_if is not None and not only_if(job):
            return job
        now = job.evolve(progress=progress or job.progress, usage=_merged(job.usage, usage))
        if job.ending is not None and not tree_gone:
            return job if now == job else now
        return _settled(now, outcome, shown)

    return store.update(job_id, change)


def never_started() -> Failure:
    """Return the failure of a queued job that no server will start."""
    sentence = "the server ended before the job was started; start it again"
    return Failure("JobFailed", sentence, kind="server_died")


class KeptRecord:
    """The record of a kept job in the hands of its worker, once the server is gone.

    Attributes:
        grace_s: How long a cancelled body may clean up.
    """

    def __init__(self, job_id: str, sink: dict[str, Any]) -> None:
        """Take note of where it lies; nothing is opened yet.

        Args:
            job_id: The job.
            sink: `{"home": ..., "lock_s": ..., "fsync": ..., "grace_s": ...}` of the file store, and
                `"reply"`, the form of the job's reply.
        """
        self.grace_s: float = sink["grace_s"]
        self._job_id = job_id
        self._sink = sink
        self._store: FileJobStore | None = None

    def refresh(self, progress: JobProgress | None, usage: Usage | None) -> bool:
        """Write how far the job is.

        Returns:
            Whether it must end: there is a verdict on it, or somebody has settled it.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """

        def change(job: Job) -> Job:
            if job.ending is not None:
                return job
            now = job.evolve(
                background=True,
                missed_at=None,  # whoever missed us sees that we are there
                progress=progress or job.progress,
                usage=_merged(job.usage, usage),
            )
            return job if now == job else now

        job = self._open().update(self._job_id, change)
        return job.status.terminal or job.ending is not None

    def doom(self, breach: Breach) -> None:
        """Write that it is ended at a limit, before the kill.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """

        def change(job: Job) -> Job:
            settled = job.status.terminal or job.ending is not None
            return job if settled else job.evolve(ending=breach.kind, error=breach.sentence)

        self._open().update(self._job_id, change)

    def exchange(
        self, asked: Collection[Question], expired: Collection[str]
    ) -> Mapping[str, InputAnswer | None]:
        """Let the record have what the body asks; return it by key, each with its answer if there is one.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """
        job = exchange(self._open(), self._job_id, asked, expired)
        return {question.key: question.answer for question in job.questions}

    def commit(self, outcome: Outcome, progress: JobProgress | None, usage: Usage | None) -> None:
        """Settle it. A verdict is left unsettled: this process, the last of the job, still lives, and
        whoever reads the job once it is gone settles that verdict.

        Raises:
            JobNotFound, StoreError: As the store's `update`.
        """
        store = self._open()
        try:
            known: dict[str, Any] = {"progress": progress, "usage": usage}
            settle(store, self._job_id, outcome, tree_gone=False, show=self._show, **known)
        except JobNotFound:  # pruned: its server had settled it before it was killed
            store.discard_folder(self._job_id)
            raise

    def _show(self, value: Any) -> Shown:
        return show_raw(value, self._sink.get("reply"))

    def gone(self) -> bool:
        """Whether the home was removed, or the jobs in it; a disk that cannot be read is another matter."""
        from python_mcp_server.store.layout import Layout

        try:
            Path(Layout(self._sink["home"]).jobs).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Bring the list for people up to date."""
        if self._store is not None:
            self._store.close()

    def _open(self) -> FileJobStore:
        """Return the store; one that is not there, such as on a disk that is gone, is not made anew."""
        from python_mcp_server.store.files import FileJobStore
        from python_mcp_server.store.layout import Layout

        home = Path(self._sink["home"])
        if not Path(Layout(str(home)).jobs).is_dir():
            raise StoreError(f"There is no store in {home} any more; bring it back, or start the job again")
        if self._store is None:
            self._store = FileJobStore(home, lock_s=self._sink["lock_s"], fsync=self._sink["fsync"])
        return self._store
