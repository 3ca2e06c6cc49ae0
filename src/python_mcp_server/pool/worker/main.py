"""The main loop of a worker process: a Call in, an Outcome out.

The main thread reads calls and runs bodies, so that bodies may use signals and a loop of their own.
The control thread receives detach and cancel, and notices when the parent is gone: a worker without a
detached job then exits at once; a worker with a detached job finishes it, commits it by itself, and exits.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import pickle
import shutil
import struct
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from python_mcp_server import context, processes
from python_mcp_server.errors import InvalidInput
from python_mcp_server.items import drop_items
from python_mcp_server.model import Call, Failure, JobProgress, Outcome
from python_mcp_server.pool import outcomes
from python_mcp_server.pool.main_module import MainFile, load_main, stand_in_for_main
from python_mcp_server.pool.protocol import (
    PIPE_ATOM,
    READ_SIZE,
    WINDOWS,
    FrameParser,
    Kind,
    UpWriter,
    WorkerPipes,
    mark_begun,
    pack,
)
from python_mcp_server.pool.references import Bodies
from python_mcp_server.pool.start import silent_without
from python_mcp_server.pool.worker.body import BodyRunner
from python_mcp_server.pool.worker.cancel import CancelGate
from python_mcp_server.pool.worker.control import GRACE_S, ControlHandlers, ControlThread, Termination
from python_mcp_server.pool.worker.orphan import Body, DetachedJob, Orphan, kill_leftovers
from python_mcp_server.pool.worker.progress import ProgressGate, bounded
from python_mcp_server.pool.worker.questions import BodyQuestions
from python_mcp_server.pool.worker.state import ProcessState
from python_mcp_server.pool.worker.streams import (
    WorkerLogs,
    adopt_logs,
    confine,
    flush_output,
    remove_logs,
    try_link_logs,
)
from python_mcp_server.processes.inherited import restore_open_files
from python_mcp_server.regular import IN_HOME, refuse_links
from python_mcp_server.runner.enforce import (
    keep_threads_to_cores,
)

_log: Final = logging.getLogger(__name__)
_UNREAD_S: Final = 2.0
"""How long the main thread of an orphan waits for a detached call in its pipe; guessed. The pipe ends with
the server, unless a process that the server forked holds it open.
"""

_LOAD_S: Final = 60.0
"""How long the main module may take to load; guessed. A module that waits for a resource of the server never
ends.
"""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of a new worker."""

    ends: WorkerPipes
    log_folder: str
    parent_pid: int


class _State:
    """Carries the worker from loky's initializer, which alone can receive pipes, to `serve`."""

    worker: Worker | None = None


def start(config: WorkerConfig) -> None:
    """Make this process a worker. This runs as loky's initializer, before any other code."""
    with silent_without(config.parent_pid):
        _start(config)


def _start(config: WorkerConfig) -> None:
    logs = WorkerLogs(config.log_folder)
    restore_open_files()
    libc = confine()
    keep_threads_to_cores()
    stand_in_for_main()
    multiprocessing.set_start_method(None, force=True)  # loky's own, unknown to a body's children
    context.mark_worker()
    _State.worker = Worker(config, logs, libc)
    _State.worker.watch_parent()


def serve() -> None:
    """Run calls until the parent is gone or detaches."""
    if _State.worker is None:
        raise RuntimeError("the worker was not started")
    _State.worker.serve()


