"""One body inside its worker: found by name or by value, run within its limits, awaited where it is async."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput, LimitExceeded
from python_mcp_server.limits import Limits, jump_breach
from python_mcp_server.model import Call, Failure, Outcome
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.references import Bodies
from python_mcp_server.pool.worker.cancel import CancelGate
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.enforce import LimitChecker, confine_own_thread, rlimits, thread_variables

if TYPE_CHECKING:
    import asyncio


class BodyRunner:
    """Runs the bodies of a worker, one after the other, in its main thread.

    Attributes:
        checker: Checks the limits of the present body, if it has any; used after its server is gone.
        no_main: Why the main module is not loaded here; None where it is loaded.
    """

    def __init__(self, gate: CancelGate, bodies: Bodies, libc: Any, logs: tuple[str, ...]) -> None:
        self.checker: LimitChecker | None = None
        self.no_main: str | None = None
        self._gate = gate
        self._bodies = bodies
        self._libc = libc
        self._logs = logs
        self._loop = BodyLoop()
        self._pid = os.getpid()

    def run(self, call: Call, cpu_base_s: float) -> Outcome:
        """Run the body of this call and return its outcome.

        Args:
            call: The call.
            cpu_base_s: The CPU time of this process before the call.
        """
        limits = call.limits
        if limits is None:
            return self._run(call)
        self.checker = LimitChecker(
            limits,
            lambda: (os.getpid(),),
            cpu_base_s=lambda: -cpu_base_s,
            started_s=time.monotonic(),
            disk=DiskMeter((call.folder, *self._logs)),
        )
        try:
            with apply_limits(limits, self._libc):
                return as_limit_failure(self._run(call), limits)
        except InvalidInput as error:
            return Outcome(failure=outcomes.failure_of(error))
        finally:
            self.checker = None

    def _run(self, call: Call) -> Outcome:
        gate = self._gate
        try:
            body = self._bodies.find(call.body, call.code)
            self.end_if_forked()
            gate.enter(call.job_id, _enter.__code__)
            value = _enter(body, call.args, call.kwargs)
            kind = cast("type[object]", type(value))
            if hasattr(kind, "__await__"):  # looked up as `await` does: the value's own code may do anything
                value = self._loop.run(value, gate)
            gate.leave()
        except BaseException as error:  # noqa: BLE001  whatever a body raises is its outcome
            gate.leave()
            if gate.ended_by(error):
                return Outcome(cancelled=True)
            outcomes.explain(error)
            return Outcome(failure=self.failure_of(error))
        return Outcome(value)

    def failure_of(self, error: BaseException) -> Failure:
        """Return the exception as data, with a note where the missing main module may be the cause."""
        return outcomes.with_missing_main(outcomes.failure_of(error), self.no_main)

    def end_if_forked(self) -> None:
        """End a process that the body's code forked and that returned from it: it is not the worker."""
        if os.getpid() != self._pid:
            os._exit(1)


def _enter(body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the body. A cancel is raised only in frames below this function's."""
    return body(*args, **kwargs)


@contextmanager
def apply_limits(limits: Limits, libc: Any) -> Generator[None]:
    """Run a body within its limits. Priority and cores are not restored: such a worker takes no further call.

    Args:
        limits: The call's.
        libc: The C library, to release the unused memory of earlier calls first; None without.

    Raises:
        InvalidInput: This machine or this account cannot set the limits.
    """
    if limits.memory_limit_mb is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    os.environ.update(thread_variables(limits))
    confine_own_thread(limits)
    with rlimits(limits):
        yield


def as_limit_failure(outcome: Outcome, limits: Limits) -> Outcome:
    """Report a body's `MemoryError` as an exceeded memory limit, if it had one."""
    failure = outcome.failure
    if failure is None or limits.memory_limit_mb is None:
        return outcome
    if failure.type_name not in ("MemoryError", "numpy._core._exceptions._ArrayMemoryError"):
        return outcome
    breach = jump_breach(limits)
    told = outcomes.failure_of(LimitExceeded(breach.sentence, breach.kind))
    return Outcome(failure=replace(told, traceback_text=failure.traceback_text))


_LEFTOVERS_S: Final = 1.0
"""The time for tasks that a body left running to react to their cancel; guessed: `finally` blocks are
short.
"""


class BodyLoop:
    """The event loop for async bodies, made by the first one and kept, because a loop costs 1 ms."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any], gate: CancelGate) -> Any:
        """Run an async body; tasks that it leaves running end with it.

        Args:
            awaitable: The object that the body returned.
            gate: Carries a cancel to the body.
        """
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        loop = self._loop
        task = asyncio.ensure_future(awaitable, loop=loop)
        gate.deliver_to(task, BodyLoop.run.__code__)
        try:
            return loop.run_until_complete(task)
        finally:
            self._end_leftovers(loop)

    def _end_leftovers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the tasks that the body left: they would print into the output of the next one."""
        import asyncio

        if not (leftovers := asyncio.all_tasks(loop)):
            return
        for task in leftovers:
            task.cancel()
        ended, deaf = loop.run_until_complete(asyncio.wait(leftovers, timeout=_LEFTOVERS_S))
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "a task that the body left failed", "exception": error, "task": task}
                )
        if deaf:
            self._loop = None  # a task that ignores the cancel stays on a loop that never runs again
