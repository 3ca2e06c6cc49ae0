"""Bodies in real workers: however they end and whatever they touch, the next call works."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, RemoteError, WorkerDied
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Notice, Request
from python_mcp_server.store.files import FileJobStore
from tests.helpers import bodies, eventually, run
from tests.helpers.managers import LONG_S, call, handed_over, manager
from tests.helpers.warm_manager import WarmManager

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")


def test_a_body_may_be_plain_or_async_and_takes_arguments_of_both_kinds(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        assert await call(jobs, bodies.add, 2) == 3
        assert await call(jobs, bodies.add, 2, right=5) == 7
        assert await call(jobs, bodies.add_async, 2, right=5) == 7
        assert await call(jobs, bodies.pid) != os.getpid()

    warm.run(main)


def test_a_closure_and_a_lambda_run_by_value_again_and_again(warm: WarmManager):
    factor = 7

    async def main(jobs: JobManager) -> None:
        body = lambda number: number * factor  # noqa: E731
        assert [await call(jobs, body, number) for number in (1, 2, 3)] == [7, 14, 21]

    warm.run(main)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (bodies.raise_value_error, ValueError, "seven is right out"),
        (bodies.raise_unpicklable, RemoteError, "Unpicklable: a lock inside"),
        (bodies.raise_broken_text, Exception, ""),
        (bodies.raise_broken_rebuild, RemoteError, "BrokenRebuild: one two"),
        (bodies.raise_local, Exception, "known here only"),
        (bodies.raise_system_exit, RemoteError, "SystemExit: 3"),
        (bodies.raise_keyboard_interrupt, RemoteError, "KeyboardInterrupt"),
    ],
)
def test_however_a_body_fails_the_caller_is_told_and_the_worker_serves_on(
    warm: WarmManager, body: Any, kind: Any, text: str
):
    async def main(jobs: JobManager) -> None:
        before = await call(jobs, bodies.pid)
        with pytest.raises(kind) as caught:
            await call(jobs, body)
        if text:
            assert text in str(caught.value)
        assert await call(jobs, bodies.pid) == before

    warm.run(main)


@pytest.mark.parametrize(
    ("wanted", "form", "said"),
    [
        (Request(bodies.return_lock), "<unlocked _thread.lock", "has no form in JSON"),
        (Request(bodies.return_homebound, (7,)), "{'rows': 7, 'last': False}", "7 rows are not at home here"),
        (Request(bodies.return_mortal), "None", "its worker is gone"),
    ],
)
def test_an_unpicklable_value_reaches_caller_and_record_as_json(
    warm: WarmManager, wanted: Request, form: str, said: str, caplog: pytest.LogCaptureFixture
):
    async def main(jobs: JobManager) -> None:
        result = await jobs.run(wanted, budget_s=LONG_S)
        assert str(result.value).startswith(form)
        assert said in caplog.text
        job, _ = await jobs.wait((await jobs.submit_request(wanted)).id, LONG_S)
        assert (job.status, job.error) == ("completed", None)
        assert str(job.result).startswith(form)
        assert said in (job.result_note or "")
        assert await call(jobs, bodies.add, 1) == 2

    warm.run(main)


@pytest.mark.parametrize(
    ("body", "args", "exit_code", "text"),
    [(bodies.exit_at_once, (3,), 3, "exited with code 3"), (bodies.segfault, (), -11, "SIGSEGV")],
)
def test_a_worker_that_dies_takes_its_call_along_and_nothing_else(
    warm: WarmManager, body: Any, args: Any, exit_code: int, text: str
):
    async def main(jobs: JobManager) -> None:
        with pytest.raises(WorkerDied, match=text) as caught:
            await call(jobs, body, *args)
        assert caught.value.exit_code == exit_code
        assert await call(jobs, bodies.add, 1) == 2

    warm.run(main)


def test_arguments_and_results_of_50_mb_do_not_block_the_loop(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        assert len(await call(jobs, bodies.huge, 50_000_000)) == 50_000_000
        assert await call(jobs, bodies.length, bytes(50_000_000)) == 50_000_000

    warm.run(main)


def test_an_argument_that_cannot_be_sent_is_refused_and_costs_no_worker(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        await call(jobs, bodies.pid)
        with pytest.raises(InvalidInput, match=r"an argument of .* cannot be sent"):
            await call(jobs, bodies.length, threading.Lock())
        assert await call(jobs, bodies.add, 1) == 2
        assert not jobs._live

    warm.run(main)


async def test_a_body_whose_module_cannot_be_imported_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "front_only.py").write_text(
        "import os\nif os.getpid() != FRONT: raise ImportError('not here')\ndef body(): pass\n".replace(
            "FRONT", str(os.getpid())
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    import front_only  # type: ignore[import-not-found]

    async with manager() as jobs:
        with pytest.raises(ImportError, match="not here"):
            await call(jobs, front_only.body)
        assert await call(jobs, bodies.add, 1) == 2


def test_what_a_body_writes_anywhere_is_output_of_its_job(capfd: pytest.CaptureFixture[str]):
    async def main() -> None:
        async with manager() as jobs:
            job = await jobs.submit_request(Request(bodies.print_everywhere))
            job, _ = await jobs.wait(job.id, LONG_S)
            assert job.result == "said"
            stdout = await jobs.output(job.id, "stdout")
            assert sorted(stdout.text.splitlines()) == ["from c", "from python", "to fd 1"]
            assert stdout.eof
            assert (await jobs.output(job.id, "stderr")).text == "to stderr\n"

    run(main())
    assert capfd.readouterr().out == ""


def test_a_body_reads_nothing_from_stdin(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        assert await call(jobs, bodies.read_stdin) == ""

    warm.run(main)


@pytest.mark.parametrize("body", [bodies.close_stdout, bodies.close_descriptors, bodies.no_stdout])
def test_a_body_that_closes_its_output_does_not_take_the_next_ones(warm: WarmManager, body: Any):
    async def main(jobs: JobManager) -> None:
        before = await call(jobs, bodies.pid)
        await call(jobs, body)
        job = await jobs.submit_request(Request(bodies.say, ("hello",)))
        job, _ = await jobs.wait(job.id, LONG_S)
        assert (job.result, job.error) == ("hello", None)
        assert (await jobs.output(job.id)).text == "hello\n"
        assert await call(jobs, bodies.pid) == before

    warm.run(main)


@pytest.mark.parametrize("body", [bodies.fork_that_returns, bodies.fork_that_raises])
def test_a_forked_child_that_comes_out_of_the_body_says_nothing(warm: WarmManager, body: Any):
    async def main(jobs: JobManager) -> None:
        assert await call(jobs, body) == "from the parent"
        assert await call(jobs, bodies.add, 1) == 2

    warm.run(main)


def test_a_signal_to_a_child_that_just_started_ends_that_child_only(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        before = await call(jobs, bodies.pid)
        assert await call(jobs, bodies.end_children_as_they_start, 500) == {-signal.SIGTERM}
        assert await call(jobs, bodies.pid) == before

    warm.run(main)


def test_a_body_knows_its_job(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        first, second = await call(jobs, bodies.own_job), await call(jobs, bodies.exit_variable)
        assert first
        assert second
        assert first != second

    warm.run(main)


def test_a_worker_loads_nothing_of_the_protocol(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        assert await call(jobs, bodies.loaded, "mcp", "pydantic", "starlette", "numpy", "loky.reusable") == []

    warm.run(main)


# ---- progress


def notices_of(warm: WarmManager, body: Any, *args: Any) -> list[Notice]:
    notices: list[Notice] = []
    warm.run(lambda jobs: jobs.run(Request(body, args), budget_s=LONG_S, listener=notices.append))
    return notices


def test_fifty_thousand_reports_arrive_as_few_and_end_with_the_last(warm: WarmManager):
    notices = notices_of(warm, bodies.report_steps, 50_000)
    last = notices[-1].progress
    assert last is not None
    assert (last.current, last.total, last.message) == (50_000, 50_000, "step 50000")
    assert len(notices) < 5_000


def test_a_thread_and_odd_numbers_report_as_well(warm: WarmManager):
    for body, current in ((bodies.report_from_thread, 5), (bodies.report_odd_numbers, 3.0)):
        notices = notices_of(warm, body)
        assert [notice.progress.current for notice in notices if notice.progress] == [current]


def test_progress_that_is_not_a_finite_number_is_not_sent_as_one(warm: WarmManager):
    async def main(jobs: JobManager) -> None:
        job = await jobs.submit_request(Request(bodies.report_not_finite))
        job, _ = await jobs.wait(job.id, LONG_S)
        assert job.status == "completed"
        assert job.progress is None

    warm.run(main)


def test_a_callback_of_an_ended_job_does_not_report_for_the_next_one(warm: WarmManager):
    async def main(jobs: JobManager) -> list[Notice]:
        notices: list[Notice] = []
        await call(jobs, bodies.leave_a_callback)
        await jobs.run(Request(bodies.use_the_callback), budget_s=LONG_S, listener=notices.append)
        return notices

    assert [n.progress.current for n in warm.run(main) if n.progress] == [1]


def test_a_held_report_is_seen_while_the_body_is_silent(warm: WarmManager, tmp_path: Path):
    async def main(jobs: JobManager) -> None:
        gate = tmp_path / "gate"
        result = await handed_over(jobs, bodies.report_two_and_wait, str(gate))
        eventually_seen = False
        while not eventually_seen:
            job = await jobs.get(result.job_id)
            eventually_seen = job.progress is not None and job.progress.message == "held"
            await jobs.wait(result.job_id, 0.01)
        gate.touch()
        job, timed_out = await jobs.wait(result.job_id, LONG_S)
        assert not timed_out
        standing = FileJobStore(warm.home).get(result.job_id)
        assert standing is not None
        assert standing.progress == job.progress

    warm.run(main)


def test_a_thousand_calls_leave_nothing_behind():
    async def main() -> None:
        async with manager() as jobs:
            await call(jobs, bodies.pid)
            engine = await jobs._engine()
            for number in range(1_000):
                assert await call(jobs, bodies.add, number) == number + 1
            assert (jobs._live, engine.services.refresher._running, engine.services.tasks) == ({}, {}, set())
            assert engine.pool.sampler._watched == set()
            assert len(list(engine.pool.workers)) <= 2

    run(main())
    assert eventually(lambda: threading.active_count() < 30)
