"""Workers that cannot be started, cannot be ended, or die before their first call."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import processes
from python_mcp_server.errors import WorkerUnavailable
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.pool.handle import WorkerHandle
from python_mcp_server.pool.pool import Pool
from python_mcp_server.settings import Settings
from tests.helpers import eventually, run
from tests.helpers.managers import call, manager
from tests.helpers.warm_manager import WarmManager

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the workers are those of POSIX")


def pool_in(folder: Path, **settings: Any) -> Pool:
    return Pool(Settings.from_environ(**settings), lambda name: folder / name, "test")


def test_where_no_worker_can_be_started_every_waiting_call_fails(tmp_path: Path):
    (tmp_path / "lanes").touch()  # where a folder should be

    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=1, spare_workers=0)
        ends = await asyncio.gather(*(pool.take() for _ in range(5)), return_exceptions=True)
        assert [type(end) for end in ends] == [WorkerUnavailable] * 5
        assert "Not a directory" in str(ends[0])
        await pool.close()

    run(main())


def test_a_worker_that_cannot_be_created_is_a_failed_start(tmp_path: Path):
    async def main() -> None:
        def nowhere(_name: str) -> Path:
            raise PermissionError("the home is not ours")

        pool = Pool(Settings.from_environ(max_workers=1, spare_workers=0), nowhere, "test")
        for _ in range(2):
            with pytest.raises(WorkerUnavailable, match="the home is not ours; the home must be writable"):
                await pool.take()
        await pool.close()

    run(main())


async def one_busy_and_no_further_one(
    pool: Pool, folders: Path
) -> tuple[WorkerHandle, asyncio.Task[WorkerHandle]]:
    """Take a worker, let no other one start, and return it with a call that waits for a worker."""
    busy = await pool.take()
    folders.rename(folders.with_name("elsewhere"))
    folders.touch()  # where a folder should be
    waiting = asyncio.create_task(pool.take())
    while not pool._failed_starts.failing:
        await asyncio.sleep(0.01)
    return busy, waiting


def test_a_call_whose_worker_cannot_be_started_waits_for_another_worker(tmp_path: Path):
    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=2, spare_workers=0)
        busy, waiting = await one_busy_and_no_further_one(pool, tmp_path / "lanes")
        assert not waiting.done()
        pool.release(busy)
        assert await waiting is busy
        await pool.close()

    run(main())


def test_a_start_that_failed_is_tried_again_while_another_worker_is_busy(tmp_path: Path):
    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=2, spare_workers=0)
        busy, waiting = await one_busy_and_no_further_one(pool, tmp_path / "lanes")
        (tmp_path / "lanes").unlink()
        assert await waiting is not busy
        assert not pool._failed_starts.failing
        await pool.close()

    run(main())


def test_of_surplus_workers_those_go_that_were_idle_the_longest(tmp_path: Path):
    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=3, spare_workers=1, worker_idle_seconds=3600)
        taken = [await pool.take() for _ in range(3)]
        for worker in taken:
            pool.release(worker)
        pool._shrink()
        assert pool._idle == [taken[-1]]
        await pool.close()

    run(main())


def test_a_module_that_exits_costs_one_worker_and_is_not_preloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    starts = tmp_path / "starts"
    code = f"import os\nwith open({str(starts)!r}, 'a') as file:\n    file.write('x')\nos._exit(3)\n"
    (tmp_path / "ends_its_process.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", spare_workers=1)
        pool.preload("ends_its_process")
        pool.warm()
        await asyncio.to_thread(eventually, starts.exists)
        while not (pool._deaths.preloading is False and pool._idle):
            await asyncio.sleep(0.01)
        taken = await pool.take()
        pool.release(taken)
        await pool.close()

    run(main())
    assert starts.read_text(encoding="utf-8") == "x"


def test_a_worker_whose_end_failed_takes_no_calls_and_is_ended_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=1, spare_workers=0)
        worker = await pool.take()
        with monkeypatch.context() as patch:
            patch.setattr(processes, "kill_tree", _out_of_descriptors)
            assert await pool.end_tree(worker) == [worker.pid]
        pool.release(worker)
        other = await pool.take()
        assert other is not worker
        while not worker.gone:
            await asyncio.sleep(0.01)
        await pool.close()

    run(main())


def _out_of_descriptors(*_args: object, **_kwargs: object) -> list[int]:
    raise OSError(24, "Too many open files")


def test_unused_surplus_workers_end_after_their_idle_time(tmp_path: Path):
    async def main() -> None:
        pool = pool_in(tmp_path / "lanes", max_workers=3, spare_workers=0, worker_idle_seconds=0.1)
        takers = [asyncio.create_task(pool.take()) for _ in range(2)]
        await asyncio.sleep(0)
        for taker in takers:
            taker.cancel()
        await asyncio.wait(takers)
        while pool._starting or pool._idle:
            await asyncio.sleep(0.01)
        await pool.close()

    run(main())


# ---- what bodies may use


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_body_may_start_processes_of_its_own_by_every_method(warm: WarmManager, method: str):
    def spread(method: str) -> list[int]:
        import multiprocessing

        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, range(-2, 2))

    async def main(jobs: JobManager) -> None:
        assert await call(jobs, spread, method) == [2, 1, 0, 1]

    warm.run(main)


def test_what_an_async_body_leaves_running_ends_with_it():
    async def leave() -> int:
        import asyncio
        import builtins

        async def linger() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                builtins.ended = True  # type: ignore[attr-defined]

        builtins.left = asyncio.ensure_future(linger())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return os.getpid()

    def look() -> tuple[int, bool]:
        import builtins

        return os.getpid(), getattr(builtins, "ended", False)

    async def main() -> None:
        async with manager(spare_workers=0, max_workers=1) as jobs:
            worker = await call(jobs, leave)
            assert await call(jobs, look) == (worker, True)

    run(main())
