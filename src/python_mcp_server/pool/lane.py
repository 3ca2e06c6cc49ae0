"""One lane: one worker process with its wires, its calls and its end, as the front holds it."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

from python_mcp_server import processes
from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import Call, JobProgress, Outcome, ProcessIdentity
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.channel import (
    WINDOWS,
    Kind,
    LoopReader,
    LoopWriter,
    ThreadReader,
    pack,
)
from python_mcp_server.pool.deaths import death, exit_code_of
from python_mcp_server.pool.executor import LaneExecutor
from python_mcp_server.pool.pickling import dumps_by_value
from python_mcp_server.pool.steady import in_background, steady_task

_log: Final = logging.getLogger(__name__)
_DEATH_POLL_S: Final = 0.1
"""Between two looks at a worker where there are no pidfds."""


class Lane:
    """One worker process. All methods belong to the loop it was started on, without exception.

    Attributes:
        name: Of the lane, and of its log folder.
        identity: The worker; set when it is ready.
        call: What it runs, or None.
        kept: Whether its call was handed over.
        cpu_seconds: What the worker had used when its last call ended.
    """

    def __init__(
        self, name: str, log_folder: Path, threads: Executor, on_gone: Callable[[Lane], None]
    ) -> None:
        self.name = name
        self.log_folder = log_folder
        self.identity: ProcessIdentity | None = None
        self.pid = 0
        self.call: Call | None = None
        self.kept = False
        self.cpu_seconds = 0.0
        self.gone = False
        self._threads = threads
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._dead: asyncio.Future[None] = self._loop.create_future()
        self._buried: asyncio.Future[None] = self._loop.create_future()
        self._on_outcome: Callable[[Outcome], None] | None = None
        self._on_progress: Callable[[JobProgress], None] | None = None
        self._digests: set[str] = set()
        self._call_bytes = 0
        self._executor: LaneExecutor | None = None
        self._pidfd = -1

    # ---- life

    async def start(self, modules: list[str]) -> None:
        """Start the process and wait until it takes calls; then it loads `modules` in its idle time.

        Raises:
            OSError: The machine gives no process, memory or descriptors.
            RuntimeError: The process ended before it was ready; its log says why.
        """
        spawning = self._loop.run_in_executor(self._threads, self._spawn)
        try:
            await asyncio.shield(spawning)
        finally:  # also when this is cancelled: the process must be ours before `kill` can end it
            await asyncio.wait({spawning})
            if spawning.exception() is None:
                self._take_over(spawning.result())
        await asyncio.wait({self._ready, self._dead}, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise RuntimeError(f"the worker process ended before it was ready; see {self.log_folder}")
        self.identity = processes.identify(self.pid)
        in_background(self._loop, self._threads, spawning.result().forget_semaphores)
        if modules:
            self._send(self._calls, pack(Kind.IMPORT, pickle.dumps(modules)))

    def _take_over(self, executor: LaneExecutor) -> None:
        self._executor = executor
        self.pid = executor.pid
        front = executor.front
        self._calls = LoopWriter(self._loop, front.calls)
        self._control = LoopWriter(self._loop, front.control)
        reader = ThreadReader if WINDOWS else LoopReader
        source = front.up._reader if WINDOWS else front.up._reader.fileno()
        self._reader = reader(self._loop, source, self._on_frame)
        self._watch_death()

    def _spawn(self) -> LaneExecutor:
        self.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LaneExecutor(self.log_folder)

    def _watch_death(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except ProcessLookupError:
                self._on_death()
                return
            self._loop.add_reader(self._pidfd, self._on_death)
        else:
            self._loop.call_later(_DEATH_POLL_S, self._poll_death)

    def _poll_death(self) -> None:
        if self._dead.done():
            return
        if processes.identify(self.pid) is None:
            self._on_death()
        else:
            self._loop.call_later(_DEATH_POLL_S, self._poll_death)

    def _on_death(self) -> None:
        if self._dead.done():
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
        self.gone = True
        self._reader.drain()  # its last word may still be in the queue
        self._dead.set_result(None)
        if self._on_outcome is None:
            self._bury()
        else:
            steady_task(self._loop, self._fail_call(), f"lane-{self.name}-death")

    async def _fail_call(self) -> None:
        """The worker died under its call: end what it left running, then say so."""
        assert self.call is not None  # noqa: S101  a call has an outcome to wait for
        never_started = self._unread() >= self._call_bytes  # not one byte of the call was taken
        exit_code = await self._loop.run_in_executor(self._threads, self._clean_up, self.call.job_id)
        self._tell(Outcome(failure=death(exit_code, never_started=never_started), touched=not never_started))
        self._bury()

    def _unread(self) -> int:
        return self._calls.unsent + (self._executor.unread() if self._executor else 0)

    def _tell(self, outcome: Outcome) -> None:
        """Pass the outcome on, the first one only."""
        on_outcome, self._on_outcome, self._on_progress = self._on_outcome, None, None
        if on_outcome is not None:
            on_outcome(outcome)

    def _clean_up(self, job_id: str) -> int | None:
        exit_code = exit_code_of(self._pidfd, self._executor)
        processes.kill_tree(self.identity or self.pid, job_id=job_id, with_root=False)
        return exit_code

    def _let_go_of_wires(self) -> None:
        self._reader.close()
        self._calls.close()
        self._control.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _bury(self) -> None:
        self._let_go_of_wires()
        in_background(self._loop, self._threads, self._clear_away)
        self._buried.set_result(None)
        self._on_gone(self)

    def _clear_away(self) -> None:
        if self._executor is not None:
            self._executor.close()
        if self.call is None:  # else its job has not taken its output yet
            shutil.rmtree(self.log_folder, ignore_errors=True)

    # ---- calls

    def dispatch(
        self, call: Call, on_progress: Callable[[JobProgress], None], on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Send a call to the idle worker; `on_outcome` is called once, whatever happens.

        Raises:
            InvalidInput: An argument cannot be sent; the lane is idle still.
        """
        code = None if call.body in self._digests else call.code
        fields = (call.job_id, call.label, call.body, call.args, call.kwargs, call.folder, code)
        frame = pack(Kind.CALL, dump_arguments(fields))
        if code is not None:
            self._digests.add(call.body)
        self.call = call
        self._on_progress = on_progress
        self._on_outcome = on_outcome
        self._call_bytes = len(frame)
        self._send(self._calls, frame)

    def keep(self, sink: str, sink_args: Any) -> None:
        """Tell the worker to finish its call without a parent and to commit it through `sink`."""
        assert self.call is not None  # noqa: S101  only a busy lane is handed over
        self.kept = True
        self._send(self._control, pack(Kind.KEEP, pickle.dumps((self.call.job_id, sink, sink_args))))

    def record(self) -> None:
        """Tell the worker that its job is durable: the job's folder takes the output."""
        if self.call is not None:
            self._send(self._control, pack(Kind.RECORD, f"{self.call.job_id}\0{self.call.folder}".encode()))

    def cancel(self) -> None:
        """Raise `JobCancelled` in the body, if it hears."""
        if self.call is not None:
            self._send(self._control, pack(Kind.CANCEL, self.call.job_id.encode()))

    def _send(self, writer: LoopWriter, frame: bytes) -> None:
        try:
            writer.send(frame)
        except BrokenPipeError:
            _log.debug("lane %s: the worker is gone, its death is on its way", self.name)

    def _on_frame(self, kind: bytes, payload: bytes) -> None:
        if kind == Kind.PROGRESS and self._on_progress is not None:
            self._on_progress(JobProgress(*pickle.loads(payload)))
        elif kind == Kind.OUTCOME:
            (self.cpu_seconds,) = struct.unpack_from("!d", payload)
            self._tell(outcomes.decode(payload[8:]))
        elif kind == Kind.READY and not self._ready.done():
            _, self.cpu_seconds = pickle.loads(payload)
            self._ready.set_result(None)

    def finished(self) -> None:
        """The call is settled; the lane may take the next one, and of a gone lane nothing is needed."""
        self.call = self._on_outcome = None
        self.kept = False
        if self.gone:
            in_background(self._loop, self._threads, shutil.rmtree, self.log_folder, True)

    def drain(self) -> None:
        """Hear what the worker has sent by now, for code that keeps the loop from reading."""
        if not self.gone:
            self._reader.drain()

    # ---- end

    async def kill(self) -> list[int]:
        """End the whole tree and wait until it is gone; return the pids that would not go."""
        job_id = self.call.job_id if self.call else None
        survivors: list[int] = []
        if self.pid:
            survivors = await self._loop.run_in_executor(
                self._threads,
                lambda: processes.kill_tree(
                    self.identity or self.pid, job_id=job_id, with_root=not self.gone
                ),
            )
            await self._buried
        return survivors

    def set_free(self) -> None:
        """Let go of a worker with a kept job, on a loop that goes on: it finishes by itself."""
        self.gone = True
        self._let_go_of_wires()
        if self._executor is not None:
            self._executor.release()


def dump_arguments(fields: tuple[Any, ...]) -> bytes:
    """Pickle a call; by value where it has to be.

    Raises:
        InvalidInput: An argument cannot be sent to another process.
    """
    try:
        return pickle.dumps(fields, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  an argument may refuse in any way; cloudpickle takes more kinds
        try:
            return dumps_by_value(fields)
        except Exception as error:
            raise InvalidInput(
                f"an argument of {fields[1]} cannot be sent to a worker: {error}; pass plain data"
            ) from error