class Worker:
    """One worker process."""

    def __init__(self, config: WorkerConfig, logs: WorkerLogs, libc: Any) -> None:
        self._calls = config.ends.calls
        self._up = UpWriter(config.ends.up)
        self._log_folder = config.log_folder
        self._logs = logs
        self._libc = libc
        self._pid = os.getpid()
        self._cancel_gate = CancelGate()
        self._grace_s = GRACE_S
        self._termination = Termination(self._cancel_gate, lambda: self._grace_s)
        self._process_state = ProcessState(libc)
        bodies = Bodies(self._process_state.note_variables)
        self._runner = BodyRunner(self._cancel_gate, bodies, libc, tuple(map(str, logs.paths)))
        self._progress = ProgressGate(self._offer_progress)
        self._questions = BodyQuestions(self._up.send, self._cancel_gate.told, lambda: self._orphaned)
        self._lock = threading.Lock()
        self._job_id: str | None = None
        self._ended: tuple[str, Outcome] | None = None
        self._detached: DetachedJob | None = None
        self._durable: tuple[str, str] | None = None
        self._lasting_id = ""
        self._folder = ""
        self._threads = 0
        self._runs_programs = False
        self._orphaned = False
        self._orphan_ended = threading.Event()
        self._call_read = threading.Event()
        self._reads_since: float | None = None
        self._cpu_s = self._cpu_base_s = 0.0
        handlers = ControlHandlers(
            self._on_detach,
            self._on_record,
            self._on_lasts,
            self._cancel_gate.request,
            self._questions.hear,
            self._on_orphaned,
        )
        self._control = ControlThread(config.ends.control, config.parent_pid, handlers)
        config.ends.up.reader.close()  # otherwise this process would never notice that the reader is gone

    # ---- main thread

    def watch_parent(self) -> None:
        """Exit when the parent is gone, even if that happens before it has called `serve`: loky's own worker
        would wait for that call for ever.
        """
        self._control.start()

    def serve(self) -> None:
        """Read frames and run calls. This never returns: a loky worker would then wait for its queue."""
        try:
            self._cpu_s = _cpu_seconds()
            self._up.send(pack(Kind.READY, pickle.dumps((self._pid, self._cpu_s))))
            self._read_frames()
        except BaseException:  # noqa: BLE001  loky would keep the process, and the call would never end
            _log.exception("the worker cannot go on")
            os._exit(1)
        self._wait_for_exit()

    def _read_frames(self) -> None:
        parser = FrameParser()
        while data := self._await_data():
            for kind, payload in parser.feed(data):
                if kind == Kind.CALL:
                    self._run_call(payload)
                    if not self._process_state.restore():
                        self._leave_next_call_unread()
                elif kind == Kind.SHOW:
                    self._show(payload.decode())
                elif kind == Kind.MAIN:
                    self._load_main(pickle.loads(payload))
                elif kind == Kind.STATE:
                    self._process_state.follow(pickle.loads(payload))
                elif kind == Kind.IMPORT:
                    _import_modules(pickle.loads(payload))
                    self._runner.end_if_forked()
                    self._process_state.note_variables()

    def _show(self, reason: str) -> None:
        """Send the JSON form of the last value, because the server cannot rebuild the value."""
        if self._ended is None:
            return
        try:
            self._send(outcomes.shown(self._ended[1], reason))
        except BrokenPipeError:
            self._wait_for_exit()

    def _load_main(self, main: MainFile | str) -> None:
        if isinstance(main, str):
            self._runner.no_main = main
            return
        late = f"{main.path} is not loaded after {_LOAD_S:g} s"
        alarm = threading.Timer(_LOAD_S, self._report_main, (late,))
        alarm.daemon = True
        alarm.start()
        try:
            load_main(main)
        except BaseException as error:  # noqa: BLE001  the user's program may end in any way
            self._runner.end_if_forked()
            _log.warning("%s cannot be loaded", main.path, exc_info=True)
            said = " ".join(outcomes.failure_of(error).sentence.partition("\n\n")[0].split())
            self._report_main(f"{main.path} cannot be loaded in a worker: {said}")
            self._wait_for_exit()
        finally:
            alarm.cancel()
        self._runner.end_if_forked()
        self._process_state.note_all()
        self._report_main("")

    def _report_main(self, trouble: str) -> None:
        try:
            self._up.send(pack(Kind.MAIN, trouble.encode(errors="replace")))
        except BrokenPipeError:
            _log.debug("the parent is gone and hears nothing of the main module: %s", trouble)

    def _await_data(self) -> bytes:
        self._reads_since = time.monotonic()
        data = self._read()
        self._reads_since = None
        return data

    def _read(self) -> bytes:
        if not WINDOWS:
            return os.read(self._calls.fileno(), READ_SIZE)
        try:
            frame = self._calls.recv_bytes()
        except (EOFError, OSError):
            return b""
        return pack(frame[:1], frame[1:])

    def _run_call(self, payload: bytes) -> None:
        try:
            call = Call(*pickle.loads(payload))
        except BaseException as error:  # noqa: BLE001  an argument's class is missing here, or refuses to be rebuilt
            self._send(Outcome(failure=self._runner.failure_of(error)))
            return
        self._process_state.begin(processes.JOB_VARIABLE, call.job_id)
        self._grace_s = max(GRACE_S, call.grace_s)
        if not self._begin(call):
            self._wait_for_exit()
        if (call.queued or call.unbegun) and (failure := self._note_begin(call)) is not None:
            self._finish(call.job_id, Outcome(failure=failure), None)
            return
        questions = self._questions.open(call.job_id)
        report = self._progress.open()
        facts = (call.job_id, call.label, call.folder, report, questions)
        gate = self._cancel_gate
        job = context.JobContext(
            *facts,
            grace_s=call.grace_s,
            raise_pending=gate.raise_pending,
            is_cancelled=lambda: gate.cancelled,
        )
        token = context.enter_job(job, whole_process=True)
        if call.limits is not None:
            self._cpu_base_s = _cpu_seconds()
        outcome = self._runner.run(call, self._cpu_base_s)
        self._runner.end_if_forked()
        unsent = self._progress.close()
        self._questions.close()
        context.leave_job(token)
        flush_output(self._libc)
        self._give_logs_at_end()
        if job.wants_record or job.touched:
            outcome = replace(outcome, wants_record=job.wants_record, touched=job.touched)
        self._finish(call.job_id, outcome, unsent)

    def _note_begin(self, call: Call) -> Failure | None:
        """Remove the note that the body has not begun, and the items of an earlier attempt; return the reason
        where that fails.
        """
        try:
            drop_items(call.folder)
            if call.unbegun:
                mark_begun(call.unbegun)
        except OSError as error:
            sentence = f"The job cannot begin: its home cannot be written ({error}); start it again"
            return self._runner.failure_of(InvalidInput(sentence))
        return None

    def _begin(self, call: Call) -> bool:
        """Prepare for a call; False where the parent is gone and no process would receive its outcome."""
        with self._lock:
            if self._orphaned and (self._detached is None or self._detached.job_id != call.job_id):
                return False
            self._job_id, self._ended, self._folder = call.job_id, None, call.folder
            self._runs_programs = call.runs_programs
            self._cpu_base_s = self._cpu_s
            self._logs.refresh()
            self._threads = threading.active_count()
            if call.queued:
                self._logs.go_on(call.folder)
            if call.unbegun:
                self._durable = (call.job_id, call.folder)
            if WINDOWS or self._lasting_id == call.job_id:
                self._give_logs()
            if self._orphaned:
                self._call_read.set()
        return True

    def _finish(self, job_id: str, outcome: Outcome, unsent: JobProgress | None) -> None:
        with self._lock:
            self._job_id, self._ended = None, (job_id, outcome)
            orphaned = self._orphaned
        if orphaned:
            self._cancel_gate.finish()
            self._orphan_ended.set()
            self._wait_for_exit()
        try:
            if unsent is not None:
                self._up.send(_progress_frame(unsent))
            self._send(outcome)
        except BrokenPipeError:
            self._wait_for_exit()

    def _wait_for_exit(self) -> NoReturn:
        """Wait, because the parent is gone. Only the control thread may act: a `detach` may be unread."""
        self._call_read.set()
        while True:
            threading.Event().wait()

    def _leave_next_call_unread(self) -> NoReturn:
        """Leave the next call in its pipe, so that another worker gets it, because a body has changed this
        process for good. Until that call comes, this worker may have to commit its last job, because the
        parent may end first.
        """
        self._calls.poll(None)
        self._cancel_gate.go()

    def _send(self, outcome: Outcome) -> None:
        self._cpu_s = _cpu_seconds()
        self._up.send(pack(Kind.OUTCOME, struct.pack("!d", self._cpu_s) + outcomes.encode(outcome)))

    def _offer_progress(self, progress: JobProgress) -> bool:
        if self._orphaned:
            return True  # the server is gone; the record gets the last one
        frame = _progress_frame(progress)
        return len(frame) > PIPE_ATOM or self._up.offer(frame)

    # ---- control thread

    def _on_detach(self, payload: bytes) -> None:
        with self._lock:
            self._detached = DetachedJob(*pickle.loads(payload))

    def _on_record(self, job_id: str, folder: str) -> None:
        """Note which job has a record. It gets the logs when it lasts, or has printed anything at its end."""
        with self._lock:
            self._durable = (job_id, folder)
            if WINDOWS:  # no thread looks whether it lasts
                self._give_logs()

    def _on_lasts(self) -> None:
        """Give the job with a record the logs; where its call is still unread, when it begins."""
        with self._lock:
            self._lasting_id = (self._durable or ("",))[0]
            self._give_logs()

    def _give_logs(self) -> None:
        """Give the present job the logs, if it has a record. The caller holds the lock."""
        if self._durable is not None and self._durable[0] == self._job_id:
            try_link_logs(self._log_folder, self._durable[1])

    def _give_logs_at_end(self) -> None:
        """Give a job with a record the logs where they hold anything, or may get more after its end."""
        durable = self._durable
        if durable is not None and durable[0] == self._job_id and self._logs.in_use(self._threads):
            with self._lock:
                self._give_logs()

    def _on_orphaned(self) -> None:
        """Exit, because the parent is gone: now, or after the detached job. Never returns."""
        with self._lock:
            self._orphaned = True
            detached, job_id = self._detached, self._latest()
            # a job that has ended may have got its record afterwards
            unrecorded = self._job_id is not None and (self._durable or ("",))[0] != job_id
        if detached is not None and detached.job_id != job_id:  # the call may be in the pipe, still unread
            self._await_unread()
            with self._lock:
                job_id = self._latest()
        try:
            if detached is not None and detached.job_id == job_id:
                Orphan(detached, self._body()).run_to_completion()
            kill_leftovers(job_id, body_runs=self._job_id is not None)
            if unrecorded:
                refuse_links(self._folder, IN_HOME)
                shutil.rmtree(self._folder, ignore_errors=True)
        except BaseException:  # noqa: BLE001
            _log.exception("the worker of job %s left something undone", job_id)
        finally:
            remove_logs(self._log_folder)
            os._exit(0)

    def _await_unread(self) -> None:
        """Wait until the main thread has read the call, also while it imports modules for an earlier one."""
        while not self._call_read.wait(_UNREAD_S):
            since = self._reads_since
            if since is not None and time.monotonic() - since > _UNREAD_S:
                return

    def _latest(self) -> str | None:
        return self._ended[0] if self._ended else self._job_id

    def _body(self) -> Body:
        return Body(
            cpu_base_s=self._cpu_base_s,
            progress=lambda: self._progress.last,
            await_end=self._await_end,
            cancel=self._cancel_gate.request,
            adopt_logs=self._adopt_logs,
            checker=self._runner.checker,
            questions=lambda: self._questions.present,
            terminated=self._termination.wanted,
            runs_programs=self._runs_programs,
        )

    def _await_end(self, wait_s: float) -> Outcome | None:
        self._orphan_ended.wait(wait_s)
        with self._lock:
            return self._ended[1] if self._ended else None

    def _adopt_logs(self) -> None:
        if self._durable is not None:
            adopt_logs(self._log_folder, self._durable[1])


def _progress_frame(progress: JobProgress) -> bytes:
    shown = bounded(progress)
    return pack(Kind.PROGRESS, pickle.dumps((shown.current, shown.total, shown.message)))


def _import_modules(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):  # noqa: BLE001  the call that needs it will say so to its caller
            _log.debug("module %s cannot be loaded ahead", name, exc_info=True)


def _cpu_seconds() -> float:
    return sum(os.times()[:4])
