"""One worker as the server holds it: its process, its wires, its calls and its end.

`OffloadQueue` does work on large values beside the event loop, one piece at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import struct
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from python_mcp_server import processes
from python_mcp_server.atomic import make_directory
from python_mcp_server.model import Call, Failure, JobProgress, Outcome, ProcessIdentity
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.main_module import MainFile, MainModule
from python_mcp_server.pool.pickling import HEAVY_BYTES, dump_arguments, exceed_inline_size
from python_mcp_server.pool.process import DeathWatch, WorkerProcess, exit_code_of
from python_mcp_server.pool.protocol import WINDOWS, Kind, pack
from python_mcp_server.pool.server_state import ServerState, present_state
from python_mcp_server.pool.steady import done, in_background, in_thread, steady_task, to_thread
from python_mcp_server.pool.transport import LoopReader, LoopWriter, ThreadReader
from python_mcp_server.pool.worker.questions import answer_frame, read_question
from python_mcp_server.pool.worker.streams import LOGS_IN_HOME, early_log, remove_logs
from python_mcp_server.questions.model import InputAnswer, QuestionEvent
from python_mcp_server.regular import refuse_links

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class OffloadQueue:
    """Runs work items one after the other in a thread; the function that follows each runs on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self._loop = loop
        self._threads = threads
        self._present: Future[Any] | None = None
        self._then: Callable[[Future[Any]], object] = bool

    @property
    def busy(self) -> bool:
        """Whether a work item is running, or its following function has not run yet."""
        return self._present is not None

    def run(self, work: Callable[[], T], then: Callable[[Future[T]], object]) -> None:
        """Run `work` in a thread, then call `then` with the finished future."""
        self._then = then
        try:
            self._present = future = self._threads.submit(work)
        except RuntimeError as error:
            _log.info("no thread is to be had, the loop stands still meanwhile: %s", error)
            self._present = future = done(work)
        future.add_done_callback(self._wake)

    def _wake(self, future: Future[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._end, future)
        except RuntimeError:
            _log.debug("the loop is closed: nobody waits for the large value")

    def _end(self, future: Future[Any]) -> None:
        if self._present is future:
            self._present = None
            self._then(future)

    def finish(self) -> None:
        """Wait for the work item and run its following function now, for code that blocks the loop."""
        if (future := self._present) is not None:
            future.exception()
            self._end(future)


_REAP_TIMEOUT_S: Final = 10.0
"""How long a kill waits for the loop to take note of the death; guessed: far more than that ever takes."""


class WorkerHandle:
    """One worker process. All methods belong to the loop that it was started on, without exception.

    Attributes:
        name: The name of the worker and of its log folder.
        identity: The identity of the worker process; set when it is ready.
        call: The call that the worker runs, or None.
        detached: Whether the call goes on without its caller.
        cpu_seconds: The worker's CPU time when its last call ended.
        gone: Whether the worker is dead or released by this process.
        let_go: Whether the worker finishes its call by itself, and is no longer heard.
        retired: Whether a kill was tried: the worker takes no more calls, even if it still lives.
        died_unused: Whether the worker died before it read a first call.
        generation: The pool's generation when the worker was started.
        main_failed: Whether the worker could not load the main module, and so has read no further frames.
    """

    def __init__(
        self,
        name: str,
        log_folder: Path,
        threads: Executor,
        large: Executor,
        on_gone: Callable[[WorkerHandle], None],
        *,
        generation: int = 0,
        main: MainModule | None = None,
        on_main_failed: Callable[[WorkerHandle], object] = bool,
    ) -> None:
        self.name = name
        self.generation = generation
        self.main_failed = False
        self._main, self._on_main_failed = main, on_main_failed
        self._told_of_main: MainFile | str | None = None
        self._unreadable: str | None = None
        self._loads_main = False
        self.log_folder = log_folder
        self.identity: ProcessIdentity | None = None
        self.call: Call | None = None
        self.detached = False
        self.cpu_seconds = 0.0
        self.gone = self.let_go = self.retired = self.died_unused = False
        self._used = self._outcome_came = False
        self._threads, self._on_gone = threads, on_gone
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._dead: asyncio.Future[None] = self._loop.create_future()
        self._early_end: asyncio.Future[RuntimeError] | None = None
        self._cleaned_up: asyncio.Future[None] = self._loop.create_future()
        self._on_outcome: Callable[[Outcome], None] | None = None
        self._on_progress: Callable[[JobProgress], None] | None = None
        self._on_question: Callable[[QuestionEvent], None] | None = None
        self._digests: set[str] = set()
        self.pid = self._call_bytes = 0
        self._process: WorkerProcess | None = None
        self._state: ServerState | None = None
        self._offload = OffloadQueue(self._loop, large)

    # ---- life

    async def start(self, modules: list[str]) -> None:
        """Start the process and wait until it takes calls; afterwards it loads `modules` in its idle time.

        Raises:
            OSError: The machine has no process, memory or descriptors left.
            RuntimeError: The process ended before it was ready; its cause is a shortage, if it was short of
                something.
        """
        spawning = to_thread(self._loop, self._threads, self._spawn)
        try:
            await asyncio.shield(spawning)
            process = spawning.result()
        except asyncio.CancelledError:  # the process must belong to this handle before `kill` can end it
            self.retired = True
            await asyncio.wait({spawning})
            if spawning.exception() is None:
                self._connect(spawning.result())
            raise
        finally:
            del spawning  # with the error of a failed start it would be a cycle that holds descriptors
        self._connect(process)
        await asyncio.wait({self._ready, self._dead}, return_when=asyncio.FIRST_COMPLETED)
        if self._early_end is not None:
            raise await self._early_end
        identity = processes.identify(self.pid)
        self.identity = identity and replace(identity, worker_id=process.worker_id)
        process.ready = True
        if modules:
            self._send(self._calls, pack(Kind.IMPORT, pickle.dumps(modules)))

    def _connect(self, process: WorkerProcess) -> None:
        self._process = process
        self.pid = process.pid
        pipes = process.server_pipes
        self._calls = LoopWriter(self._loop, pipes.calls)
        self._control = LoopWriter(self._loop, pipes.control)
        reader = ThreadReader if WINDOWS else LoopReader
        source = pipes.up.reader if WINDOWS else pipes.up.reader.fileno()
        self._reader = reader(self._loop, source, self._on_frame)
        self._death = DeathWatch(self._loop, self.pid, self._on_death)
        self._death.start()

    def _spawn(self) -> WorkerProcess:
        if self.retired:
            raise RuntimeError("the pool was closed before the worker was started")
        refuse_links(str(self.log_folder), LOGS_IN_HOME)
        make_directory(str(self.log_folder))
        self._state = present_state()
        self._process = process = WorkerProcess(self.log_folder, self._loop.is_running)
        if self.gone:
            process.orphan()  # abandoned while it was being started
        return process

    def _on_death(self) -> None:
        if self._dead.done():
            return
        self.gone = True
        try:
            self._reader.drain()  # its outcome may still be in the queue
        except Exception:  # noqa: BLE001  whatever is wrong with the wire, its caller must hear of its end
            _log.exception("the last words of the worker %s are lost", self.name)
        self._dead.set_result(None)
        if self._loads_main and not self.retired:
            self._on_main_loaded("", died=True)
        if not self._ready.done():
            self._end_early()
        elif self._on_outcome is None or (self._outcome_came and self._unreadable is None):
            self.died_unused = not self._used
            self._cleanup()
        else:
            steady_task(self._loop, self._fail_call(), f"worker-{self.name}-death")

    def _end_early(self) -> None:
        """Find out why a worker was never ready, before its log is removed."""
        self.died_unused = True
        self._early_end = in_thread(self._loop, self._threads, self._find_early_end)
        self._early_end.add_done_callback(lambda _: self._cleanup())

    def _find_early_end(self) -> RuntimeError:
        return outcomes.early_end(exit_code_of(self._death.pidfd, self._process), early_log(self.log_folder))

    async def _fail_call(self) -> None:
        """Fail the call of a worker that died: end the processes that it left, then report the death."""
        assert self.call is not None  # noqa: S101  a call has an outcome to wait for
        never_started, exit_code = False, None
        try:
            # no byte of the call was read, or the worker stopped before
            never_started = self.main_failed or self._unread() >= self._call_bytes
            self.died_unused = never_started and not self._used
            exit_code = await in_thread(self._loop, self._threads, self._clean_up, self.call.job_id)
        except Exception:  # noqa: BLE001  whatever fails here, the caller is told and the worker goes
            _log.exception("the end of the worker %s is not known well", self.name)
        finally:
            if not self._loop.is_closed():  # otherwise this task is abandoned with it
                self._end_call(
                    outcomes.death(exit_code, never_started=never_started), touched=not never_started
                )

    def _end_call(self, failure: Failure, *, touched: bool) -> None:
        try:
            if self._unreadable is not None:
                self._deliver(_outcome_without_value(self._unreadable))
            else:
                self._deliver(Outcome(failure=failure, touched=touched))
        finally:
            self._cleanup()

    def _unread(self) -> int:
        return self._calls.unsent + (self._process.unread() if self._process else 0)

    def _deliver(self, outcome: Outcome) -> None:
        """Pass on the first outcome; ignore any later one."""
        on_outcome, self._on_outcome = self._on_outcome, None
        self._on_progress = self._on_question = None
        if on_outcome is not None:
            on_outcome(outcome)

    def _clean_up(self, job_id: str) -> int | None:
        exit_code = exit_code_of(self._death.pidfd, self._process)
        try:
            processes.kill_tree(self.identity or self.pid, job_id=job_id, with_root=False)
        except OSError:
            _log.exception("what job %s has left running could not be ended", job_id)
        return exit_code

    def _close_wires(self) -> None:
        self._reader.close()
        self._calls.close()
        self._control.close()
        self._death.close()

    def _cleanup(self) -> None:
        try:
            self._close_wires()
            in_background(self._loop, self._threads, self._remove_leftovers)
        finally:
            self._cleaned_up.set_result(None)
            self._on_gone(self)

    def _remove_leftovers(self) -> None:
        if self._process is not None:
            self._process.close()
        if self.call is None:  # otherwise the job has not taken its output yet
            remove_logs(str(self.log_folder))

    # ---- calls

    def follow(self, state: ServerState) -> None:
        """Apply this server state before the next call."""
        if state is self._state:
            return
        change = self._state and self._state.change_to(state)
        self._state = state
        if change is not None:
            self._send(self._calls, pack(Kind.STATE, pickle.dumps(change)))

    def tell_main(self, main: MainFile | str) -> None:
        """Make the worker load the main module, once, or send it the reason for not loading it."""
        if self._told_of_main == main or isinstance(self._told_of_main, MainFile):
            return
        self._told_of_main = main
        self._loads_main = isinstance(main, MainFile)
        self._send(self._calls, pack(Kind.MAIN, pickle.dumps(main)))

    def dispatch(
        self,
        call: Call,
        on_progress: Callable[[JobProgress], None],
        on_outcome: Callable[[Outcome], None],
        announce: Callable[[], None],
        on_question: Callable[[QuestionEvent], None] | None = None,
    ) -> None:
        """Send a call to the idle worker.

        Args:
            call: The call.
            on_progress: Gets its progress.
            on_outcome: Called exactly once.
            announce: Called before the call is sent, to `record` and `detach` it: so a body that has started
                is recorded and detached, even if this process ends before its next step.
            on_question: Gets its questions.

        Raises:
            InvalidInput: An argument cannot be sent; the worker is still idle.
        """
        code = None if call.body in self._digests else call.code
        what = (call.job_id, call.label, call.body, call.args, call.kwargs, call.folder, code)
        fields = (*what, call.limits, call.unbegun, call.grace_s)
        heavy = exceed_inline_size(call.args, call.kwargs)
        if call.main is not None:
            self.tell_main(call.main)
        frame = b"" if heavy else pack(Kind.CALL, dump_arguments(fields, self._main, self.tell_main))
        if code is not None:
            self._digests.add(call.body)
        self.call, self._call_bytes = call, len(frame)
        self._outcome_came, self._unreadable = False, None
        self.retired = call.limits is not None and call.limits.single_use_worker
        self._on_progress, self._on_outcome, self._on_question = on_progress, on_outcome, on_question
        announce()
        if heavy:
            tell_main = partial(self._loop.call_soon_threadsafe, self.tell_main)
            dump = partial(dump_arguments, fields, self._main, tell_main, in_thread=True)
            self._offload.run(dump, partial(self._send_heavy, call))
        else:
            self._send(self._calls, frame)

    def _send_heavy(self, call: Call, dumped: Future[bytes]) -> None:
        if self.call is not call or self.gone:
            return
        if (error := dumped.exception()) is not None:
            self._deliver(Outcome(failure=outcomes.failure_of(error)))
            return
        frame = pack(Kind.CALL, dumped.result())
        self._call_bytes = len(frame)
        self._send(self._calls, frame)

    @property
    def sending(self) -> bool:
        """Whether a part of the call is not in the pipe yet."""
        return not self.gone and (self._offload.busy or bool(self._calls.unsent))

    def detach(self, record_class: str, record_locator: Any) -> None:
        """Tell the worker to finish its call without a parent, and to write the end into the record. The
        named class opens the record by this locator.
        """
        assert self.call is not None  # noqa: S101  only a busy worker is detached
        self.detached = True
        facts = (self.call.job_id, record_class, record_locator)
        self._send(self._control, pack(Kind.DETACH, pickle.dumps(facts)))

    def record(self) -> None:
        """Tell the worker that its job is durable: the job's folder gets the output."""
        if self.call is not None:
            facts = os.fsencode(f"{self.call.job_id}\0{self.call.folder}")  # a home may not be valid UTF-8
            self._send(self._control, pack(Kind.RECORD, facts))

    def cancel(self) -> None:
        """Raise `JobCancelled` in the body, if it runs Python code."""
        if self.call is not None:
            self._send(self._control, pack(Kind.CANCEL, self.call.job_id.encode()))

    def answer(self, key: str, answer: InputAnswer | None, trouble: str | None = None) -> None:
        """Give the body the answer, or the reason why there is no answer."""
        if self.call is not None and not self.gone:
            self._send(self._control, answer_frame(self.call.job_id, key, answer, trouble))

    def _on_main_loaded(self, trouble: str, *, died: bool = False) -> None:
        self._loads_main = False
        self.main_failed = died or bool(trouble)
        if self._main is not None:
            self._main.on_loaded(trouble, died=died)
        if self.main_failed:
            self._on_main_failed(self)

    def _on_question_frame(self, payload: bytes) -> None:
        job_id, said = read_question(payload)
        if self._on_question is not None and self.call is not None and self.call.job_id == job_id:
            self._on_question(said)

    def _send(self, writer: LoopWriter, frame: bytes) -> None:
        try:
            writer.send(frame)
        except BrokenPipeError:
            _log.debug("worker %s is gone, its death is on its way", self.name)

    def _on_frame(self, kind: bytes, payload: bytes) -> None:
        if kind == Kind.PROGRESS and self._on_progress is not None:
            self._on_progress(JobProgress(*pickle.loads(payload)))
        elif kind == Kind.QUESTION:
            self._on_question_frame(payload)
        elif kind == Kind.OUTCOME:
            self._used = self._outcome_came = True
            (self.cpu_seconds,) = struct.unpack_from("!d", payload)
            self._decode_outcome(payload)
        elif kind == Kind.MAIN:
            self._on_main_loaded(payload.decode())
        elif kind == Kind.READY and not self._ready.done():
            _, self.cpu_seconds = pickle.loads(payload)
            self._ready.set_result(None)

    def _decode_outcome(self, payload: bytes) -> None:
        if len(payload) <= HEAVY_BYTES:
            self._take_outcome(outcomes.decode(payload[8:]))
        else:  # it is the last frame of this call: nothing can overtake it
            self._offload.run(
                lambda: outcomes.decode(payload[8:], in_thread=True),
                lambda read: self._take_outcome(read.result()),
            )

    def _take_outcome(self, outcome: Outcome) -> None:
        """Pass the outcome on; where its value cannot be rebuilt here, ask for its JSON form first."""
        failure = outcome.failure
        if failure is None or failure.kind != outcomes.UNREADABLE:
            self._deliver(outcome)
        elif self.gone or self._unreadable is not None:
            self._deliver(_outcome_without_value(failure.message))
        else:
            self._unreadable = failure.message
            self._send(self._calls, pack(Kind.SHOW, failure.message.encode(errors="replace")))

    def finished(self) -> None:
        """Note that the call is settled: the worker may take another; a dead worker's files are removed."""
        self.call = self._on_outcome = None
        self.detached = False
        if self.gone:
            in_background(self._loop, self._threads, remove_logs, str(self.log_folder))

    def drain(self) -> None:
        """Read the frames that the worker has sent by now, for code that keeps the loop from reading."""
        if not self.gone:
            self._reader.drain()
            self._offload.finish()

    # ---- end

    async def kill(self) -> list[int]:
        """End the whole tree and wait until it is gone; return the pids that did not end.

        Raises:
            OSError: There were no descriptors or no memory for the kill.
        """
        self.retired = True
        if not self.pid:
            return []
        survivors = await in_thread(self._loop, self._threads, self._end_processes)
        if self.pid not in survivors:
            cleaned_up, _ = await asyncio.wait({self._cleaned_up}, timeout=_REAP_TIMEOUT_S)
            survivors += [] if cleaned_up else [self.pid]
        return survivors

    def _end_processes(self) -> list[int]:
        if self._process is not None and not self._ready.done():
            self._process.end_unready()
            return []
        job_id = self.call.job_id if self.call else None
        return processes.kill_tree(self.identity or self.pid, job_id=job_id, with_root=not self.gone)

    def abandon(self) -> None:
        """Abandon the worker without a loop; any thread may call this."""
        self.gone = True
        if self._process is not None:
            self._process.orphan()

    def orphan(self) -> None:
        """Release a worker with a detached job, on a loop that goes on: it finishes the job by itself."""
        self.gone = self.let_go = True
        self._on_outcome = None
        self._close_wires()
        if self._process is not None:
            self._process.orphan()


def _outcome_without_value(reason: str) -> Outcome:
    """Return the outcome of a body whose value can no longer be shown."""
    return Outcome(touched=True, shown=(None, f"{reason}; its worker is gone, and with it what it holds"))
