"""Progress reaches the caller coalesced and rising, names the job, and never holds the call."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from python_mcp_server.jobs.request import Notice
from python_mcp_server.model import JobProgress, Usage
from python_mcp_server.server.sdk.progress import ProgressForwarder
from tests.helpers import run

LONG_S = 3_600.0


class Caller:
    """Hears what is sent to it."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, float | None, str | None]] = []
        self._something = asyncio.Condition()

    async def send(self, value: float, total: float | None, message: str | None) -> None:
        async with self._something:
            self.heard.append((value, total, message))
            self._something.notify_all()

    async def wait(self, count: int) -> None:
        async with self._something:
            await self._something.wait_for(lambda: len(self.heard) >= count)


async def test_without_a_token_nothing_is_started():
    before = asyncio.all_tasks()
    async with ProgressForwarder(None) as tell:
        tell(Notice("j", JobProgress(1)))
        assert asyncio.all_tasks() == before


async def test_the_last_progress_goes_out_before_the_answer():
    caller = Caller()
    async with ProgressForwarder(caller.send, interval_s=LONG_S, naming_s=LONG_S) as tell:
        tell(Notice(None, JobProgress(1, 3, "a")))
        await caller.wait(1)
        tell(Notice(None, JobProgress(2, 3, "b")))
        tell(Notice(None, JobProgress(3, 3, "c")))
    assert caller.heard == [(1, 3, "a"), (3, 3, "c")]


async def test_a_notification_that_is_being_sent_goes_out_once():
    heard: list[float] = []
    begun, free = asyncio.Event(), asyncio.Event()

    async def send(value: float, _total: float | None, _message: str | None) -> None:
        begun.set()
        await free.wait()
        heard.append(value)

    async with ProgressForwarder(send, interval_s=LONG_S, naming_s=LONG_S) as tell:
        tell(Notice(None, JobProgress(3)))
        await begun.wait()
        asyncio.get_running_loop().call_soon(free.set)
    assert heard == [3]


async def test_a_message_that_is_no_unicode_is_sent_with_a_replacement():
    caller = Caller()
    async with ProgressForwarder(caller.send, interval_s=LONG_S, naming_s=LONG_S) as tell:
        tell(Notice(None, JobProgress(1, 3, "caf\udce9")))
    assert caller.heard == [(1, 3, "caf\ufffd")]


async def test_many_reports_become_few_notifications():
    caller = Caller()
    async with ProgressForwarder(caller.send, interval_s=0.01, naming_s=LONG_S) as tell:
        for step in range(1, 5_001):
            tell(Notice(None, JobProgress(step)))
            if step % 500 == 0:
                await asyncio.sleep(0)
    assert len(caller.heard) < 100
    assert caller.heard[-1][0] == 5_000


async def test_values_rise_strictly_though_the_body_falls_back():
    caller = Caller()
    async with ProgressForwarder(caller.send, interval_s=0, naming_s=LONG_S) as tell:
        for count, current in enumerate([5, 5, 1, -3, 2e12, 2e12, 7], start=1):
            tell(Notice(None, JobProgress(current, message=str(count))))
            await caller.wait(count)
    values = [value for value, _, _ in caller.heard]
    assert all(one < other for one, other in itertools.pairwise(values))
    assert values[0] == 5
    assert values[4] == 2e12


async def test_the_job_is_named_as_soon_as_it_has_a_record():
    caller = Caller()
    async with ProgressForwarder(caller.send, naming_s=LONG_S, age_s=12.2) as tell:
        tell(Notice("job-1", None, Usage(rss_bytes=35_000_000)))
        await caller.wait(1)
    assert caller.heard == [(0.0, None, "job job-1 running for 12 s, 35 MB")]


async def test_a_silent_body_is_kept_alive_and_named_beside_its_own_words():
    caller = Caller()
    async with ProgressForwarder(caller.send, interval_s=0.001, naming_s=0.02) as tell:
        tell(Notice("job-1", JobProgress(1, 4, "sieving")))
        await caller.wait(4)
    assert all(message and message.startswith("sieving (job job-1 running") for _, _, message in caller.heard)
    assert {total for _, total, _ in caller.heard} == {4}


async def test_a_caller_that_does_not_read_never_holds_the_call():
    entered = asyncio.Event()

    async def stuck(*_: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with ProgressForwarder(stuck, interval_s=0) as tell:
        tell(Notice(None, JobProgress(1)))
        await entered.wait()
        tell(Notice(None, JobProgress(2)))


def test_a_send_that_fails_is_logged_and_the_call_goes_on(caplog: pytest.LogCaptureFixture):
    async def main():
        failed = asyncio.Event()

        async def broken(*_: Any) -> None:
            failed.set()
            raise ConnectionError("nobody there")

        async with ProgressForwarder(broken, interval_s=0) as tell:
            tell(Notice(None, JobProgress(1)))
            await failed.wait()
            await asyncio.sleep(0)

    run(main())
    assert "nobody there" in caplog.text


async def fail_after_progress(feed: ProgressForwarder) -> None:
    async with feed as tell:
        tell(Notice(None, JobProgress(1)))
        raise ValueError("body")


async def test_nothing_is_sent_after_the_call_failed():
    caller = Caller()
    with pytest.raises(ValueError, match="body"):
        await fail_after_progress(ProgressForwarder(caller.send, interval_s=LONG_S))
    assert caller.heard == []
