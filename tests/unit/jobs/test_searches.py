"""Patterns that come to no end, and reads that are stuck, take none of the threads that others need."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from python_mcp_server.jobs.blocking import BlockingJobs
from python_mcp_server.jobs.output import LinePage, Wanted
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers import run
from tests.helpers.managers import manager

if TYPE_CHECKING:
    import pytest

SEARCHES = 40
"""More than the loop's own pool of threads takes at once."""


def test_pages_are_read_while_many_patterns_are_searched(monkeypatch: pytest.MonkeyPatch):
    over = threading.Event()
    busy: list[str] = []

    def read(_self: BlockingJobs, job_id: str, wanted: Wanted) -> LinePage:
        if wanted.pattern is not None:
            busy.append(wanted.pattern)
            over.wait(60)
        return LinePage(job_id, 0, 0, eof=True)

    async def main() -> None:
        async with manager(InMemoryJobStore()) as made:
            search = Wanted(pattern="(a+)+$")
            searching = [asyncio.create_task(made.lines("j", search)) for _ in range(SEARCHES)]
            try:
                while not busy:
                    await asyncio.sleep(0.001)
                page = await asyncio.wait_for(made.lines("j", Wanted()), 30)
                assert page.text == "j"
                assert len(busy) < SEARCHES
            finally:
                over.set()
            await asyncio.gather(*searching)
        assert len(busy) == SEARCHES

    monkeypatch.setattr(BlockingJobs, "lines", read)
    run(main())


def test_stuck_reads_of_one_job_take_no_thread_of_others(monkeypatch: pytest.MonkeyPatch):
    over = threading.Event()

    def read(_self: BlockingJobs, job_id: str, *_: object) -> str:
        if job_id == "stuck":
            over.wait(60)
        return job_id

    async def main() -> None:
        async with manager(InMemoryJobStore()) as made:
            stuck = [asyncio.create_task(made.output("stuck")) for _ in range(SEARCHES)]
            try:
                await asyncio.sleep(0)
                for left in stuck[SEARCHES // 2 :]:
                    left.cancel()
                assert await asyncio.wait_for(made.output("other"), 30) == "other"
                assert await asyncio.wait_for(made.list(), 30) == ([], False)
                assert await asyncio.wait_for(asyncio.to_thread(int), 30) == 0
            finally:
                over.set()
            await asyncio.gather(*stuck, return_exceptions=True)

    monkeypatch.setattr(BlockingJobs, "output", read)
    run(main())


def test_searches_of_one_principal_keep_no_other_waiting(monkeypatch: pytest.MonkeyPatch):
    over = threading.Event()

    def read(_self: BlockingJobs, job_id: str, _wanted: Wanted) -> LinePage:
        if job_id == "endless":
            over.wait(60)
        return LinePage(job_id, 0, 0, eof=True)

    async def main() -> None:
        async with manager(InMemoryJobStore()) as made:
            search = Wanted(pattern="(a+)+$")
            searches = [asyncio.create_task(made.lines("endless", search, "one")) for _ in range(SEARCHES)]
            try:
                await asyncio.sleep(0)
                for principal in ("another", None):
                    page = await asyncio.wait_for(made.lines("short", search, principal), 30)
                    assert page.text == "short"
            finally:
                over.set()
            await asyncio.gather(*searches)

    monkeypatch.setattr(BlockingJobs, "lines", read)
    run(main())


def test_lists_of_one_principal_keep_no_other_waiting(monkeypatch: pytest.MonkeyPatch):
    over = threading.Event()

    def listed(_self: BlockingJobs, *asked: object) -> tuple[list[object], bool]:
        if "one" in asked:
            over.wait(60)
        return [], False

    async def main() -> None:
        async with manager(InMemoryJobStore()) as made:
            lists = [asyncio.create_task(made.list(principal="one")) for _ in range(SEARCHES)]
            try:
                await asyncio.sleep(0)
                assert await asyncio.wait_for(made.list(principal="another"), 30) == ([], False)
            finally:
                over.set()
            await asyncio.gather(*lists)

    monkeypatch.setattr(BlockingJobs, "list", listed)
    run(main())
