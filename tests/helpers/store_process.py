"""A process that holds one store and carries out commands on it, one line of JSON each.

`python -m tests.helpers.store_process` forks the one that serves, and another one whenever that was
killed, so that a death costs little. `Child` is the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import filelock  # noqa: F401  loaded before anything is forked

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.helpers.programs import python
from tests.helpers.store_kills import die_at

DIED: Final = "died"


class Server:
    """Answers commands, in this process or behind a pipe."""

    def __init__(self) -> None:
        self._store: FileJobStore | None = None

    @property
    def store(self) -> FileJobStore:
        """The store that was opened last."""
        assert self._store is not None
        return self._store

    def ask(self, command: str, *arguments: Any) -> Any:
        """Carry out the command, and return plain data."""
        return getattr(self, f"do_{command}")(*arguments)

    def do_open(self, home: str) -> None:
        self.do_close()
        self._store = FileJobStore(Path(home))

    def do_close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def do_create(
        self, job_id: str | None, status: str, result_bytes: int, principal: str | None = None
    ) -> dict[str, Any] | None:
        """Create a job with a file; None where the id was taken."""
        long_ago = utc_now() - timedelta(hours=40)
        job = Job(job_id or new_job_id(long_ago), "label", JobState(status), utc_now(), principal=principal)
        if job.status is JobState.COMPLETED:
            job = job.evolve(result="x" * result_bytes)
        try:
            self.store.create(job)
        except InvalidInput:
            return None
        folder = self.store.folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stdout").write_text("hello")
        return self.do_get(job.id)

    def do_update(
        self, job_id: str, status: str, number: int, hours: float, result_bytes: int
    ) -> dict[str, Any] | None:
        """Update a job, or end it as one that ended so many hours ago; None where there is none."""

        def change(job: Job) -> Job:
            job = job.evolve(status=JobState(status), progress=JobProgress(number))
            if job.status.terminal:
                ended = utc_now() - timedelta(hours=hours)
                job = job.evolve(completed_at=ended, result="x" * result_bytes or None)
            return job

        try:
            return self.store.update(job_id, change).to_record()
        except JobNotFound:
            return None

    def do_prune(self, statuses: list[str], hours: float, principal: str | None = None) -> tuple[int, int]:
        """Remove the jobs in these states that ended at least so many hours ago."""

        ended_before = utc_now() - timedelta(hours=hours)
        among = [JobState(status) for status in statuses]
        pruned = self.store.prune(None, principal, among, ended_before)
        return pruned.removed, pruned.remaining

    def do_get(self, job_id: str) -> dict[str, Any] | None:
        job = self.store.get(job_id)
        return job.to_record() if job else None

    def do_list(
        self, status: str | None, limit: int, principal: str | None = None, before: str | None = None
    ) -> tuple[list[str], bool]:
        jobs, more = self.store.list(JobState(status) if status else None, limit, principal, before)
        return [job.id for job in jobs], more

    def do_dying(self, step: int, command: str, *arguments: Any) -> Any:
        """Carry out the command, and die at this step of those that change the disk, if there are so many."""
        call_off = die_at(step)
        answer = self.ask(command, *arguments)
        call_off()
        return answer


class Child:
    """A server in a process of its own; use it in a `with` block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] = python("-m", "tests.helpers.store_process", stderr=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)

    def ask(self, command: str, *arguments: Any) -> Any:
        """Carry out a command and return its answer; `DIED` if the process died."""
        self.begin(command, *arguments)
        return self.answer()

    def begin(self, command: str, *arguments: Any) -> None:
        """Start a command and return at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the answer to the started command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that holds the store has ended"
        return json.loads(line)


def _say(answer: Any) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _serve() -> None:
    server = Server()
    while line := _read_line():
        _say(server.ask(*json.loads(line)))
    server.do_close()


def _read_line() -> bytes:
    """Read exactly one line, because the next one may be for another process."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def main() -> None:
    """Keep one serving process alive until the commands end."""
    while True:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _serve()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code >= 0:
            sys.exit(code)
        _say(DIED)


if __name__ == "__main__":
    main()
