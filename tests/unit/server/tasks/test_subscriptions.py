"""A follower tells of changes, once each, until nothing can change any more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.server.tasks.subscriptions import Snapshot, follow
from tests.helpers import run

if TYPE_CHECKING:
    import pytest

AT_ONCE_S = 0.0


class Scene:
    """What is looked at: one sight or error after the other; counts who is told of what."""

    def __init__(self, *sights: Snapshot | Exception) -> None:
        self.sights = list(sights)
        self.told = 0

    async def look(self) -> Snapshot:
        sight = self.sights.pop(0)
        if isinstance(sight, Exception):
            raise sight
        return sight

    async def tell(self) -> None:
        self.told += 1

    async def follow(self) -> None:
        await follow(await self.look(), self.look, self.tell, AT_ONCE_S)

    def followed(self) -> int:
        run(self.follow())
        assert not self.sights
        return self.told


def going(mark: object) -> Snapshot:
    return Snapshot(str(mark), over=False)


def over(mark: object) -> Snapshot:
    return Snapshot(str(mark), over=True)


def test_each_change_is_told_and_the_end_too():
    assert Scene(going(1), going(1), going(2), going(2), over(3)).followed() == 2


def test_an_ended_job_is_read_once():
    assert Scene(over(1)).followed() == 0


def test_the_end_alone_is_no_change_where_nothing_else_is():
    assert Scene(going(1), over(1)).followed() == 0


def test_a_removed_job_is_reported_once():
    assert Scene(going(1), JobNotFound("x")).followed() == 1


def test_a_store_that_cannot_be_read_is_asked_again():
    assert Scene(going(1), StoreError("full"), over(2)).followed() == 1


def test_a_follower_that_fails_says_so_in_the_log(caplog: pytest.LogCaptureFixture):
    assert Scene(going(1), RuntimeError("broken")).followed() == 0
    assert caplog.records[-1].levelno == logging.ERROR
    assert "broken" in caplog.text


def test_a_listener_that_is_slow_hears_less_often():
    marks = iter(range(10_000))

    async def main() -> int:
        heard: list[int] = []
        free, done = asyncio.Event(), asyncio.Event()

        async def look() -> Snapshot:
            return going(next(marks))

        async def tell() -> None:
            heard.append(1)
            await free.wait()
            done.set()

        following = asyncio.create_task(follow(going(-1), look, tell, AT_ONCE_S))
        for _ in range(100):
            await asyncio.sleep(0)
        before = len(heard)
        free.set()
        await done.wait()
        following.cancel()
        return before

    assert run(main()) == 1
