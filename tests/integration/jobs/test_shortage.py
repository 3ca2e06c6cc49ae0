"""A machine that is short of something for a while: its jobs wait, its calls are refused with a sentence."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import WorkerUnavailable
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.pool import start
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, run
from tests.helpers.managers import LONG_S, call, lines, manager
from tests.helpers.programs import run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs limits of a process, and its fork")

SHORTAGES = [
    OSError(errno.EMFILE, "Too many open files"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    MemoryError("no memory"),
    RuntimeError("can't start new thread"),
]
FEW_DESCRIPTORS = """
import asyncio, os, resource, time
from python_mcp_server.jobs.request import Request
from tests.helpers.managers import manager

async def main():
    async with manager(spare_workers=0) as made:
        busy = await made.submit(Request(time.sleep, (3600,)))
        while not (await made.get(busy.id)).worker:
            await asyncio.sleep(0.01)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        for descriptor in held[1:]:
            os.close(descriptor)
        job = await made.submit(Request(os.getpid))
        while "Too many open files" not in ((now := await made.get(job.id)).message or now.error or ""):
            await asyncio.sleep(0.01)
        print(now.status.value)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print((await made.wait(job.id, 60))[0].status.value)
        await made.cancel(busy.id)

asyncio.run(main())
"""


class Machine:
    """The system call that starts a process, which a test may let fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: BaseException | None = None
        self.refused = 0
        self._fork_exec: Any = vars(start)["fork_exec"]
        monkeypatch.setattr(start, "fork_exec", self._start)

    async def refuses(self, times: int) -> None:
        """Wait until so many starts were refused."""
        while self.refused < times:
            await asyncio.sleep(0.01)

    def _start(self, *args: Any, **kwargs: Any) -> Any:
        if self.error is not None:
            self.refused += 1
            raise self.error
        return self._fork_exec(*args, **kwargs)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def told(made: JobManager, job_id: str, words: str) -> Job:
    """Wait until the record of a job says so."""

    async def look() -> Job:
        while words not in ((job := await made.get(job_id)).message or job.error or ""):
            await asyncio.sleep(0.01)
        return job

    return await asyncio.wait_for(look(), LONG_S)


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: f"{type(error).__name__}-{error.args[0]}")
def test_a_job_waits_with_the_reason_until_a_worker_can_be_started(
    error: BaseException, machine: Machine, home: Path, tmp_path: Path
):
    async def main() -> None:
        async with manager(spare_workers=0) as made:
            machine.error = error
            job = await made.submit(Request(bodies.note, (str(tmp_path / "starts"), "begun")))
            waiting = await told(made, job.id, str(error.args[-1]))
            assert waiting.status is JobState.PENDING
            assert (waiting.message or "").startswith("waiting to start: no worker process could be started")
            await asyncio.wait_for(machine.refuses(4), LONG_S)  # a worker that died gets three tries
            machine.error = None
            ended, _ = await made.wait(job.id, LONG_S)
            assert ended.status is JobState.COMPLETED

    run(main())
    assert lines(tmp_path / "starts") == ["begun"]


def test_a_call_that_is_refused_for_a_shortage_does_not_run_later(
    machine: Machine, home: Path, tmp_path: Path
):
    async def main() -> None:
        async with manager(spare_workers=0) as made:
            machine.error = SHORTAGES[0]
            with pytest.raises(WorkerUnavailable, match=r"Too many open files; .* descriptors left"):
                await call(made, bodies.note, str(tmp_path / "starts"), "begun")
            machine.error = None
            assert await call(made, os.getpid) != os.getpid()
            assert FileJobStore(home).live() == ()

    run(main())
    assert lines(tmp_path / "starts") == []


def test_a_worker_that_never_can_be_started_still_fails_the_job(machine: Machine, home: Path):
    async def main() -> None:
        async with manager(spare_workers=0) as made:
            machine.error = PermissionError(errno.EACCES, "Permission denied")
            job = await made.submit(Request(os.getpid))
            ended, _ = await made.wait(job.id, LONG_S)
            assert (ended.status, ended.error_kind) == (JobState.FAILED, "no_worker")

    run(main())


def test_a_job_waits_while_its_server_may_open_no_more_files(home: Path):
    done = run_python("-c", FEW_DESCRIPTORS)
    assert done.stdout == "pending\ncompleted\n", done.stderr
