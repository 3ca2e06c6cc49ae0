"""Runs async bodies that only wait on the server's own loop, with the same budget and the same hand-off.

There is no hard kill and no survival: a body that blocks here blocks the server. Nothing is pickled: the
body, its arguments, its value and its exception are the objects themselves, and the body sees the context
variables of its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server import context
from python_mcp_server.errors import InvalidInput
from python_mcp_server.items import drop_items
from python_mcp_server.model import Call, JobProgress, Outcome, ProcessIdentity
from python_mcp_server.pool import outcomes
from python_mcp_server.questions.open import OpenQuestions

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.questions.model import InputAnswer, QuestionEvent

_NOWHERE: Final = Path()


class InlineWorker:
    """Runs one async body as a task of the running loop, with the interface of a `WorkerHandle`."""

    identity: ProcessIdentity | None = None
    pid = 0
    gone = False
    detached = False
    cpu_seconds = 0.0
    log_folder = _NOWHERE

    def __init__(self, request: Request) -> None:
        self._request = request
        self._task: asyncio.Task[Any] | None = None
        self._inquiries: OpenQuestions | None = None
        self._cancelled = False

    def dispatch(
        self,
        call: Call,
        on_progress: Callable[[JobProgress], None],
        on_outcome: Callable[[Outcome], None],
        announce: Callable[[], None],
        on_question: Callable[[QuestionEvent], None],
    ) -> None:
        """Start the body; `on_outcome` is called once, whatever happens."""
        announce()
        loop = asyncio.get_running_loop()

        def tell(said: QuestionEvent) -> None:  # a thread of the body may ask, too
            loop.call_soon_threadsafe(on_question, said)

        inquiries = self._inquiries = OpenQuestions(tell, lambda: self._cancelled)
        job = context.JobContext(
            call.job_id,
            call.label,
            call.folder,
            on_progress,
            lambda: inquiries,
            grace_s=call.grace_s,
            is_cancelled=lambda: self._cancelled,
        )
        self._task = loop.create_task(self._run(call, job, on_outcome), name=f"inline-{call.job_id}")

    async def _run(self, call: Call, job: context.JobContext, on_outcome: Callable[[Outcome], None]) -> None:
        token = context.enter_job(job, whole_process=False)
        try:
            if call.queued:
                await asyncio.to_thread(drop_items, call.folder)
            outcome = Outcome(await self._awaitable(call))
        except BaseException as error:  # noqa: BLE001  whatever a body raises is its outcome
            cancelled = isinstance(error, asyncio.CancelledError) and self._is_cancelled()
            failure = None if cancelled else outcomes.failure_of(error, stays=True)
            outcome = Outcome(failure=failure, cancelled=cancelled)
        finally:
            context.leave_job(token)
            job.inquiries.close()
        on_outcome(Outcome(outcome.value, outcome.failure, outcome.cancelled, job.wants_record, job.touched))

    def _is_cancelled(self) -> bool:
        """Whether anyone has cancelled the body, and not the body itself."""
        task = asyncio.current_task()
        return self._cancelled or (task is not None and task.cancelling() > 0)

    def _awaitable(self, call: Call) -> Any:
        value = self._request.body(*call.args, **call.kwargs)
        if not hasattr(value, "__await__"):
            raise InvalidInput(
                f"{call.label} is no async function; isolation='inline' is for async bodies that wait"
            )
        return value

    def detach(self, record_class: str, record_locator: Any) -> None:
        """Do nothing: an inline body does not survive the server."""

    def record(self) -> None:
        """Do nothing: the output of an inline body is the server's own."""

    def answer(self, key: str, answer: InputAnswer | None, trouble: str | None = None) -> None:
        """Give the body the answer, or the reason why there is no answer."""
        if self._inquiries is not None:
            self._inquiries.resolve(key, answer, trouble)

    def cancel(self) -> None:
        """Cancel the task of the body."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()
