"""Bodies of jobs that are queued with options. Each notes its start, its end, and what it finds wrong.

A note is a line in one write: what, the job, its attempt, the pid, the times on the monotonic clock and on
the wall clock, and a text. Notes: `start`; `raised`, `returned` or `snoozed` at the end; `wrong` for a
promise that is broken now.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from chaos_testing import bodies
from chaos_testing.expected import ANSWER_FACTOR
from python_mcp_server.context import current_job
from python_mcp_server.model import Job, JobState
from python_mcp_server.options import Snooze
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

assert bodies  # noqa: S101  its import arms the crash point of this worker
SNOOZE_S: Final = 0.2


def queued_body(kind: str, value: int, notes: str) -> Any:
    """Do what the kind says, and return the answer."""
    job = current_job()
    store = open_store(Settings.from_environ())
    record = None if job is None else store.peek(job.id)
    notebook = Notebook(notes, job.id if job else "none", record.attempt if record else 0)
    notebook.add("start")
    for problem in _problems(store, record):
        notebook.add("wrong", problem)
    store.close()
    try:
        answer = _act(kind, value, notebook)
    except BaseException:
        notebook.add("raised")
        raise
    notebook.add("snoozed" if isinstance(answer, Snooze) else "returned")
    return answer


def _act(kind: str, value: int, notebook: Notebook) -> Any:
    time.sleep(value % 8 / 16)
    if kind == "q-raises" or (kind == "q-flaky" and notebook.attempt < 2 + value % 2):
        raise ArithmeticError(str(value))
    if kind == "q-dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "q-snoozes" and not notebook.has_snoozed():
        return Snooze(SNOOZE_S)
    if kind == "q-lasts":
        time.sleep(2.0)
    return value * ANSWER_FACTOR


def _problems(store: JobStore, record: Job | None) -> list[str]:
    """Return what is wrong with the record of a job whose body starts now."""
    if record is None:
        return ["its record is not there"]
    found = list[str]()
    pid = None if record.worker is None else record.worker.pid
    if record.status is not JobState.RUNNING or pid != os.getpid():
        found.append(f"its record says {record.status} on {pid}")
    if record.waits_for or record.not_before is not None:
        found.append(f"its record waits for {record.waits_for} until {record.not_before}")
    options = record.options
    for other_id in () if options is None else options.after:
        other = store.get(other_id)
        if other is not None and not other.status.terminal:
            found.append(f"its predecessor {other_id} is {other.status}")
        elif other is not None and options is not None and not options.run_after_failure:
            if other.status is not JobState.COMPLETED:
                found.append(f"its predecessor {other_id} is {other.status}")
            elif other.result is None:
                found.append(f"the result of its predecessor {other_id} cannot be read")
    return found


class Notebook:
    """Appends the notes of one start."""

    def __init__(self, path: str, job_id: str, attempt: int) -> None:
        self.attempt = attempt
        self._path = path
        self._job_id = job_id

    def add(self, what: str, text: str = "") -> None:
        """Append a note."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        times = f"{time.monotonic()} {time.time()}"
        line = f"{what} {self._job_id} {self.attempt} {os.getpid()} {times} {text}\n"
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def has_snoozed(self) -> bool:
        """Whether this job has snoozed before."""
        with open(self._path, encoding="utf-8") as file:
            return any(line.startswith(f"snoozed {self._job_id} ") for line in file)
