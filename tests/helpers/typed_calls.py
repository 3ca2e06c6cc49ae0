# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What type checkers know of decorated functions: pyright reads this file in scripts/check, mypy in a test.

Each `type: ignore` stands for an error that a checker must report.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, assert_type

from python_mcp_server import smart_async
from python_mcp_server.smart_async import Handle


@smart_async
def double(n: int, times: int = 2) -> int:
    return n * times


@smart_async(default_timeout=3)
def halve(n: int, *, exact: bool = False) -> float:
    return n / 2 if exact else n // 2


@smart_async
async def split(text: str) -> list[str]:
    return text.split()


@smart_async("SPLIT_SECONDS", 3, isolation="inline")
async def cut(text: str, /, at: int) -> tuple[str, str]:
    return text[:at], text[at:]


@smart_async
def own(n: int, async_mode: str) -> int:
    return n + len(async_mode)


class Shop:
    @smart_async
    def sell(self, n: int) -> str:
        return str(n)

    @staticmethod
    @smart_async(name="count")
    def count(n: int) -> str:
        return str(n)


async def right(*, later: bool) -> None:
    await assert_type(double(1), Coroutine[Any, Any, int])
    assert_type(await double(1), int)
    assert_type(await halve(1, exact=True), float)
    assert_type(await split("a b"), list[str])
    assert_type(await cut("a b", at=1), tuple[str, str])
    assert_type(await own(1, async_mode="mine"), int)
    assert_type(await Shop().sell(1), str)
    assert_type(await Shop.sell(Shop(), 1), str)
    assert_type(await Shop.count(1), str)
    assert_type(await smart_async(lambda: 3)(), int)
    assert_type(await smart_async(partial(sum, [1, 2]))(), int)
    assert_type(await double(1, job_label="mine"), int)
    assert_type(await double(1, async_mode=True), Handle)
    assert_type(await split("a b", async_mode=True, job_label="mine"), Handle)
    assert_type(await double(1, async_mode=later), int | Handle)
    assert_type((await double(1, async_mode=True))["job_id"], str)
    print(double.__name__, double.__doc__, double.__wrapped__(1, times=3))


async def wrong() -> None:
    await double("1")  # type: ignore[call-overload]
    await double()  # type: ignore[call-overload]
    await split("a b", quiet=True)  # type: ignore[call-overload]
    await Shop().sell("1")  # type: ignore[call-overload]
    await double(1, async_mode="yes")  # type: ignore[call-overload]
    double(1) + 1  # type: ignore[operator]
    smart_async(30)  # type: ignore[call-overload]
    smart_async(timeout=3)  # type: ignore[call-overload]
