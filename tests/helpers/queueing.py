"""Servers of one home that queue background jobs, as processes of their own, and the bodies of the jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from python_mcp_server.errors import StoreLocked
from python_mcp_server.model import Job, JobState
from python_mcp_server.processes import is_alive, kill_tree
from python_mcp_server.store.files import FileJobStore
from tests.helpers.bodies import note
from tests.helpers.managers import lines
from tests.helpers.programs import environment, python
from tests.helpers.stores import store_of
from tests.helpers.waiting import eventually

SERVER = """
import asyncio, json, sys
from python_mcp_server import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.settings import Settings
from tests.helpers import queueing
async def main():
    limit, submitted = sys.argv[1:]
    settings = Settings.from_environ(max_background_jobs=int(limit), spare_workers=0)
    async with JobManager(settings=settings) as jobs:
        for body, *args in json.loads(submitted):
            job = await jobs.submit_request(Request(getattr(queueing, body), tuple(args)))
            print(job.id, flush=True)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""

RUNNING, PENDING, DONE = JobState.RUNNING, JobState.PENDING, JobState.COMPLETED


def hold_for_a_moment(path: str) -> None:
    """Note the begin and the end."""
    note(path, "+")
    time.sleep(0.1)
    note(path, "-")


def hold(path: str, gate: str) -> str:
    """Note the start; print; return once the file `gate` exists."""
    note(path)
    print("holding", flush=True)
    eventually(Path(gate).exists, deadline_s=60)
    return "done"


def hold_with_child(path: str, gate: str) -> str:
    """Start a child in a session of its own, and hold."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        print("holding", flush=True)
        note(path, f"started {child.pid}")
        eventually(Path(gate).exists, deadline_s=60)
    return "done"


def use_password(path: str, password: str) -> int:
    note(path)
    return len(password)


@dataclass(frozen=True)
class Server:
    """A server process, with the ids of the jobs that it submitted."""

    process: subprocess.Popen[str]
    ids: list[str]

    def kill(self) -> None:
        """End it with SIGKILL; its workers with kept jobs go on."""
        self.process.kill()
        self.process.wait()

    def stop(self, home: Path) -> None:
        """Stop it while it holds no lock that another process would wait for."""
        store = FileJobStore(home, lock_s=0.2)
        while True:
            self.process.send_signal(signal.SIGSTOP)
            try:
                with store.exclusive("queues"):
                    for job_id in self.ids:
                        store.update(job_id, lambda job: job)
            except StoreLocked:
                self.process.send_signal(signal.SIGCONT)
                time.sleep(0.05)
            else:
                return


@contextmanager
def server(limit: int, *jobs: tuple[str | Path, ...], env: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that has submitted these jobs, each the name of a body of this module and its arguments;
    it ends in an orderly way if it still runs."""
    submitted = json.dumps(jobs, default=str)
    with python("-c", SERVER, str(limit), submitted, env=env or environment()) as process:
        assert process.stdout is not None
        try:
            told = [process.stdout.readline().strip() for _ in range(len(jobs) + 1)]
            assert told[-1] == "ready"
            yield Server(process, told[:-1])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
            process.communicate("", timeout=60)


def most_at_once(path: Path) -> int:
    """Return how many of `hold_for_a_moment` held at the same time."""
    return max(accumulate({"+": 1, "-": -1}[line] for line in lines(path)), default=0)


def job_in(home: Path, job_id: str, *states: JobState) -> Job:
    """Wait until the record says that the job is in one of these states."""

    def look() -> Job | None:
        job = store_of(home).get(job_id)
        return job if job is not None and job.status in states else None

    return eventually(look)


def kept_job_in(home: Path, job_id: str) -> Job:
    """Wait until the job runs and its worker surely knows that it is to finish without its server: the
    server has written what the job uses, a second after it told the worker."""

    def look() -> Job | None:
        job = store_of(home).get(job_id)
        return job if job is not None and job.usage is not None else None

    return eventually(look)


def end_worker(job: Job) -> None:
    """Kill the worker of a job with all that it started."""
    assert job.worker is not None
    kill_tree(job.worker)
    worker = job.worker
    eventually(lambda: not is_alive(worker))


def own_files(home: Path) -> Iterator[bytes]:
    """Yield the content of every file of a home."""
    for folder, _, names in os.walk(home):
        for name in names:
            yield Path(folder, name).read_bytes()
