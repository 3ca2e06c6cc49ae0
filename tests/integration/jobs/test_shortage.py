"""A machine that is short of something for a while: its jobs wait, its calls are refused with a sentence."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import WorkerUnavailable
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.pool import process, start
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
import asyncio, contextlib, os, resource, time
from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.request import Request
from tests.helpers.managers import manager

async def main():
    async with manager(spare_workers=0) as made:
        busy = await made.submit_request(Request(time.sleep, (3600,)))
        while not (await made.get(busy.id)).worker:
            await asyncio.sleep(0.01)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        for descriptor in held[1:]:
            os.close(descriptor)
        job = await made.submit_request(Request(os.getpid))
        said = ""
        while "Too many open files" not in said:
            await asyncio.sleep(0.01)
            with contextlib.suppress(StoreError):  # to read the record takes a descriptor, too
                now = await made.get(job.id)
                said = now.message or now.error or ""
        print(now.status.value)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print((await made.wait(job.id, 60))[0].status.value)
        await made.cancel(busy.id)

asyncio.run(main())
"""
INTERPRETER = """#!/bin/sh
echo begun >> {starts}
test -e {short} && {{ {limit}; }}
exec {python} "$@"
"""
"""Starts Python, with a limit as long as there is a file `short`."""


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
def short_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that limits all workers, and returns the file whose end is that of the limit."""

    def limit(line: str) -> Path:
        short, wrapper = tmp_path / "short", tmp_path / "python"
        short.touch()
        wrapper.write_text(
            INTERPRETER.format(
                starts=tmp_path / "workers", short=short, limit=line, python=shlex.quote(sys.executable)
            )
        )
        wrapper.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(wrapper))
        return short

    return limit


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
            job = await made.submit_request(Request(bodies.note, (str(tmp_path / "starts"), "begun")))
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
            job = await made.submit_request(Request(os.getpid))
            ended, _ = await made.wait(job.id, LONG_S)
            assert (ended.status, ended.error_kind) == (JobState.FAILED, "no_worker")

    run(main())


def test_a_job_waits_while_its_server_may_open_no_more_files(home: Path):
    done = run_python("-c", FEW_DESCRIPTORS)
    assert done.stdout == "pending\ncompleted\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ulimit bounds no memory")
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ulimit -v 20000", "before it was ready"),
        ("ulimit -v 28000", "before it was ready"),
        ("ulimit -n 5", "Too many open files"),
        ("kill -9 $$", "was ended by signal 9 (SIGKILL) before it was ready"),
    ],
)
def test_a_job_waits_while_each_worker_dies_of_a_shortage_of_its_own(
    limit: str, words: str, short_workers: Callable[[str], Path], home: Path, tmp_path: Path
):
    short = short_workers(limit)

    async def main() -> None:
        async with manager(spare_workers=0) as made:
            job = await made.submit_request(Request(bodies.note, (str(tmp_path / "starts"), "begun")))
            while len(lines(tmp_path / "workers")) < 4:  # three tries, and one more
                await asyncio.sleep(0.01)
            waiting = await told(made, job.id, words)
            assert waiting.status is JobState.PENDING
            assert (waiting.message or "").startswith("waiting to start: no worker process could be started")
            short.unlink()
            ended, _ = await made.wait(job.id, LONG_S)
            assert ended.status is JobState.COMPLETED

    run(asyncio.wait_for(main(), LONG_S))
    assert lines(tmp_path / "starts") == ["begun"]


@pytest.mark.parametrize("limit", ["exit 1", "exit 127", "kill -11 $$"])
def test_workers_that_die_without_a_word_still_fail_the_job(
    limit: str, short_workers: Callable[[str], Path], home: Path
):
    short_workers(limit)

    async def main() -> None:
        async with manager(spare_workers=0) as made:
            job = await made.submit_request(Request(os.getpid))
            ended, _ = await made.wait(job.id, LONG_S)
            assert (ended.status, ended.error_kind) == (JobState.FAILED, "no_worker")

    run(main())


def test_workers_that_cannot_import_our_code_fail_the_job_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, home: Path
):
    gone = types.ModuleType("a_module_that_is_gone")
    exec("def start(*_): pass", vars(gone))
    monkeypatch.setitem(sys.modules, gone.__name__, gone)
    monkeypatch.setattr(process, "start", vars(gone)["start"])

    async def main() -> None:
        async with manager(spare_workers=0) as made:
            job = await made.submit_request(Request(os.getpid))
            ended, _ = await made.wait(job.id, LONG_S)
            assert ended.status is JobState.FAILED
            assert "No module named 'a_module_that_is_gone'" in (ended.error or "")

    run(main())
