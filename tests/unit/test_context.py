"""What a body may call finds its own job, in threads and tasks too, and none outside of one."""

from __future__ import annotations

import asyncio
import contextvars
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from python_mcp_server import context
from python_mcp_server.context import JobContext
from python_mcp_server.model import JobProgress
from tests.helpers import run, run_python


def make(job_id: str, folder: Path | str = "") -> tuple[JobContext, list[JobProgress]]:
    reports: list[JobProgress] = []
    return JobContext(job_id, f"label of {job_id}", str(folder), reports.append), reports


@contextmanager
def inside(job: JobContext, *, whole_process: bool = False) -> Iterator[None]:
    token = context.enter_job(job, whole_process=whole_process)
    try:
        yield
    finally:
        context.leave_job(token)


def in_thread(work: contextvars.Context | None = None) -> JobContext | None:
    """Return what a bare thread sees as the present job."""
    seen: list[JobContext | None] = []
    start = work or contextvars.Context()
    thread = threading.Thread(target=lambda: seen.append(start.run(context.current_job)))
    thread.start()
    thread.join()
    return seen[0]


def test_outside_a_job_there_is_no_context_and_reports_are_dropped() -> None:
    context.report_progress(1, 2, "nobody hears")
    context.create_progress_callback()(1, 2, "nobody hears")
    assert context.current_job() is None


def test_a_body_sees_its_job_until_it_ends() -> None:
    job, reports = make("a")
    with inside(job):
        assert context.current_job() is job
        context.report_progress(1, 2, "half")
    assert context.current_job() is None
    assert reports == [JobProgress(1, 2, "half")]


def test_tasks_of_one_loop_each_see_their_own_job() -> None:
    async def body(job: JobContext, met: asyncio.Barrier) -> JobContext | None:
        with inside(job):
            await met.wait()
            return context.current_job()

    async def main() -> list[JobContext | None]:
        met = asyncio.Barrier(2)
        return await asyncio.gather(*(body(job, met) for job in jobs))

    jobs = [make("a")[0], make("b")[0]]
    assert run(main()) == jobs


def test_a_thread_without_context_sees_the_job_of_the_whole_process() -> None:
    job, _ = make("a")
    with inside(job, whole_process=True):
        assert in_thread() is job
    assert in_thread() is None


def test_a_thread_without_context_sees_only_the_job_of_the_process() -> None:
    job, _ = make("a")
    with inside(job):
        assert in_thread() is None
        assert in_thread(contextvars.copy_context()) is job


def test_a_callback_stays_with_the_job_it_was_made_for() -> None:
    first, first_reports = make("a")
    second, second_reports = make("b")
    with inside(first):
        callback = context.create_progress_callback()
    with inside(second):
        callback(3)
    assert (first_reports, second_reports) == ([JobProgress(3)], [])


def test_the_folder_is_made_on_first_use_and_private(tmp_path: Path) -> None:
    job, _ = make("a", tmp_path / "deep" / "a")
    assert not job.touched
    assert not (tmp_path / "deep").exists()
    assert job.folder.is_dir()
    assert job.touched
    assert stat.S_IMODE(job.folder.stat().st_mode) == 0o700


def test_a_record_is_kept_only_when_asked_for() -> None:
    job, _ = make("a")
    assert not job.wants_record
    job.keep_record()
    assert job.wants_record


def test_a_process_is_no_worker_until_it_is_marked() -> None:
    code = "from python_mcp_server.context import *; print(in_worker()); mark_worker(); print(in_worker())"
    assert run_python("-c", code).stdout.split() == ["False", "True"]
    assert not context.in_worker()


def test_what_bodies_import_does_not_load_asyncio() -> None:
    code = "import sys, python_mcp_server.context; print('asyncio' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


def test_a_number_that_cannot_be_shown_is_dropped() -> None:
    job, reports = make("a")
    with inside(job):
        context.report_progress(1, 2**2000)
        context.report_progress(10**400)
        context.report_progress(2, 3)
    assert [(report.current, report.total) for report in reports] == [(2, 3)]


def test_a_foreign_number_becomes_a_plain_one_also_where_it_is_zero() -> None:
    job, reports = make("a")
    with inside(job):
        context.report_progress(Decimal(1), Decimal(0))  # type: ignore[arg-type]
        context.create_progress_callback()(Fraction(1, 2), Fraction(0))  # type: ignore[arg-type]
    assert [type(number) for one in reports for number in (one.current, one.total)] == [float] * 4
